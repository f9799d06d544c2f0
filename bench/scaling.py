"""How training gains from several processes: steps by number of processes and shards, sums over processes, and b*.

It starts teams of processes by mpiexec itself. Blocks of steps take turns, and the least counts, since all that else
runs on a machine only ever adds; the arithmetic is checked by a digest of the parameters, which must be the same for
every number of processes.
"""

import argparse
import functools
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import xpnet
from bench._common import Parser, machine, print_machine, write_json
from bench._log import note
from bench._rates import rates
from xpnet.data import Dataset, Split
from xpnet.distributed import Team, started
from xpnet.errors import MissingPackageError, TeamError
from xpnet.numerics import shards as tree
from xpnet.training import loop as training_loop
from xpnet.training.config import TrainConfig
from xpnet.training.loop import Loop, computing
from xpnet.training.prepare import prepare

# Networks and batches, and shards of these.
ROWS = (("784-128-10@64", 2), ("784-128-10@512", 2), ("784-128-10@512", 8), ("784-1024-10@2048", 8))
SUMS = (101_770, 4_000_000)  # floats: the parameters of 784-128-10, and of a network of some width
BLOCK = 0.5  # seconds of steps at a time: in shorter ones the caches, which the others have filled, count as much
IMAGES = 20_000
WAYS = ("MPI_Allreduce", "Allgather, then in order", "recursive doubling", "recursive halving")


def main(argv: list[str] | None = None) -> int:
    """Measure steps and sums, and print the tables."""
    parser = Parser(prog="python -m bench scaling", description=__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], metavar="P", help="1 and 2 by default")
    parser.add_argument("--shards", type=int, metavar="S", help="of each batch; by default one or two numbers a row")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="such as 784-128-10@64")
    parser.add_argument("--rounds", type=int, default=15, help="blocks that count; %(default)s by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results to this file")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.worker:
        return _work(options.worker)
    rows = [(row, s) for row in options.rows or () for s in [options.shards or 8]] or [
        (row, options.shards or s) for row, s in ROWS
    ]
    for row, count in rows:
        if not re.fullmatch(r"784(-[1-9]\d*)+@[1-9]\d*", row):
            parser.error(f"a row is widths from 784 on @ batch size, such as 784-128-10@64, not {row!r}")
        for p in options.processes:
            if p < 1 or p & p - 1 or count % p:
                parser.error(f"--processes {p}: must be a power of two that divides the shards, {count}")
    found: dict[str, Any] = {"machine": machine(), "steps": [], "sums": []}
    print_machine(found["machine"])
    print("steps, microseconds: the least of some blocks in turns, one BLAS thread for each process")
    print("network          shards  processes     step  of it sum  speed-up  efficiency  parameters")
    status = 0
    for row, count in rows:
        measured = _steps(row, count, sorted(set(options.processes)), options.rounds)
        found["steps"] += measured
        status |= _print_steps(measured)
    most = max(options.processes)
    if most > 1:
        found["sums"] = _sums(most, options.rounds)
        _print_sums(found["sums"], most)
        found["rows that pay"] = _worth(found["sums"], most)
    if options.json is not None:
        write_json(options.json, found)
    return status


def _print_steps(measured: list[dict[str, Any]]) -> int:
    """Print the rows of a network; returns 1 if the parameters differ."""
    first = measured[0]
    for each in measured:
        gain = first["processes"] * first["step"] / each["step"]
        same = each["digest"] == first["digest"]
        print(
            f"{each['row']:16} {each['shards']:>6}  {each['processes']:>9}  {each['step']:>7,.0f}  {each['sum']:>9,.0f}"
            f"  {gain:>8.2f}  {100 * gain / each['processes']:>8.0f} %  {each['digest']}{'' if same else '  DIFFERENT'}"
        )
    return 0 if len({each["digest"] for each in measured}) == 1 else 1


def _print_sums(sums: list[dict[str, Any]], processes: int) -> None:
    print(f"sums over {processes} processes, milliseconds, and in times of MPI_Allreduce")
    for each in sums:
        reference = each["ways"][WAYS[0]]
        figures = ", ".join(f"{way} {ms:.3f} ({ms / reference:.2f})" for way, ms in each["ways"].items())
        print(f"{each['floats']:>9,} floats: {figures}")


def _worth(sums: list[dict[str, Any]], processes: int) -> float:
    """Print and return b*, the rows for each process from which on the products take longer than the sum.

    b* = 8 R / (6 W),  R floating-point operations and W bytes a second;  a sum of N floats takes 8 N (P - 1) / (P W)
    """
    measured, _ = rates("cpu")
    gemm = measured["gemm"] or math.nan
    largest: dict[str, Any] = sums[-1]
    moved: float = 8 * largest["floats"] * (processes - 1) / processes
    bandwidth = moved / (largest["ways"][WAYS[3]] / 1000)
    least: float = 8 * gemm / (6 * bandwidth)
    print(
        f"R = {gemm / 1e9:.0f} GFLOP/s, W = {bandwidth / 1e9:.1f} GB/s: b* = 8 R / (6 W) = {least:.0f} rows a process, "
        "from which on its products take longer than the sum"
    )
    return least


# --- the processes ---------------------------------------------------------------------------------------------------


