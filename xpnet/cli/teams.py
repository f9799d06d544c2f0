"""A command of several processes, which prints as if it were one."""

import contextlib
import io
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from typing import TextIO

from xpnet.cli import outcome_of
from xpnet.cli.terminal import fill
from xpnet.distributed import Team, abandon, started
from xpnet.errors import TeamError, XpnetError

__all__ = ["ended_by", "joined"]


@contextlib.contextmanager
def joined() -> Iterator[Team]:
    """A context of the processes that a launcher started as one command.

    Only the first of them prints, and it alone reports an error that all of them have. What happens to one of them is
    reported by that one, and ends them all: the others would wait for it for ever.
    """
    try:
        team = started()
    except XpnetError as error:
        abandon(str(error), 2 if isinstance(error, TeamError) else 1, title="xpnet: error: ")
    if team.size == 1:
        yield team
        return
    stderr = sys.stderr
    try:
        with _deaf_afterwards(), _silent() if team.rank else contextlib.nullcontext():
            yield team
    except BaseException as error:
        if team.shared(error):
            _leave_to_the_first(team.rank, error)
            raise
        team.abort(_report(error, team, stderr))


def ended_by(number: int) -> str:
    """What a signal, whose number a KeyboardInterrupt may have as its argument, has done to a command."""
    return "terminated" if number == signal.SIGTERM else "interrupted"


@contextlib.contextmanager
def _deaf_afterwards() -> Iterator[None]:
    """Ignore signals from the end of a context on: all that is left is to say what happened, and to leave together."""
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    with contextlib.redirect_stdout(_Nowhere()), contextlib.redirect_stderr(_Nowhere()):
        yield


class _Nowhere(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)


def _leave_to_the_first(rank: int, error: BaseException) -> None:
    """End a process that is not the first without a word, with the exit code that the first one ends with."""
    if rank and isinstance(error, Exception):
        raise SystemExit((outcome_of(error) or (1, ""))[0]) from None


def _report(error: BaseException, team: Team, stderr: TextIO) -> int:
    """Print what happened to this process alone; returns the exit code."""
    if isinstance(error, KeyboardInterrupt):
        time.sleep(0.5 * bool(team.rank))  # most likely the first was interrupted, too, and ends this one
        number = next(iter(error.args), signal.SIGINT)
        print(f"xpnet: {ended_by(number)}", file=stderr, flush=True)
        return 128 + int(number)
    explained = outcome_of(error) if isinstance(error, Exception) else None
    if isinstance(error, SystemExit):
        explained = (error.code if isinstance(error.code, int) else 1) or 1, f"left early ({error.code})"
    if explained is None:
        traceback.print_exception(error, file=stderr)
        explained = 1, f"{type(error).__name__}: {error}"
    status, message = explained
    place = f"{team.where}: " if team.rank or isinstance(error, SystemExit) else ""
    print(fill(f"xpnet: error: {place}{message}"), file=stderr, flush=True)
    return status
