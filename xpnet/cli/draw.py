"""xpnet draw."""

import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from xpnet import export as formats
from xpnet.cli.datasets import DataDir, DataName, figure, newest_run, test_split, together
from xpnet.cli.terminal import fill
from xpnet.model import load
from xpnet.platforms import has_windows, user_cache

__all__ = ["draw"]

SNAPS = Path("/snap/bin")


def draw(
    *runs: Annotated[
        Path,
        Parameter(
            name="[RUN...]",
            help="Run directories or .safetensors files, whose outputs are averaged, by default the newest in runs.",
        ),
    ],
    data: DataName = None,
    data_dir: DataDir = None,
) -> None:
    """Open a page to draw on in the browser, on which a trained model answers.

    The page is one file without a server, which can be mailed, and is kept
    in the cache; xpnet export writes it elsewhere. A model of tables has
    sliders. Where its data is on disk, it begins with examples of it.
    """
    runs = runs or (newest_run(),)
    members = [load(path, "cpu") for path in runs]
    model = together(members, runs)
    examples, missing = test_split(members[0], runs, data, data_dir, or_train=True)
    about = figure(None if examples is None or missing else model.measure(*examples).scores)
    page = _folder(runs[0]) / f"{_name(runs)}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    of: Literal["test", "train"] = "train" if missing else "test"
    formats.export(model, page, force=True, about=about, examples=examples, examples_of=of)
    print(page)
    if not _opened(page):
        print(fill("there is no browser here: open this file in one"), file=sys.stderr)


def _folder(run: Path) -> Path:
    """Where the page goes: into the cache, unless the browser may be a snap, which reads no folder that is hidden."""
    cache = user_cache() / "pages"
    hidden = any(part.startswith(".") for part in cache.parts)
    return run if SNAPS.is_dir() and hidden and run.is_dir() else cache


def _name(runs: Sequence[Path]) -> str:
    """What the page is called, by its models."""
    names = [(run if run.is_dir() else run.with_suffix("")).resolve().name for run in runs]
    return "+".join(names)[:100]


def _opened(page: Path) -> bool:
    """Show the page in a browser with windows, if there is one: those of a terminal run no script."""
    return has_windows() and webbrowser.open_new_tab(page.resolve().as_uri())
