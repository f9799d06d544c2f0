"""A run's progress on the screen."""

import html
import statistics
import sys
import threading
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any, TextIO

from xpnet.display import duration
from xpnet.training.callbacks import Callback
from xpnet.training.history import Epoch
from xpnet.training.run import Run

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

__all__ = ["Progress"]

EVERY = 10.0
"""Seconds after which a line is printed where there is no terminal, so that nobody takes a run for dead."""

# The columns of the table after the epoch, and the order in which they are given up where the terminal is narrow.
_COLUMNS = ("train loss", "train acc", "val loss", "val acc", "test loss", "test acc", "time")
_GIVEN_UP = ("train loss", "val loss", "test loss", "train acc", "time", "test acc")
_SHORT = {"train": "train", "validation": "val", "test": "test"}
_GAP = "  "


class Progress(Callback):
    """Prints a line for each epoch, and within one, how far it is, its figures so far, its speed and the time left.

    On a terminal that is a line that changes, elsewhere one of plain text every ten seconds; in a notebook everything
    is one output.

    file : destination; by default the notebook that runs this, or stderr, and nowhere in a process without one.
    """

    order = -2  # a directory that continues a run waits for all of the data to be hashed

    def __init__(self, file: TextIO | None = None) -> None:
        self.file: TextIO | None = file or sys.stderr
        self.notebook = _Notebook() if file is None and _in_notebook() else None
        self.live: Live | None = None
        self.console: Console | None = None
        self.headed = False

    def on_start(self, run: Run) -> None:
        """Show the line that changes, on a terminal; elsewhere, begin to print one now and then."""
        self.headed = False
        self._clock = _Clock(run)
        self._quiet_since, self._over = time.monotonic(), threading.Event()
        if self.notebook or self.file is None:
            return
        if self.file.isatty():
            from rich.console import Console
            from rich.live import Live

            self.console = Console(file=self.file)
            if not self.console.is_dumb_terminal:
                self.live = Live(console=self.console, get_renderable=self._line, transient=True)
                self.live.start()
                return
        threading.Thread(target=self._remind, daemon=True, name="xpnet-progress").start()

    def on_steps(self, run: Run) -> None:
        """Take the time."""
        self._clock.note()
        if self.notebook:
            self.notebook.show(self._clock.words())

    def on_epoch(self, run: Run) -> None:
        """Print the epoch's line, and above the first one the table's header."""
        self._clock.note_epoch()
        last = run.history[-1]
        width = self.console.width if self.live and self.console else sys.maxsize
        head, line = _row(last, run.epochs, width)
        if not self.headed:  # a resumed run does not begin with epoch 1
            self.headed = True
            self._print(head)
        self._print(line)

    def on_end(self, run: Run) -> None:
        """Remove the line that changes."""
        self._over.set()
        if self.live:
            self.live.stop()
        if self.notebook:
            self.notebook.show("", at_once=True)

    def _print(self, line: str) -> None:
        self._quiet_since = time.monotonic()
        if self.notebook:
            self.notebook.print(line)
        elif self.live and self.console:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)
        elif self.file is not None:
            print(line, file=self.file, flush=True)

    def _remind(self) -> None:
        """In a thread, so that neither a long step nor a long evaluation is silent."""
        while not self._over.wait(max(0.1, self._quiet_since + EVERY - time.monotonic())):
            if time.monotonic() - self._quiet_since >= EVERY:
                self._print(self._clock.words())

    def _line(self) -> Any:
        """As much of what is known as the terminal has room for."""
        from rich.text import Text

        assert self.console is not None
        room = self.console.width - 1
        words = self._clock.short()
        shown: set[str] = set()
        for name in ("epoch", "share", "run", "accuracy", "loss", "left", "speed"):
            if words[name] and len(_GAP.join(words[each] for each in (*shown, name))) <= room:
                shown.add(name)
        parts = [text for name, text in words.items() if name in shown]
        text, length = Text(no_wrap=True), room - len(_GAP.join(parts)) - len(_GAP)
        if (share := self._clock.share) is not None and length >= 8:
            done = round(min(length, 30) * share)
            mark = "━" if self.console.encoding.startswith("utf") else "="
            parts.insert(1, f"\0{mark * done}\0{mark.replace('=', '-') * (min(length, 30) - done)}\0")
        for number, piece in enumerate(_GAP.join(parts).split("\0")):
            text.append(piece, ("", "green", "bright_black", "")[number])
        return text


