"""The command line: python -m xpnet.learn."""

import argparse
import importlib
import inspect
import io
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import xpnet
from xpnet.files import package_text, write_atomically
from xpnet.learn.checking import Report, check
from xpnet.learn.lessons import LESSONS
from xpnet.platforms import discard

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """List the lessons, or write an exercise into the current folder, or check it there.

    argv : the arguments; None takes the process's own.
    Returns the exit code: 0 done, 1 not all is right yet, or failed, 130 interrupted. Wrong use exits with 2.
    """
    parser = argparse.ArgumentParser(
        prog="python -m xpnet.learn",
        description="Eight exercises, from a single neuron to 99 %. Without a number: lists them, and what is done.",
    )
    parser.add_argument(
        "lesson",
        nargs="?",
        type=int,
        choices=LESSONS,
        metavar="LESSON",
        help="1 to 8: write its exercise here, or check it if it is there",
    )
    parser.add_argument("--solution", action="store_true", help="show how xpnet itself does what the lesson asks for")
    args = parser.parse_args(argv)
    if args.solution and args.lesson is None:
        parser.error("--solution needs the number of a lesson")
    if isinstance(sys.stdout, io.TextIOWrapper):  # whatever a learner prints, on any terminal
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = _run(args.lesson, solution=args.solution)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("xpnet.learn: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not fail once more when it flushes at exit.
        discard(sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"xpnet.learn: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1


def _run(number: int | None, *, solution: bool) -> int:
    """What the arguments ask for; the exit code.   Raises OSError."""
    if number is None:
        _list()
        return 0
    if solution:
        print("\n\n".join(_source(name) for name in LESSONS[number].solutions))
        return 0
    path = _path(number)
    if not os.path.lexists(path):
        write_atomically(path, package_text("xpnet.learn", f"exercises/{path.name}").encode())
        print(f"{path.name} is written. Fill in its holes, then run this again: {_command(number)}")
        return 0
    report = check(number, path)
    _print(number, path, report)
    return 0 if report.done else 1


def _path(number: int) -> Path:
    return Path(f"exercise_{number}.py")


def _command(number: int) -> str:
    return f"python -m xpnet.learn {number}"


def _list() -> None:
    """A line for each lesson; those of which there is a file are checked."""
    width = max(len(lesson.title) for lesson in LESSONS.values())
    following = 0
    for number, lesson in LESSONS.items():
        path, state = _path(number), "not begun"
        if os.path.lexists(path):
            report = check(number, path)
            state = "done" if report.done else f"{report.right} of {len(report.findings)} right"
        following = following or number * (state != "done")
        print(f"{number}  {lesson.title:{width}}  {state}", flush=True)
    if not following:
        print("\nAll eight are done. What brings 99.4 %: xpnet train --recipe best-cpu")
    else:
        print(f"\nNext: {_command(following)}")


def _print(number: int, path: Path, report: Report) -> None:
    """The verdict, a line for each result, wrapped at the width of the terminal."""
    print(f"Lesson {number}, {LESSONS[number].title}: {path}\n")
    rows = [(f"line {line}" if line else "", text) for line, text in report.printed]
    rows += [("", f"and {report.more:,} lines more")] * bool(report.more)
    rows += [("", "")] * bool(rows)
    said: dict[str, str] = {}
    for what, fault, line, _ in report.findings:
        text = f"wrong in the same way as {said[fault]}" if len(fault) > 60 and fault in said else fault or "right"
        rows.append((what, f"line {line}: {text}" if line and fault else text))
        said.setdefault(fault, what)
    _table(rows)
    if not report.done:
        print(f"\n{report.right} of {len(report.findings)} are right.")
        return
    paragraphs = [report.reward] if report.reward else []
    paragraphs.append(f"All is right. How xpnet itself does it: {_command(number)} --solution")
    paragraphs.append(f"Next: {_command(number + 1)}" if number + 1 in LESSONS else "That was the last lesson.")
    print()
    for paragraph in paragraphs:
        print(textwrap.fill(paragraph, _width()))


def _width() -> int:
    return min(shutil.get_terminal_size().columns, 100)


def _table(rows: list[tuple[str, str]]) -> None:
    """Two columns, the second one wrapped."""
    first = max(len(name) for name, _ in rows) + 2
    for name, text in rows:
        lines = textwrap.wrap(text, max(_width() - first - 2, 30), break_long_words=False, break_on_hyphens=False)
        print("\n".join(f"  {name if i == 0 else '':{first}}{line}".rstrip() for i, line in enumerate(lines or [""])))


def _source(name: str) -> str:
    """A function of the package, and where it is."""
    module, _, attribute = name.partition(":")
    function = reduce(getattr, attribute.split("."), importlib.import_module(module))
    lines, start = inspect.getsourcelines(function)
    place = Path(inspect.getfile(function)).relative_to(Path(xpnet.__file__).parents[1])
    return f"# {place.as_posix()}, line {start}\n\n{textwrap.dedent(''.join(lines)).rstrip()}"


if __name__ == "__main__":
    sys.exit(main())
