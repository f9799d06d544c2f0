"""xpnet train in a process that will be killed, forked from one that has imported what it needs.

Else most of the time of a run that is killed after half a second would go into imports, in which nothing is written.
"""

import multiprocessing
import os
import sys
import time
from multiprocessing import forkserver
from pathlib import Path

import pytest

# What else xpnet train imports when it is called.
import xpnet.cli.train
import xpnet.training.fit  # noqa: F401
from tests.promises.faults import Faults
from xpnet.cli import main
from xpnet.training.directory import RunDirectory

ROOT = Path(__file__).parents[2]


class Doomed:
    """A process of xpnet train that is to be killed.

    dies_at : the call at which it kills itself; then it writes every epoch, since few calls would come otherwise.
    """

    def __init__(self, arguments: list[str], dies_at: int | None = None) -> None:
        self._out, self._err = Path("doomed.out"), Path("doomed.err")
        for path in (self._out, self._err):
            path.write_bytes(b"")
        options = arguments, dies_at, str(self._out), str(self._err), dict(os.environ)
        self._process = multiprocessing.get_context("forkserver").Process(target=_train, args=options)
        self._process.start()

    def wait_for(self, *starts: str) -> None:
        """Until it has begun a line on stderr in one of these ways, or has ended."""
        while self._process.is_alive():
            if any(line.lstrip().startswith(starts) for line in self._err.read_text().splitlines()):
                return
            time.sleep(0.001)

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> tuple[int, str]:
        """Wait for its end; returns its exit code, and what it said on stderr."""
        self._process.join()
        code = self._process.exitcode
        assert code is not None
        self._process.close()
        return code, self._err.read_text()


def serve() -> None:
    """Start the process from which others are forked."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
        multiprocessing.get_context("forkserver").set_forkserver_preload([__name__])
        forkserver.ensure_running()


def _train(arguments: list[str], dies_at: int | None, out: str, err: str, environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for path, descriptor in ((out, 1), (err, 2)):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, descriptor)
        os.close(file)
    if dies_at is not None:
        Faults().kill_at(dies_at)
        pytest.MonkeyPatch().setattr(RunDirectory, "_is_due", lambda _: True)
    sys.exit(main(["train", *arguments]))
