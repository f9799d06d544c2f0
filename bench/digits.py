"""The generated set digits: how long it takes to draw, and how well a network trained on it alone classifies MNIST."""

import statistics
import time

import numpy as np

import xpnet
from bench._common import Parser, peak_memory
from bench._log import note
from xpnet.data import digits


def main(argv: list[str] | None = None) -> int:
    """Draw the set, train on it once for each seed, and print accuracies and confusion on MNIST's test images."""
    parser = Parser(prog="python -m bench digits", description=__doc__)
    parser.add_argument("--data", default="mnist", help="the set that the networks classify; %(default)s by default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(argv)

    before, start = peak_memory(), time.perf_counter()
    train, test = digits.draw(60_000, seed=0), digits.draw(10_000, seed=1)
    seconds = time.perf_counter() - start
    print(f"70,000 digits in {seconds:.1f} s; peak memory {before:.0f} MB before, {peak_memory():.0f} MB after")

    data = xpnet.Dataset("digits", xpnet.Split(*train), xpnet.Split(*test), None, 10, "drawn by xpnet")
    real = xpnet.load_data(options.data).test
    if real is None:
        parser.error(f"{options.data} has no test images")
    backend, config = xpnet.select(options.device), xpnet.TrainConfig(validation=0.0)
    network = config.network(data.n_features, data.n_outputs, data.task)
    accuracies = []
    confusion = np.zeros((10, 10), int)
    for seed in range(options.seeds):
        model = xpnet.fit(network, data, config, backend=backend, seed=seed, progress=False).model
        own, scores = model.evaluate(*test), model.evaluate(real.images, real.labels)
        accuracies.append(100 * scores.accuracy)
        print(
            f"seed {seed}: {accuracies[-1]:.2f} % of {options.data}, {100 * own.accuracy:.2f} % of digits", flush=True
        )
        np.add.at(confusion, (real.labels, model.predict(real.images)), 1)
    note(f"errors on {options.data}", [100 - accuracy for accuracy in accuracies], "%")
    note("drawing 70,000 digits", [seconds], "s")
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    print(f"mean {statistics.mean(accuracies):.2f} %, standard deviation {spread:.2f}")
    print(f"true digit (row) and predicted digit (column), all seeds together\n{confusion}")
    return 0