class _Clock:
    """What is known of a run while it runs.

    run : the run.   share : of its epoch that is done, in [0, 1]; None before its first steps.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._began = self._epoch_began = time.monotonic()
        self._first: tuple[int, float] | None = None  # steps done and the time, when an epoch's first ones were done
        self._newest = 0, 0.0
        self._of_epochs: list[float] = []

    def note(self) -> None:
        """Some steps of the epoch are done."""
        self._newest = self._run.done, time.monotonic()
        self._first = self._first or self._newest

    def note_epoch(self) -> None:
        """An epoch has ended, evaluation included."""
        now = time.monotonic()
        self._of_epochs.append(now - self._epoch_began)
        self._epoch_began, self._first = now, None

    @property
    def share(self) -> float | None:
        return None if self._first is None else self._newest[0] / self._run.n_steps

    @property
    def _rate(self) -> float | None:
        """Steps per second; the first ones of an epoch do not count, since they may be compiled."""
        if self._first is None or self._newest[0] == self._first[0]:
            return None
        return (self._newest[0] - self._first[0]) / max(self._newest[1] - self._first[1], 1e-9)

    def _left(self) -> tuple[float, float] | None:
        """Seconds that the epoch and the run are expected to take from now on."""
        if (rate := self._rate) is None:
            return None
        run, since = self._run, time.monotonic() - self._newest[1]
        epoch = max(0.0, (run.n_steps - self._newest[0]) / rate - since)
        whole = statistics.median(self._of_epochs[-5:]) if self._of_epochs else run.n_steps / rate
        return epoch, epoch + whole * max(0, run.epochs - run.epoch)

    def short(self) -> dict[str, str]:
        """Each piece in as few characters as can be understood, in the order in which they are shown."""
        run, rate, left, so_far = self._run, self._rate, self._left(), self._run.so_far
        words = dict.fromkeys(("epoch", "share", "loss", "accuracy", "speed", "left", "run"), "")
        words["epoch"] = f"epoch {min(run.epoch, run.epochs)}/{run.epochs}"
        if self.share is None:
            doing = "preparing" if run.backend.compiling_seconds is None else "compiling"
            words["share"] = f"{doing}, {duration(time.monotonic() - self._began)}" if not run.history else ""
        elif self.share == 1.0:
            words["share"] = "measuring"
        else:
            words["share"] = f"{100 * self.share:.0f} %"
        if so_far is not None and self.share is not None:
            words["loss"] = f"loss {_loss(so_far.loss)}"
            words["accuracy"] = _metric(so_far)
        if rate is not None:
            words["speed"] = f"{rate * run.batch_size:,.0f}/s"
        if left is not None:
            words["left"] = f"{duration(left[0])} left"
            if run.epochs > run.epoch:
                words["run"] = f"run {duration(left[1])} left"
        return words

    def words(self) -> str:
        """The same as a line of plain text."""
        pieces = self.short()
        unit = "images" if len(self._run.schema.image_shape) == 2 else "rows"
        pieces["speed"] = pieces["speed"].replace("/s", f" {unit}/s")
        return f"{pieces.pop('epoch')}: {', '.join(filter(None, pieces.values()))}"


def _row(epoch: Epoch, epochs: int, width: int) -> tuple[str, str]:
    """An epoch's line of the table, and the header, in so many columns at most."""
    metric = "acc" if epoch.train_r2 is None else "R2"
    cells = {}
    for split, short in _SHORT.items():
        loss, accuracy, r2 = (getattr(epoch, f"{split}_{figure}") for figure in ("loss", "accuracy", "r2"))
        if loss is not None:
            cells[f"{short} loss"] = f"{_loss(loss):>8}"
            cells[f"{short} acc"] = f"{100 * accuracy:.2f} %" if r2 is None else _r2(r2)
    cells["time"] = f"{epoch.seconds:.2f} s" if epoch.seconds < 100 else duration(epoch.seconds)
    cells = {name: cells[name] for name in _COLUMNS if name in cells}
    count = len(str(epochs))
    first = max(5, 2 * count + 1)
    for given_up in ("", *_GIVEN_UP):
        cells.pop(given_up, None)
        heads = {name: name.replace("acc", metric) for name in cells}
        widths = {name: max(len(heads[name]), 10 if name == "time" else 9) for name in cells}
        if first + sum(len(_GAP) + n for n in widths.values()) <= width:
            break
    head = _GAP.join([f"{'epoch':>{first}}", *(f"{heads[name]:>{n}}" for name, n in widths.items())])
    line = _GAP.join([f"{f'{epoch.epoch}/{epochs}':>{first}}", *(f"{cells[name]:>{n}}" for name, n in widths.items())])
    return head, line


def _loss(loss: float) -> str:
    return f"{loss:.4f}" if loss < 1e4 else f"{loss:.3g}"


def _r2(r2: float) -> str:
    return f"{r2:.4f}" if r2 > -100 else f"{r2:.3g}"


def _metric(scores: Any) -> str:
    """The figure besides the loss, with its name."""
    return f"acc {100 * scores.accuracy:.2f} %" if hasattr(scores, "accuracy") else f"R2 {_r2(scores.r2)}"


class _Notebook:
    """Lines in one output of a notebook's cell, the last of which changes: stderr would be a red box."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._handle: Any = None
        self._shown_at = 0.0

    def print(self, line: str) -> None:
        self._lines.append(line)
        self.show("")

    def show(self, last: str, *, at_once: bool = False) -> None:
        """Show the lines and below them another one, a few times a second."""
        if not at_once and time.monotonic() - self._shown_at < 0.2:
            return
        ipython = import_module("IPython.display")

        self._shown_at = time.monotonic()
        text = ipython.HTML(f"<pre>{html.escape(chr(10).join([*self._lines, last]).rstrip())}</pre>")
        if self._handle is None:
            self._handle = ipython.display(text, display_id=True)
        else:
            self._handle.update(text)


def _in_notebook() -> bool:
    """Whether this runs in a notebook's kernel, not in a script or a terminal."""
    shell = sys.modules.get("IPython")
    current = shell.get_ipython() if shell else None
    return current is not None and hasattr(current, "kernel")
