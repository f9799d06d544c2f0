"""A run's progress on the screen."""

import sys
from typing import TYPE_CHECKING, TextIO

from xpnet.training.callbacks import Callback
from xpnet.training.run import Run

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

__all__ = ["Progress"]


class Progress(Callback):
    """Prints one line for each epoch, and on a terminal a bar within the epoch.

    file : destination; by default stderr, and nowhere in a process without one.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self.file: TextIO | None = file or sys.stderr
        self.bar: RichProgress | None = None
        self.headed = False

    def on_start(self, run: Run) -> None:
        """Show the bar, on a terminal."""
        self.headed = False
        if self.file is None or not self.file.isatty():
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
            self.bar.update(self.task, description=f"epoch {run.epoch}/{run.config.epochs}", completed=run.done)

    def on_epoch(self, run: Run) -> None:
        """Print the epoch's line, and above the first one the table's header."""
        last = run.history[-1]
        count = f"{last.epoch}/{run.config.epochs}"
        width = max(7, 2 * len(str(run.config.epochs)) + 1)
        head, line = f"{'epoch':>{width}}", f"{count:>{width}}"
        for split in ("train", "validation", "test"):
            loss, accuracy = getattr(last, f"{split}_loss"), getattr(last, f"{split}_accuracy")
            if loss is not None:
                width = len(split) + 6
                head += f"{split + ' loss':>{width}}{'accuracy':>9}"
                line += f"{loss:>{width}{'.4f' if loss < 1e4 else '.3g'}}{100 * accuracy:>7.2f} %"
        if not self.headed:  # a resumed run does not begin with epoch 1
            self.headed = True
            self._print(f"{head}{'seconds':>8}")
        self._print(f"{line}{last.seconds:>8.2f}")

    def _print(self, line: str) -> None:
        if self.bar:
            self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        elif self.file is not None:
            print(line, file=self.file, flush=True)

    def on_end(self, run: Run) -> None:
        """Remove the bar."""
        if self.bar:
            self.bar.stop()
