"""A run's progress on the screen."""

import html
import sys
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any, TextIO

from xpnet.training.callbacks import Callback
from xpnet.training.run import Run

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

__all__ = ["Progress"]


class Progress(Callback):
    """Prints one line for each epoch, and on a terminal a bar within the epoch; in a notebook it is one output.

    file : destination; by default the notebook that runs this, or stderr, and nowhere in a process without one.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self.file: TextIO | None = file or sys.stderr
        self.bar: RichProgress | None = None
        self.notebook = _Notebook() if file is None and _in_notebook() else None
        self.headed = False

    def on_start(self, run: Run) -> None:
        """Show the bar, on a terminal."""
        self.headed = False
        if self.notebook or self.file is None or not self.file.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            console=Console(file=self.file),
            transient=True,
        )
        self.task = self.bar.add_task("", total=run.n_steps)
        self.bar.start()

    def on_steps(self, run: Run) -> None:
        """Move the bar."""
        if self.bar:
            self.bar.update(self.task, description=f"epoch {run.epoch}/{run.epochs}", completed=run.done)
        if self.notebook:
            self.notebook.show(f"epoch {run.epoch}/{run.epochs}: {100 * run.done // run.n_steps} %")

    def on_epoch(self, run: Run) -> None:
        """Print the epoch's line, and above the first one the table's header."""
        last = run.history[-1]
        count = f"{last.epoch}/{run.epochs}"
        width = max(7, 2 * len(str(run.epochs)) + 1)
        head, line = f"{'epoch':>{width}}", f"{count:>{width}}"
        for split in ("train", "validation", "test"):
            loss, accuracy, r2 = (getattr(last, f"{split}_{figure}") for figure in ("loss", "accuracy", "r2"))
            if loss is not None:
                width = len(split) + 6
                head += f"{split + ' loss':>{width}}{'accuracy' if r2 is None else 'R2':>9}"
                line += f"{loss:>{width}{'.4f' if loss < 1e4 else '.3g'}}"
                line += f"{100 * accuracy:>7.2f} %" if r2 is None else f"{r2:>9{'.4f' if r2 > -100 else '.3g'}}"
        if not self.headed:  # a resumed run does not begin with epoch 1
            self.headed = True
            self._print(f"{head}{'seconds':>8}")
        self._print(f"{line}{last.seconds:>8.2f}")

    def _print(self, line: str) -> None:
        if self.notebook:
            self.notebook.print(line)
        elif self.bar:
            self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        elif self.file is not None:
            print(line, file=self.file, flush=True)

    def on_end(self, run: Run) -> None:
        """Remove the bar."""
        if self.bar:
            self.bar.stop()
        if self.notebook:
            self.notebook.show("", at_once=True)


class _Notebook:
    """Lines in one output of a notebook's cell, the last of which changes: stderr would be a red box."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._handle: Any = None
        self._shown_at = 0.0

    def print(self, line: str) -> None:
        self._lines.append(line)
        self.show("", at_once=True)

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
