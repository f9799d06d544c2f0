"""Test accuracy on MNIST with no setting changed, or by a recipe, over five seeds."""

import argparse
import statistics

import xpnet
from xpnet.config import read_recipe


def main(argv: list[str] | None = None) -> int:
    """Train once for each seed and print the accuracies, their mean and their spread."""
    parser = argparse.ArgumentParser(prog="python -m bench accuracy", description=__doc__)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--recipe", help="a recipe's name or file")
    options = parser.parse_args(argv)
    data, backend = xpnet.load_data(options.data), xpnet.select(options.device)
    config = xpnet.TrainConfig(**(read_recipe(options.recipe).settings if options.recipe else {}))
    accuracies = []
    for seed in range(options.seeds):
        result = xpnet.fit(
            config.network(data.n_features, data.n_classes), data, config, backend=backend, seed=seed, callbacks=[]
        )
        last = result.history[-1]
        assert last.test_accuracy is not None
        accuracies.append(100 * last.test_accuracy)
        seconds = sum(epoch.seconds for epoch in result.history)
        print(f"seed {seed}: {accuracies[-1]:.2f} % after {last.epoch} epochs, {seconds:.1f} s of training", flush=True)
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    mean = statistics.mean(accuracies)
    what = options.recipe or "no setting changed"
    print(f"{what}, {data.name}, {backend!r}: mean {mean:.3f} %, standard deviation {spread:.3f}")
    return 0
