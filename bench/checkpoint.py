"""The cost of keeping a run's state: epochs with a checkpoint after each, and epochs without, in turns."""

import random
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import xpnet
from bench._common import Parser, machine, print_machine, spread, write_json
from bench._log import note
from xpnet.training import epochs
from xpnet.training.directory import RunDirectory

# What a save may take, in % of an epoch of the default network.
GOAL = 2.0


class Clock(xpnet.Callback):
    """Notes when epochs end."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_epoch(self, run: Any) -> None:
        """Note the time."""
        self.ends.append(time.perf_counter())


def main(argv: list[str] | None = None) -> int:
    """Train for some epochs with and without checkpoints, round by round in another order, and print the medians.

    Returns 1 if a save takes more than GOAL % of an epoch, else 0.
    """
    parser = Parser(prog="python -m bench checkpoint", description=__doc__)
    parser.add_argument("--data", default="mnist", help="name or path of a data set; %(default)s by default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--hidden", type=int, nargs="+", default=[128])
    parser.add_argument("--epochs", type=int, default=6, help="epochs of a run, the first of which does not count")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results to this file")
    options = parser.parse_args(argv)
    if options.rounds < 1 or options.epochs < 2:
        parser.error("--rounds must be at least 1, and --epochs at least 2")
    data = xpnet.load_data(options.data)
    backend = xpnet.select(options.device)
    network = xpnet.MLP((data.n_features, *options.hidden, data.n_classes))
    took: dict[bool, list[float]] = {False: [], True: []}
    saving: list[float] = []
    keep, write = epochs._keep, RunDirectory.on_epoch

    def timed(*arguments: Any) -> None:
        start = time.perf_counter()
        keep(*arguments)
        saving.append(time.perf_counter() - start)

    def written(directory: RunDirectory, run: Any) -> None:
        start = time.perf_counter()
        write(directory, run)
        if run.config.keep:
            saving[-1] += time.perf_counter() - start

    for round_ in range(options.rounds):
        for kept in random.Random(round_).sample([False, True], 2):
            clock = Clock()
            settings = {"backend": backend, "epochs": options.epochs, "seed": round_, "keep": 2 if kept else 0}
            with (
                tempfile.TemporaryDirectory(dir=Path.cwd()) as folder,
                patch.object(epochs, "_keep", timed if kept else keep),
                patch.object(RunDirectory, "on_epoch", written),
                patch.object(RunDirectory, "_is_due", lambda _: True),  # however short the epochs are
            ):
                xpnet.fit(network, data, callbacks=[clock], progress=False, out=Path(folder) / "run", **settings)
            took[kept] += [b - a for a, b in pairwise(clock.ends)]
    without, with_ = (spread([1000 * seconds for seconds in took[kept]]) for kept in (False, True))
    note("epoch without checkpoints", [1000 * seconds for seconds in took[False]], "ms")
    note("epoch with one", [1000 * seconds for seconds in took[True]], "ms", against="epoch without checkpoints")
    note("the save", [1000 * seconds for seconds in saving], "ms")
    save = spread([1000 * seconds for seconds in saving])
    share = 100 * save.median / without.median
    about = machine()
    print_machine(about)
    print(f"{network} on {data.name}, {backend.device}; medians of {len(took[True])} epochs each, evaluation included")
    for name, (low, median, high) in {"without": without, "with": with_, "the save": save}.items():
        print(f"  {name:9}{median:9.2f} ms{low:9.2f} to {high:.2f}")
    print(f"  with / without {with_.median / without.median:.3f}; training waits {share:.2f} % of an epoch for a save")
    reached = share < GOAL
    print(f"  {share:.2f} % is {'less' if reached else 'NOT LESS'} than {GOAL:g} %")
    if options.json is not None:
        report = {"network": str(network), "data": data.name, "device": backend.device, "goal_percent": GOAL}
        figures = {"without_ms": without._asdict(), "with_ms": with_._asdict(), "save_ms": save._asdict()}
        write_json(options.json, about | report | figures | {"save_percent": share})
    return 0 if reached else 1
