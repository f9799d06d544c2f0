"""xpnet compare."""

import dataclasses
import json
import math
import os
import string
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from cyclopts import Parameter

from xpnet.cli.datasets import DataDir, DeviceName, test_split
from xpnet.cli.runs import as_dict, time_of
from xpnet.cli.settings import shown
from xpnet.cli.terminal import print_table, result_console, say, table_width
from xpnet.data import Split
from xpnet.display import plain
from xpnet.errors import ConfigError, ModelError, XpnetError, one_line
from xpnet.model import Model, load
from xpnet.numerics.augment import Distortion
from xpnet.platforms import quoted
from xpnet.studies.compare import Disagreement, ErrorDifference, compare_errors, compare_right
from xpnet.studies.runs import RunInfo, read_run
from xpnet.training.config import SETTINGS

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["compare"]

LETTERS = string.ascii_uppercase
CHANCE = 0.05  # a smaller p-value is called more than chance
SPLITS = ("test", "validation", "train")


def compare(
    runs: Annotated[
        list[Path] | None,
        Parameter(help="Run directories, each compared with the first.", metavar="RUN...", negative=""),
    ] = None,
    /,
    *,
    data_dir: DataDir = None,
    device: DeviceName = "auto",
    as_json: Annotated[bool, Parameter("--json", negative="", help="Print JSON.", show_default=False)] = False,
) -> None:
    """Compare runs: settings, scores, and whether the difference means anything.

    Where the data are on this disk, the models are used on the same test
    examples: how many only one of them gets right, and how likely such a
    difference would be by chance (McNemar's exact test); of regressions, the
    difference of the absolute errors, with its interval of 95 %.
    """
    found = [_read(path) for path in runs or ()]
    if not 2 <= len(found) <= len(LETTERS):
        raise ConfigError(f"name two runs or more, up to {len(LETTERS)}: xpnet runs lists them")
    settings = _differing(found)
    pairs = _paired(found, data_dir, device)
    if as_json:
        print(json.dumps(_as_dict(found, settings, pairs), indent=2))
    else:
        _print(found, settings, pairs, result_console())


def _read(path: Path) -> RunInfo:
    """A run, by its directory or the model in it.   Raises ModelError for one that cannot be read."""
    directory = path.parent if path.name == "model.safetensors" and path.is_file() else path
    if not directory.is_dir():
        raise ModelError(f"{directory} is no run directory")
    run = read_run(directory)
    if run.state == "unreadable":
        raise ModelError(f"{directory}: {run.reason}")
    if not (run.network or run.history):
        raise ModelError(f"{directory} holds no run")
    return run


def _differing(found: Sequence[RunInfo]) -> dict[str, list[Any]]:
    """The settings in which those runs differ that have any, by name, with the value of each; None where unknown."""
    known = [run.config for run in found if run.config is not None]
    different = [name for name in SETTINGS if any(getattr(c, name) != getattr(known[0], name) for c in known)]
    return {name: [run.config and getattr(run.config, name) for run in found] for name in different}


def _paired(found: Sequence[RunInfo], data_dir: Path | None, device: str) -> list[Disagreement | ErrorDifference | str]:
    """The comparison of each run after the first with it, or why there is none."""
    splits: dict[str, tuple[Split | None, str]] = {}

    def measured(run: RunInfo) -> tuple[Model, Split, Any]:
        model = load(run.path, device)
        # How the data is read decides what the examples are.
        how = repr((run.data, run.config and sorted(run.config.reading.items()), model.schema.columns))
        if how not in splits:
            splits[how] = test_split(model, [run.path], None, data_dir, or_train=False)
        split, reason = splits[how]
        if split is None:
            raise ModelError(reason)
        return model, split, model.measure(*split)

    try:
        model, split, first = measured(found[0])
    except XpnetError as error:
        return [str(error)] * (len(found) - 1)
    pairs: list[Disagreement | ErrorDifference | str] = []
    for run in found[1:]:
        try:
            other, its, second = measured(run)
            if model.task != other.task or (its is not split and not _same(split, its)):
                raise ModelError("the runs have different test examples")
            if model.task == "classification" and model.classes != other.classes:
                raise ModelError("the runs have different classes")
            pairs.append((compare_errors if model.task == "regression" else compare_right)(first, second))
        except XpnetError as error:
            pairs.append(str(error))
    return pairs


def _same(one: Split, other: Split) -> bool:
    return one.images.shape == other.images.shape and bool(np.array_equal(one.images, other.images))


def _as_dict(
    found: Sequence[RunInfo], settings: dict[str, list[Any]], pairs: Sequence[Disagreement | ErrorDifference | str]
) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return dataclasses.asdict(value) if isinstance(value, Distortion) else value

    compared = [
        {"first": str(found[0].path), "second": str(run.path)}
        | (
            {"reason": pair}
            if isinstance(pair, str)
            else {name: plain(value) for name, value in pair._asdict().items()}
        )
        for run, pair in zip(found[1:], pairs, strict=True)
    ]
    return {
        "runs": [as_dict(run) | {"scores": _scores(run)} for run in found],
        "settings": {name: [plain(value) for value in its] for name, its in settings.items()},
        "test_examples": compared,
    }


def _scores(run: RunInfo) -> dict[str, float]:
    """The figures of the epoch whose parameters a run has, by name, as the history calls them."""
    epoch = dataclasses.asdict(run.history[run.model_epoch - 1]) if run.model_epoch else {}
    if run.split == "test" and run.accuracy is not None:  # xpnet reproduce keeps it elsewhere
        epoch["test_accuracy"] = run.accuracy
    figures = (f"{split}_{figure}" for split in SPLITS for figure in ("accuracy", "r2", "loss"))
    return {name: epoch[name] for name in figures if epoch.get(name) is not None and math.isfinite(epoch[name])}


