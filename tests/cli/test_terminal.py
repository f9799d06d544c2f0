"""What all commands share of the terminal."""

import io
import logging
import os
import re
import sys
import time

import pytest

from xpnet.cli import terminal
from xpnet.data import digits


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def lines_of(stream: io.StringIO) -> list[str]:
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue()))


def test_loading_is_not_silent_off_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "EVERY", 0.1)
    with terminal.loading() as show:
        time.sleep(0.15)
        show("reading pictures", 1, 4)
        time.sleep(0.1)
        show("", 0, None)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "loading the data, 0 s"
    assert "reading pictures, 25 %, 0 s" in said
    time.sleep(0.2)
    assert not capsys.readouterr().err  # it ends with the loading


def test_loading_quickly_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.loading():
        pass
    assert not capsys.readouterr().err


@pytest.mark.parametrize("reports", [True, False])
def test_loading_shows_a_bar_on_a_terminal(reports: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(terminal, "PATIENCE", 0.05)
    monkeypatch.setenv("TERM", "xterm")
    with terminal.loading() as show:
        if reports:
            show("drawing digits", 5_000, 10_000)
        time.sleep(0.3)
    shown = lines_of(stream)
    assert any(("drawing digits" if reports else "loading the data") in line for line in shown)
    assert any("5.0/10.0 kB" in line for line in shown) == reports


def test_drawing_digits_reports_how_far_it_is() -> None:
    seen: list[tuple[str, int, int | None]] = []
    images, _ = digits.draw(2_500, progress=lambda *report: seen.append(report))
    assert seen == [("drawing digits", 784 * n, images.nbytes) for n in (1_000, 2_000, 2_500)]


@pytest.mark.parametrize("columns", [40, 80])
def test_messages_wrap_at_words(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from xpnet.cli import _messages_on_stderr

    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", str(columns))
    text = "a message of several words that a terminal of few columns would break wherever its line ends\nnext"
    with _messages_on_stderr():
        logging.getLogger("xpnet").warning(text)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= columns
    assert " ".join(lines) == f"warning: {text}".replace("\n", " ")
    assert lines[-1] == "next"


def test_figures_below_a_name_that_is_too_long_wrap_between_them() -> None:
    from rich.console import Console

    row = {"name": "as long as a line of it", "error": "1.00 ± 1.41 %", "time": "50 min", "more": "of it"}
    console = Console(file=io.StringIO(), width=24, force_terminal=True, color_system=None)
    terminal.print_table([row], list(row), console, headings=False)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines == ["as long as a line of it", "  1.00 ± 1.41 %, 50 min,", "  of it"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_messages_are_as_wide_as_their_own_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is not where stdout goes, if it is piped elsewhere."""
    import fcntl
    import pty
    import struct
    import termios

    monkeypatch.delenv("COLUMNS", raising=False)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 30, 0, 0))
    with open(theirs, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        assert max(map(len, terminal.fill("word " * 20).splitlines())) <= 30
        monkeypatch.undo()
    os.close(ours)
