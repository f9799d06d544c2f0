"""The check of a learner's file, in a process of its own: neither an endless loop nor a crash ends more than that."""

import contextlib
import io
import json
import os
import subprocess  # nosec B404
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from threadpoolctl import threadpool_limits

from xpnet.errors import one_line
from xpnet.learn.exercise import Exercise, ExerciseError, Finding
from xpnet.learn.lessons import LESSONS

__all__ = ["Report", "check", "examine"]

_LIMIT = 10.0  # seconds
_STARTING = 50.0  # seconds more, for a busy machine to start Python
_OF_MEMORY = (9, 11)  # the signals SIGKILL, which Windows does not know, and SIGSEGV
_MOST_LINES = 8  # of what the file prints


@dataclass
class Report:
    """What came of a check.

    findings : one for each result that was compared, or that could not be had.   printed : lines of the file that
    printed, or of which NumPy warns, and what.   more : how many lines of these were left out.
    reward : what the learner's code can do, once all is right; "" before.
    """

    findings: list[Finding] = field(default_factory=list)
    printed: list[tuple[int, str]] = field(default_factory=list)
    more: int = 0
    reward: str = ""

    @property
    def right(self) -> int:
        """How many of the findings are no faults."""
        return sum(not finding.fault for finding in self.findings)

    @property
    def done(self) -> bool:
        """Whether everything is right."""
        return bool(self.findings) and self.right == len(self.findings)

    def print(self, line: int, text: str) -> None:
        """Keep what the file prints, as far as somebody would read it."""
        if len(self.printed) < _MOST_LINES:
            self.printed.append((line, text[:200]))
        else:
            self.more += 1


def check(number: int, path: Path, limit: float = _LIMIT) -> Report:
    """Check a file in a process of its own.   limit : of its running time, in seconds.   Raises OSError."""
    code = "from xpnet.learn.checking import _serve; _serve()"
    command = [sys.executable, "-c", code, str(number), str(path), str(limit)]
    try:
        ran = subprocess.run(  # nosec B603
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit + _STARTING, check=False
        )
        answer = json.loads(ran.stdout)
    except subprocess.TimeoutExpired:
        return Report([Finding(path.name, f"it did not come to an end within {limit + _STARTING:g} s")])
    except ValueError:
        ended = f"by signal {-ran.returncode}" if ran.returncode < 0 else f"with the exit code {ran.returncode}"
        memory = ": too much memory?" * (-ran.returncode in _OF_MEMORY)
        return Report([Finding(path.name, f"Python itself ended {ended} while it ran{memory}")])
    if "error" in answer:
        raise OSError(*answer["error"])
    return Report(
        [Finding(*finding) for finding in answer["findings"]],
        [(line, text) for line, text in answer["printed"]],
        answer["more"],
        answer["reward"],
    )


def examine(number: int, path: Path, report: Report | None = None) -> Report:
    """Check a file in this process.   report : is filled while the check runs.   Raises OSError."""
    report = Report() if report is None else report
    lesson = LESSONS[number]
    # On a busy machine, the threads of a product of small matrices only wait for each other.
    with threadpool_limits(1), contextlib.redirect_stdout(_Printed(report, path)), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = _warned(report, path)
        try:
            exercise = Exercise(path)
        except ExerciseError as error:
            report.findings.append(Finding(path.name, str(error), error.line))
            return report
        for name, compare in lesson.checks.items():
            wrong = ""
            with _faults_of(report, name):
                for what, fault, line, named in compare(exercise):
                    title = f"{name}: {what}" if len(lesson.checks) > 1 and what != name else what
                    because = f"; perhaps because {wrong} is wrong" if wrong and not named else ""
                    report.findings.append(Finding(title, fault + because, line, named))
                    wrong = wrong or what * bool(fault)
        if report.done and lesson.reward is not None:
            with _faults_of(report, "a trial"):
                report.reward = lesson.reward(exercise)
    return report


@contextlib.contextmanager
def _faults_of(report: Report, name: str) -> Iterator[None]:
    """What ends a check is a finding, too."""
    try:
        yield
    except ExerciseError as error:
        report.findings.append(Finding(name, str(error), error.line))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        fault = f"it returns something so different that it cannot be compared ({type(error).__name__}: {error})"
        report.findings.append(Finding(name, one_line(fault)))


def _serve() -> None:
    """The child's part: check what the arguments name, and answer in JSON."""
    number, path, limit = int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    # Whatever the file writes past sys.stdout must not get into the answer.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    report = Report()
    learner = threading.get_ident()

    def reply(error: OSError | None = None) -> None:
        failed = {"error": [error.errno, error.strerror, error.filename]} if error else {}
        json.dump({**asdict(report), **failed}, answer)
        answer.flush()
        os._exit(0)  # without waiting for threads that the file may have started

    def expire() -> None:
        frame = sys._current_frames().get(learner)
        while frame is not None and frame.f_code.co_filename != str(path):
            frame = frame.f_back
        fault = f"still running after {limit:g} s: does this ever end?"
        report.findings.append(Finding(path.name, fault, frame.f_lineno if frame else 0))
        reply()

    timer = threading.Timer(limit, expire)
    timer.daemon = True
    timer.start()
    try:
        examine(number, path, report)
    except OSError as error:
        reply(error)
    timer.cancel()
    reply()


class _Printed(io.TextIOBase):
    """The standard output of a learner's file: keeps each line with the number of the line that printed it."""

    def __init__(self, report: Report, path: Path) -> None:
        self._report, self._path, self._begun = report, path, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        if lines:
            frame: FrameType | None = sys._getframe(1)
            while frame is not None and frame.f_code.co_filename != str(self._path):
                frame = frame.f_back
            for line in lines:
                self._report.print(frame.f_lineno if frame else 0, f"prints {line}")
        return len(text)


def _warned(report: Report, path: Path) -> Any:
    """What shows a warning: it is kept once for each line of the learner's file, and forgotten if from elsewhere."""

    def show(message: Warning | str, category: type[Warning], filename: str, line: int, *_: Any) -> None:
        entry = line, f"warns: {message}"
        if filename == str(path) and entry not in report.printed:
            report.print(*entry)

    return show
