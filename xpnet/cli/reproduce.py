"""xpnet reproduce."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from xpnet.backend import select
from xpnet.cli.datasets import DataDir, DeviceName, LibraryName
from xpnet.cli.settings import NoDownload, whole_numbers
from xpnet.cli.terminal import device_line, loading, result_console
from xpnet.data import load_data
from xpnet.errors import ConfigError
from xpnet.files import write_atomically
from xpnet.studies.reproduce import Row, milestones, read_records, tabulate, write_records
from xpnet.studies.reproduce import reproduce as train
from xpnet.training.progress import Progress

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["reproduce"]

COLUMNS = ("recipe", "network", "source", "published error", "error here", "runs", "training", "on")
RIGHT = {"published error", "error here", "runs", "training"}
# What a terminal that is too narrow for all does without, in this order; the recipe's name tells most of it.
LESS = ("network", "source", "on")


def reproduce(
    recipe: Annotated[
        list[str] | None,
        Parameter(help="Names or files of recipes; by default all those meant to be reproduced.", negative=""),
    ] = None,
    /,
    *,
    budget: Annotated[
        float | None, Parameter(help="Minutes after which no new epoch is started.", metavar="MINUTES")
    ] = None,
    seeds: Annotated[
        int | None,
        Parameter(
            converter=whole_numbers, help="Runs of each recipe; by default the recipe's own number.", metavar="N"
        ),
    ] = None,
    data: Annotated[str, Parameter(help="Name or path of a data set with a test split.")] = "mnist",
    device: DeviceName = "auto",
    library: LibraryName = None,
    data_dir: DataDir = None,
    no_download: NoDownload = False,
    runs: Annotated[Path, Parameter(help="Folder for the runs, finished or not.", metavar="DIR")] = Path(
        "runs/reproduce"
    ),
    out: Annotated[
        Path | None,
        Parameter(
            help="File for the results of all runs, with a table (.md) beside it; by default results.json among "
            "the runs.",
            metavar="FILE.json",
        ),
    ] = None,
    quiet: Annotated[bool, Parameter(negative="", help="Print only the table.", show_default=False)] = False,
) -> int:
    """Train published networks again and compare their errors.

    Each recipe is trained with each of its seeds on all training images; the
    test images are used once, at the end of a run. Repeating the command
    continues where it stopped; finished runs are not repeated.
    """
    out = out or runs / "results.json"
    if out.suffix != ".json":
        raise ConfigError(f"--out must name a .json file, not {out}")
    if quiet:
        logging.getLogger("xpnet").setLevel(logging.WARNING)
    backend = select(device, library)
    with loading() as bar:
        dataset = load_data(data, data_dir=data_dir, download=not no_download, progress=bar)
    if not quiet:
        print(f"{dataset.name} ({dataset.source}), {device_line(backend)}", file=sys.stderr)
    names = recipe or milestones()
    trained = train(names, dataset, backend, runs, seeds=seeds, minutes=budget, callbacks=[] if quiet else [Progress()])
    out.parent.mkdir(parents=True, exist_ok=True)
    table = out.with_suffix(".md")
    # Both before any work: they may not be writable.
    write_atomically(table, _markdown(tabulate(write_records(out, []))).encode())
    status = 0
    try:
        for record in trained:
            write_records(out, [record])
    except KeyboardInterrupt:
        print("xpnet: interrupted; the same command continues from the last finished epoch", file=sys.stderr)
        status = 130
    finally:
        rows = tabulate(read_records(out))  # other processes may have added to them since
        write_atomically(table, _markdown(rows).encode())
    if asked := [row for row in rows if row.recipe in {Path(name).stem for name in names}]:
        _print(asked)
    else:
        print("no results yet", file=sys.stderr)
    if not quiet:
        print(f"all results are in {out} and {table}", file=sys.stderr)
    return status


def _print(rows: list[Row]) -> None:
    console = result_console()
    unbounded = console.options.update(max_width=sys.maxsize)
    for n in range(len(LESS) + 1):
        table = _table(rows, [name for name in COLUMNS if name not in LESS[:n]])
        if console.measure(table, options=unbounded).maximum <= console.width:
            break
    console.print(table)


def _table(rows: list[Row], columns: list[str]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in RIGHT else "left", overflow="fold")
    for row in rows:
        cells = row.cells()
        table.add_row(*(cells[name] for name in columns))
    return table


def _markdown(rows: list[Row]) -> str:
    """The table for a README."""
    lines = [COLUMNS, tuple("---:" if name in RIGHT else "---" for name in COLUMNS)]
    # A bar in a cell, or the end of a line, would end it.
    lines += [tuple(" ".join(text.replace("|", r"\|").split()) for text in row.cells().values()) for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