class _Workers:
    """A team of processes that does what it is asked, a line for each."""

    def __init__(self, processes: int, task: str) -> None:
        command = [sys.executable, "-m", "bench", "scaling", "--worker", task]
        if processes > 1:
            mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
            if mpiexec is None:
                raise MissingPackageError('there is no mpiexec to start processes with: pip install "xpnet[mpi]"')
            command = [mpiexec, "-n", str(processes), *command]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, what: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(what), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise TeamError(f"a team of workers ended with exit code {self._process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        self._process.communicate()  # there is nothing more to ask


def _steps(row: str, shards: int, processes: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """The step of a network for each number of processes."""
    teams = {p: _Workers(p, json.dumps({"row": row, "shards": shards})) for p in processes}
    try:
        first = [team.ask({"steps": 3}) for team in teams.values()]  # which fill the caches, and count the same for all
        steps = max(2, math.ceil(BLOCK / (first[0]["step"] / 1e6)))
        blocks = [{p: team.ask({"steps": steps}) for p, team in teams.items()} for _ in range(rounds)]
    finally:
        for team in teams.values():
            team.close()
    found = []
    for p in processes:
        best = min((block[p] for block in blocks), key=lambda block: float(block["step"]))
        found.append({"row": row, "shards": shards, "processes": p, **best, "digest": blocks[-1][p]["digest"]})
        name, alone = (f"{row}, {shards} shards, {n} processes" for n in (p, processes[0]))
        note(name, [block[p]["step"] for block in blocks], "us", against=alone if p != processes[0] else "")
    return found


def _sums(processes: int, rounds: int) -> list[dict[str, Any]]:
    """The least milliseconds of the four ways to add floats over some processes, for each number of floats."""
    team = _Workers(processes, json.dumps({"sums": True}))
    try:
        found = []
        for n in SUMS:
            blocks = [team.ask({"floats": n}) for _ in range(rounds)]
            found.append({"floats": n, "ways": {way: min(block[way] for block in blocks) for way in WAYS}})
        return found
    finally:
        team.close()


def _work(task: str) -> int:
    """A process of a team: the first one reads what is asked, and answers."""
    team, about = started(), json.loads(task)
    if "sums" in about:
        _answer(team, functools.partial(_time_sums, team))
    else:
        _train(team, about["row"], about["shards"])
    return 0


def _answer(team: Team, what: Callable[[Any], Any]) -> None:
    """Do what is asked until nothing more is."""
    while True:
        line = team.told(sys.stdin.readline() if team.rank == 0 else None)
        if not line:
            return
        answer = what(json.loads(line))
        if team.rank == 0:
            print(json.dumps(answer), flush=True)


def _train(team: Team, row: str, shards: int) -> None:
    """Train a network on random pixels, some steps at a time."""
    widths, _, batch_size = row.partition("@")
    network = xpnet.MLP(tuple(map(int, widths.split("-"))))
    draws = np.random.default_rng(0)
    pixels = draws.integers(0, 256, (IMAGES, network.sizes[0]), dtype=np.uint8)
    data = Dataset("random", Split(pixels, draws.integers(0, 10, IMAGES).astype(np.int32)), n_classes=10)
    config = TrainConfig(batch_size=int(batch_size), epochs=10_000, shards=shards, validation=0.0, device="cpu")
    backend = config.backend()
    run, splits = prepare(network, data, config, backend, team=team)
    summing = [0.0]
    training_loop.sum_of_processes = _timed(tree.sum_of_processes, summing)  # type: ignore[attr-defined]
    with computing(run), backend.link(team) as exchange:
        run.exchange = exchange if team.size > 1 else None
        loop = Loop(run, splits["train"], steps_per_call=1)
        steps = (None for number in range(1, 10_001) for _ in loop.epoch(number))

        def block(asked: Any) -> dict[str, Any]:
            team.gather(None)
            summing[0], start = 0.0, time.perf_counter()
            for _ in range(asked["steps"]):
                next(steps)
            seconds = time.perf_counter() - start
            digest = hashlib.sha256(b"".join(backend.to_host(p).tobytes() for p in loop.state.params)).hexdigest()[:10]
            per_step = 1e6 / asked["steps"]
            return {"step": seconds * per_step, "sum": summing[0] * per_step, "digest": digest}

        _answer(team, block)


def _timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    @functools.wraps(function)
    def timed(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments, **options)
        seconds[0] += time.perf_counter() - start
        return result

    return timed


def _time_sums(team: Team, asked: Any) -> dict[str, float]:
    """Milliseconds of each way to add so many floats, ten times in a row."""
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    xpnet.select("cpu")  # which has malloc keep what is freed, as in training
    n = asked["floats"] // team.size * team.size
    ours, total = np.random.default_rng(team.rank).random(n, np.float32), np.empty(n, np.float32)
    every = np.empty((team.size, n), np.float32)

    def allreduce() -> None:
        world.Allreduce(ours, total)

    def allgather() -> None:
        world.Allgather(ours, every)
        tree.tree_sum(0, team.size, every.__getitem__, np.add)

    def ours_with(few: int) -> Callable[[], None]:
        def add() -> None:
            before, tree.FEW = tree.FEW, few
            tree.sum_of_processes(ours, team.rank, team.size, team.exchange, xp=np)
            tree.FEW = before

        return add

    found = {}
    for way, add in zip(WAYS, (allreduce, allgather, ours_with(n), ours_with(0)), strict=True):
        team.gather(None)
        add()
        start = time.perf_counter()
        for _ in range(10):
            add()
        found[way] = (time.perf_counter() - start) * 100
    return found
