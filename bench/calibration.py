"""What a temperature that few held-out examples chose is worth on fresh ones, with priors of several sizes."""

import statistics
from typing import Any

import numpy as np
from numpy.typing import NDArray

import xpnet
from bench._common import Parser, machine, print_machine
from bench._log import note
from xpnet.checks import required
from xpnet.numerics.functional import softmax_cross_entropy
from xpnet.training.calibration import PRIOR, temperature_of

PRIORS = (0, 5, 10, 20, 50, 100)
HELD_OUT = (2, 5, 10, 20, 50, 100)
TRAINED_ON = 300


def main(argv: list[str] | None = None) -> int:
    """Train the default network on few examples of each set, and let others choose the temperature, again and again.

    Returns 1 if a temperature of the prior in use costs fresh examples more than 0.05 nats, on average, anywhere.
    """
    parser = Parser(prog="python -m bench calibration", description=__doc__)
    parser.add_argument("--seeds", type=int, default=6, help="trainings on each set; %(default)s by default")
    parser.add_argument("--draws", type=int, default=20, help="of the held-out examples; %(default)s by default")
    options = parser.parse_args(argv)
    if options.seeds < 1 or options.draws < 1:
        parser.error("--seeds and --draws must be at least 1")
    required("sklearn", "python -m bench calibration", "sklearn")

    print_machine(machine())
    worst = -np.inf
    print("the cross-entropy of fresh examples in nats with T = 1, and what the T of n held-out examples adds to it")
    for name in ("clouds", "digits", "chance"):
        found: dict[tuple[int, int], list[float]] = {(prior, n): [] for prior in PRIORS for n in HELD_OUT}
        before = []
        for seed in range(options.seeds):
            rng = np.random.default_rng(seed)
            logits, labels = _trained(name, rng, seed)
            before.append(_entropy(logits, labels))
            for n in HELD_OUT * options.draws:
                rows = rng.permutation(len(labels))
                held, fresh = rows[:n], rows[n:]
                without = _entropy(logits[fresh], labels[fresh])
                for prior in PRIORS:
                    t = temperature_of(logits[held], labels[held], prior)
                    found[prior, n].append(_entropy(logits[fresh] / t, labels[fresh]) - without)
        print(f"\n{name}: {statistics.mean(before):.3f}\n{'prior':>7}" + "".join(f"{f'n = {n}':>10}" for n in HELD_OUT))
        for prior in PRIORS:
            means = [statistics.mean(found[prior, n]) for n in HELD_OUT]
            print(f"{prior:7}" + "".join(f"{mean:+10.3f}" for mean in means) + (" in use" if prior == PRIOR else ""))
            if prior == PRIOR:
                note(f"{name}: more cross-entropy", means, "nats")
                worst = max(worst, *means)
    return int(worst > 0.05)


def _trained(name: str, rng: np.random.Generator, seed: int) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """The logits of a network for examples that it has not seen, and their labels.

    name : "clouds", two that overlap; "digits", scikit-learn's; or "chance", the same with labels that say nothing.
    """
    if name == "clouds":
        y = rng.integers(0, 2, 1500)
        X = rng.standard_normal((1500, 4)) + y[:, None]
    else:
        from sklearn.datasets import load_digits

        X, y = load_digits(return_X_y=True)
        order = rng.permutation(len(y))
        X, y = X[order] / 16, rng.permutation(y) if name == "chance" else y[order]
    network = xpnet.TrainConfig().network(X.shape[1], int(y.max()) + 1, "classification")
    model = xpnet.fit(network, (X[:TRAINED_ON], y[:TRAINED_ON]), device="cpu", seed=seed, progress=False).model
    return np.asarray(model.logits(X[TRAINED_ON:]), np.float64), y[TRAINED_ON:]


def _entropy(logits: NDArray[np.float64], labels: NDArray[Any]) -> float:
    loss, _ = softmax_cross_entropy(logits, labels, xp=np)
    return float(loss)
