"""xpnet reproduce."""

import functools
import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from xpnet.backend import Backend, select
from xpnet.checks import check_range
from xpnet.cli.datasets import DataDir, DeviceName, LibraryName, check_writable
from xpnet.cli.settings import NoDownload, whole_numbers
from xpnet.cli.terminal import ask_line, device_line, fill, loading, print_table, result_console, say, working
from xpnet.data import Dataset, load_data
from xpnet.display import duration
from xpnet.errors import ConfigError
from xpnet.recipes import Recipe
from xpnet.studies.records import Record, read_records, tabulate, write_records
from xpnet.studies.reproduce import milestones, plan, recipes_of
from xpnet.studies.reproduce import reproduce as train
from xpnet.training.progress import Progress

__all__ = ["reproduce"]

COLUMNS = ("recipe", "network", "source", "published error", "error here", "runs", "training", "on")
RIGHT = {"published error", "error here", "runs", "training"}
# What a terminal that is too narrow for all does without, in this order; the recipe's name tells most of it.
LESS = ("network", "source", "on", "training", "runs", "published error")

PLAN = ("recipe", "network", "epochs", "runs", "about")
MOST_SEEDS = 1000

EARLIER = Path("runs/reproduce")  # where results were kept by default before


def reproduce(
    recipe: Annotated[
        list[str] | None,
        Parameter(
            help="Names or files of recipes; without any, all those meant to be reproduced, if you agree.", negative=""
        ),
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
    runs: Annotated[
        Path | None,
        Parameter(help="Folder for the runs, finished or not; by default one of yours, for all.", metavar="DIR"),
    ] = None,
    out: Annotated[
        Path | None,
        Parameter(
            help="File for the results of all runs, with a table (.md) beside it; by default results.json among "
            "the runs.",
            metavar="FILE.json",
        ),
    ] = None,
    yes: Annotated[bool, Parameter(negative="", help="Train them all without asking.", show_default=False)] = False,
    quiet: Annotated[bool, Parameter(negative="", help="Print only the table.", show_default=False)] = False,
) -> int:
    """Train published networks again and compare their errors.

    Each recipe is trained with each of its seeds on all training images; the
    test images are used once, at the end of a run. Repeating the command
    continues where it stopped; finished runs are not repeated. Without names,
    what would be trained is listed, with the time that it would take here. As
    many processes as you like may do so at once, on any machines that share the
    folder (srun, mpiexec, ssh): each trains what no other one trains, and
    continues the run of one that was killed.
    """
    folder = runs or _own_folder()
    out = out or folder / "results.json"
    names = recipe or milestones()
    _check(folder, out, seeds, budget)
    recipes = recipes_of(names)
    asks = not recipe and not yes
    if asks and not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigError(
            f"without names, all {len(recipes)} recipes are trained, which may take days: name some, or add --yes"
        )
    if quiet:
        logging.getLogger("xpnet").setLevel(logging.WARNING)
    backend = select(device, library)
    with loading() as bar:
        dataset = load_data(data, data_dir=data_dir, download=not no_download, progress=bar)
    if not quiet:
        print(fill(f"{dataset.name} ({dataset.source}), {device_line(backend)}"), file=sys.stderr)
        if runs is None and EARLIER.is_dir():
            print(fill(f"{EARLIER} holds earlier runs: --runs {EARLIER} continues with them"), file=sys.stderr)
    if asks and not _agreed(recipes, dataset, backend, folder, seeds):
        print("nothing was trained", file=sys.stderr)
        return 0
    callbacks = [] if quiet else [Progress()]
    trained = train(recipes, dataset, backend, folder, seeds=seeds, minutes=budget, callbacks=callbacks)
    status = _record(trained, recipes, out)
    if not quiet:
        print(fill(f"all results are in {out} and {out.with_suffix('.md')}"), file=sys.stderr)
    return status


def _check(folder: Path, out: Path, seeds: int | None, budget: float | None) -> None:
    """Raise ConfigError or ModelError for what would otherwise be refused only after the data were read."""
    if out.suffix != ".json":
        raise ConfigError(f"--out must name a .json file, not {out}")
    if seeds is not None and not 1 <= seeds <= MOST_SEEDS:
        raise ConfigError(f"--seeds must be at least 1 and at most {MOST_SEEDS:,}, not {seeds:,}")
    if budget is not None:
        check_range("--budget", budget, 0.0, low_open=True)
    check_writable(folder, "the folder of the runs")
    check_writable(out.parent, "the folder of the results")
    read_records(out)


def _record(trained: Iterator[Record], recipes: Mapping[str, Recipe], out: Path) -> int:
    """Write each record as it comes, and print the table of these recipes; returns the exit code."""
    out.parent.mkdir(parents=True, exist_ok=True)
    known, status = write_records(out, [], _markdown), 0  # before any work: it may not be writable
    try:
        for record in trained:
            if record not in known:  # of another process, which may have added it
                known = read_records(out)
            if record not in known:
                known = write_records(out, [record], _markdown)
    except KeyboardInterrupt:
        print(fill("xpnet: interrupted; the same command continues from the last finished epoch"), file=sys.stderr)
        status = 130
    rows = tabulate(read_records(out))  # other processes may have added to them since
    if asked := [row.cells() for row in rows if row.recipe in recipes]:
        print_table(asked, COLUMNS, result_console(), right=RIGHT, less=LESS)
    else:
        print("no results yet", file=sys.stderr)
    return status


def _own_folder() -> Path:
    """The user's folder for the runs, which all working directories share."""
    import platformdirs

    return platformdirs.user_data_path("xpnet", appauthor=False) / "reproduce"


def _agreed(recipes: Mapping[str, Recipe], data: Dataset, backend: Backend, folder: Path, seeds: int | None) -> bool:
    """List on stderr what is to be trained, and how long it takes here, and ask; True where all is trained already."""
    from rich.console import Console

    timing = "timing the networks"
    with working(timing) as bar:
        planned = plan(recipes, data, backend, folder, seeds=seeds, report=functools.partial(bar, timing))
    missing = [each for each in planned if each.runs]
    if not missing:
        return True
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    rows = [
        dict(zip(PLAN, (p.recipe, p.network, str(p.epochs), str(p.runs), duration(p.seconds)), strict=True))
        for p in missing
    ]
    print_table(rows, PLAN, console, right=PLAN[2:], less=PLAN[1:4])
    runs, total = sum(p.runs for p in missing), sum(p.seconds for p in missing)
    finished = sum(p.finished for p in planned)
    done = f", besides {finished} that are finished" if finished else ""
    say(f"{runs} runs{done}, in {folder}: about {duration(total)} by the speed of some steps just now", console)
    try:
        return ask_line("Train these? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print(file=sys.stderr)
        return False


def _markdown(records: list[Record]) -> str:
    """The table for a README."""
    lines = [COLUMNS, tuple("---:" if name in RIGHT else "---" for name in COLUMNS)]
    # A bar in a cell, or the end of a line, would end it.
    lines += [
        tuple(" ".join(text.replace("|", r"\|").split()) for text in row.cells().values()) for row in tabulate(records)
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
