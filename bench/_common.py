"""What the measurements share: their command line, the machine, two CPUs for all, and xpnet train as a user runs it."""

import argparse
import contextlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import xpnet
from xpnet.files import write_atomically
from xpnet.history import read_history

PACKAGES = ("numpy", "torch", "scikit-learn", "scipy", "jax", "jaxlib", "threadpoolctl")


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


class TrainRun(NamedTuple):
    """A run of xpnet train: seconds in all and of training, images per second, peak memory in MB, and its header."""

    seconds: float
    training: float
    rate: float
    memory: float
    header: str


def machine() -> dict[str, Any]:
    """Where and with what a measurement is made."""
    versions = {name: _version(name) for name in PACKAGES}
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {"xpnet": xpnet.__version__} | versions,
    }


def print_machine(about: dict[str, Any]) -> None:
    """Print it in two lines."""
    print(f"{about['cpu']}, {about['cores']} CPUs, {about['system']}")
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items() if number)
    print(f"Python {about['python']}, {versions}")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write what was measured, whole or not at all."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


@contextlib.contextmanager
def two_cpus() -> Iterator[list[int]]:
    """A context whose child processes run on two CPUs, from two cores where there are; gives those, or [] if it can't.

    Before a library is imported, so that it sizes its pool of threads by them.
    """
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # macOS and Windows have no affinity
        yield []
        return
    first, *others = sorted(allowed)
    topology = Path(f"/sys/devices/system/cpu/cpu{first}/topology/thread_siblings_list")
    siblings = _numbers(topology.read_text()) if topology.exists() else set()
    second = [cpu for cpu in others if cpu not in siblings] or others
    chosen = [first, *second[:1]]
    os.sched_setaffinity(0, chosen)
    try:
        yield chosen
    finally:
        os.sched_setaffinity(0, allowed)


def _numbers(text: str) -> set[int]:
    """The CPUs of a list as Linux writes it: 0,64 or 0-1."""
    ranges = [[int(end) for end in part.split("-")] for part in text.strip().split(",")]
    return {cpu for ends in ranges for cpu in range(ends[0], ends[-1] + 1)}


def train(arguments: list[str]) -> TrainRun:
    """Run xpnet train for one epoch, in a process of its own.

    The memory is not a number where the system doesn't tell. This process must stay small: Linux counts the memory of
    the one that started a process in the peak of that process.   Raises DataError with what xpnet says if it fails.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        out = Path(folder) / "run"
        command = ["-m", "xpnet", "train", *arguments, "--no-download", "--epochs", "1", "--out", str(out)]
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=errors)
        memory = float("nan")
        try:
            if hasattr(os, "wait4"):  # of this one process: getrusage would tell the largest of all
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                memory = usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)
            code, seconds = process.wait(), time.perf_counter() - start
        finally:
            process.kill()  # on Ctrl-C it would finish its epoch
        errors.seek(0)
        said = errors.read()
        if code:
            *_, last = said.strip().splitlines() or [f"exit code {code}"]
            raise xpnet.DataError(last.removeprefix("xpnet: error: "))
        (epoch,) = read_history(out)
        return TrainRun(seconds, epoch.seconds, epoch.samples_per_second, memory, said)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()
