"""What a network gains that was trained on the generated set digits, before it is trained on a few images of one's own.

The few are drawn from the training images of a set, and stand for photographs of one's own.
"""

import statistics
from pathlib import Path
from typing import Any

import numpy as np

import xpnet
from bench._common import Parser, machine, print_machine, write_json
from bench._log import note

SYSTEMS = ("digits alone", "the few alone", "digits, then the few")


def main(argv: list[str] | None = None) -> int:
    """Train with and without digits before, once for each seed, and print the accuracies on the test images.

    Returns 1 unless the network that knew digits is the better one for every seed.
    """
    parser = Parser(prog="python -m bench finetune", description=__doc__)
    parser.add_argument("--data", default="mnist", help="the set of one's own; %(default)s by default")
    parser.add_argument("--images", type=int, default=500, help="its training images; %(default)s by default")
    parser.add_argument("--drawn", type=int, default=60_000, help="images of digits; %(default)s by default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results to this file")
    options = parser.parse_args(argv)
    if options.seeds < 1 or options.images < 1:
        parser.error("--seeds and --images must be at least 1")
    data, digits = xpnet.load_data(options.data), xpnet.load_data("digits").take(options.drawn)
    if data.test is None:
        parser.error(f"{options.data} has no test images")
    about, backend = machine(), xpnet.select(options.device)
    print_machine(about)
    found: dict[str, list[float]] = {name: [] for name in SYSTEMS}
    for seed in range(options.seeds):
        rows = np.random.default_rng(seed).permutation(len(data))[: options.images]
        few = xpnet.Dataset(data.name, data.train[np.sort(rows)], data.test, classes=data.classes)
        network = xpnet.TrainConfig().network(data.n_features, data.n_outputs, data.task)
        settings: dict[str, Any] = {"backend": backend, "seed": seed, "progress": False}
        drawn = xpnet.fit(network, digits, **settings).model
        models = drawn, xpnet.fit(network, few, **settings).model, xpnet.fit(drawn, few, **settings).model
        for accuracies, model in zip(found.values(), models, strict=True):
            accuracies.append(100 * model.evaluate(*data.test).accuracy)
        reached = ", ".join(f"{name} {accuracies[-1]:.2f} %" for name, accuracies in found.items())
        print(f"seed {seed}: {reached}", flush=True)
    print(f"means on the {len(data.test):,} test images of {data.name}, with {options.images} of its training images:")
    for name, accuracies in found.items():
        error = statistics.stdev(accuracies) / len(accuracies) ** 0.5 if len(accuracies) > 1 else 0.0
        print(f"  {name:22}{statistics.mean(accuracies):6.2f} % +- {error:.2f}")
    for name, accuracies in found.items():
        note(f"{name}: errors", [100 - accuracy for accuracy in accuracies], "%")
    _, alone, both = found.values()
    if options.json is not None:
        write_json(options.json, about | {"data": data.name, "images": options.images, "accuracies": found})
    return int(any(a >= b for a, b in zip(alone, both, strict=True)))