# --- printing ---------------------------------------------------------------------------------------------------------


def _print(
    found: Sequence[RunInfo],
    settings: dict[str, list[Any]],
    pairs: Sequence[Disagreement | ErrorDifference | str],
    console: "Console",
) -> None:
    for letter, run in zip(LETTERS, found, strict=False):
        state = f", {run.state}" if run.state != "finished" else ""
        say(f"{letter}  {one_line(str(run.path))}: {run.network}{state}", console, 3)
    console.print()
    rows = [
        {"": name.replace("_", " "), **_by_letter([_shown(value) for value in its])} for name, its in settings.items()
    ]
    for letter, run in zip(LETTERS, found, strict=False):
        if run.config is None:
            say(f"{letter} holds no settings", console)
    if not rows and all(run.config for run in found):
        say("the settings are the same", console)
    _print_rows([*rows, *_figures(found)], found, console)
    console.print()
    if len(set(pairs)) == 1 and isinstance(pairs[0], str):
        say(f"no comparison example by example: {pairs[0]}", console)
        return
    for letter, pair in zip(LETTERS[1:], pairs, strict=False):
        say(_in_words(letter, pair), console)
    if console.is_terminal and len(found) == 2:
        names = " ".join(quoted(run.path) for run in found)
        say(f"next: xpnet plot {names}", console, style="dim")


def _print_rows(rows: Sequence[dict[str, str]], found: Sequence[RunInfo], console: "Console") -> None:
    """A row for each setting or figure, side by side where that fits, and below each other where it does not."""
    letters = LETTERS[: len(found)]
    columns = ["", *(name for letter in letters for name in (letter, f"{letter} - A"))]
    table = [{name: row.get(name, "") for name in columns} for row in rows]
    differences = [name for name in columns[1:] if len(name) > 1]
    least = table_width(table, [name for name in columns if name not in differences])
    if not console.is_terminal or least <= console.width:
        print_table(table, columns, console, right=set(columns[1:]), less=differences)
        return
    for row in table:
        console.print(row[""], style="bold")
        for name in columns[1:]:
            if row[name]:
                say(f"  {name}  {row[name]}", console, len(name) + 4)


def _figures(found: Sequence[RunInfo]) -> list[dict[str, str]]:
    """The rows of epochs, scores and time, with the differences from the first run, on the same data."""
    scores = [_scores(run) for run in found]
    like = [letter for letter, run in zip(LETTERS, found, strict=False) if run.data == found[0].data]
    rows = []
    if any(run.epochs != run.planned for run in found if run.history):
        rows.append({"": "finished epochs", **_by_letter([str(run.epochs) if run.history else "" for run in found])})
    for name in dict.fromkeys(name for its in scores for name in its):
        split, _, figure = name.partition("_")
        values = [its.get(name) for its in scores]
        percent = figure == "accuracy"
        texts = ["" if v is None else f"{100 * v:.2f} %" if percent else f"{v:.4f}" for v in values]
        row = {"": f"{split} {figure.replace('r2', 'R2')}", **_by_letter(texts)}
        for letter, value in zip(LETTERS[1:], values[1:], strict=False):
            if value is not None and values[0] is not None and letter in like:
                row[f"{letter} - A"] = f"{100 * (value - values[0]):+.2f}" if percent else f"{value - values[0]:+.4f}"
        rows.append(row)
    row = {"": "training", **_by_letter(["" if run.seconds is None else time_of(run.seconds) for run in found])}
    for letter, run in zip(LETTERS[1:], found[1:], strict=False):
        if run.seconds is not None and found[0].seconds is not None:
            change = run.seconds - found[0].seconds
            text = time_of(abs(change))
            row[f"{letter} - A"] = ("-" if change < 0 and text.strip("0. s") else "+") + text
    return [*rows, row]


def _by_letter(texts: Sequence[str]) -> dict[str, str]:
    return dict(zip(LETTERS, texts, strict=False))


def _shown(value: Any) -> str:
    """A setting's value in a cell."""
    if value is None:
        return "-"
    if isinstance(value, Distortion):
        amounts = {name: amount for name, amount in dataclasses.asdict(value).items() if amount}
        return " ".join(f"{name}={shown(amount)}" for name, amount in amounts.items())
    text = shown(value)
    return one_line(os.path.basename(text) if isinstance(value, str) and os.path.isabs(text) else text)


def _in_words(letter: str, pair: Disagreement | ErrorDifference | str) -> str:
    if isinstance(pair, str):
        return f"A and {letter} are not compared example by example: {pair}"
    if isinstance(pair, ErrorDifference):
        sure = pair.low > 0 or pair.high < 0
        return (
            f"on the same {pair.examples:,} test examples, the mean absolute error is {plain(pair.first)} of A and "
            f"{plain(pair.second)} of {letter}: {pair.difference:+.3g}, with a 95\xa0% interval of {pair.low:+.3g} to "
            f"{pair.high:+.3g}, {'more than chance explains' if sure else 'which chance may explain'}"
        )
    chance = "more than chance explains" if pair.p < CHANCE else "which chance may explain"
    return (
        f"on the same {pair.examples:,} test examples, only A is right on {pair.only_first:,}, only {letter} on "
        f"{pair.only_second:,}: p\xa0=\xa0{pair.p:.2g} (McNemar's exact test), {chance}"
    )
