"""Runs the code of a page of Markdown, and compares what it prints with what the page shows.

A page's blocks of `python` are one program. A block of `text` right behind one is what that one prints. In a block of
`console`, lines after a $ are commands, and those below them are what they print; none are not compared. Blocks of any
other kind, such as `sh`, are not run.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
_TIME = re.compile(r"\s*(?:s|ms|us|min)\b")
_CELLS, _PART = re.compile("█+"), re.compile("[▏▎▍▌▋▊▉]")  # of a bar: the whole ones, and the last one
_NAME = re.compile(r"\d{8}-\d{6}|\d+\.\d+\.\d+")  # a run's time, a version


class Block(NamedTuple):
    """A block of code, and what the page says that it prints; None if it says nothing."""

    line: int
    kind: str
    code: str
    shown: str | None


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page that can be run, in their order."""
    found = list(_BLOCK.finditer(page))
    for block, after in zip_longest(found, found[1:]):
        line = page.count("\n", 0, block.start()) + 1
        if block[1] == "python":
            follows = after is not None and after[1] == "text" and not page[block.end() : after.start()].strip()
            yield Block(line, "python", block[2], after[2] if follows else None)
        elif block[1] == "console":
            for command in re.split(r"^\$ ", block[2], flags=re.MULTILINE)[1:]:
                first, _, rest = command.partition("\n")
                yield Block(line, "console", first, rest or None)


_PROGRAM = """
import contextlib, io, json, sys, traceback

namespace = {"__name__": "__main__"}
for line in sys.stdin:
    printed, code = io.StringIO(), json.loads(line)
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "page", "exec"), namespace)
    except BaseException:
        printed = None
        print(json.dumps([False, traceback.format_exc()]), flush=True)
    else:
        print(json.dumps([True, printed.getvalue()]), flush=True)
"""


def ran(page: str, folder: Path) -> Iterator[tuple[Block, str]]:
    """Each block of a page, run in a folder, and what it prints."""
    commands = folder.parent / f"{folder.name}-commands"
    commands.mkdir()
    for name, words in {"xpnet": "-m xpnet", "python": ""}.items():
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (commands / name).chmod(0o755)
    path = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    data = str(Path(os.environ.get("XPNET_DATA_DIR") or "data"))
    program = [sys.executable, "-W", "error", "-c", _PROGRAM]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
    with subprocess.Popen(program, cwd=folder, env=environment, **pipes) as python:
        assert python.stdin is not None
        assert python.stdout is not None
        for block in blocks(page):
            if block.kind == "python":
                # As far down as in the page, so that a traceback names its line.
                print(json.dumps("\n" * block.line + block.code), file=python.stdin, flush=True)
                done, printed = json.loads(python.stdout.readline())
            else:
                command = subprocess.run(
                    ["sh", "-c", block.code],
                    cwd=folder,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    encoding="utf-8",
                    check=False,
                )
                done, printed = command.returncode == 0, command.stdout
            assert done, f"line {block.line}: {block.code}\n{printed}"
            yield block, printed.replace(f"{folder}{os.sep}", "").replace(data, "data")


def differs(shown: str, printed: str) -> str:
    """The first line that a page shows otherwise than it was printed, or "".

    A line of dots stands for any lines. Blanks and the last, broken cell of a bar do not count, nor do times, dates
    and versions; decimals, and bars, agree within 5 % or 0.02, since they vary from machine to machine, and whole
    numbers entirely.
    """
    expected, got = (text.rstrip().splitlines() for text in (shown, printed))
    while expected:
        line = expected.pop(0)
        if line.strip() == "...":
            if not expected:
                return ""
            while got and not _agree(expected[0], got[0]):
                got.pop(0)
        elif not got or not _agree(line, got.pop(0)):
            return line
    return f"(nothing) instead of {got[0]!r}" if got else ""


def _agree(shown: str, printed: str) -> bool:
    shown, printed = (_CELLS.sub(lambda bar: f"{len(bar[0])}.0", _PART.sub("", text)) for text in (shown, printed))
    shown, printed = (_NAME.sub("#", " ".join(text.split())) for text in (shown, printed))
    if _NUMBER.sub("0", shown) != _NUMBER.sub("0", printed):
        return False
    for a, b in zip(_NUMBER.finditer(shown), _NUMBER.finditer(printed), strict=True):
        one, other = a[0].replace(",", ""), b[0].replace(",", "")
        if _TIME.match(shown, a.end()) or one == other:
            continue
        if one.isdecimal() or abs(float(one) - float(other)) > max(0.02, 0.05 * float(one)):
            return False
    return True
