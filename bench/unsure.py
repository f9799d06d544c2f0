"""How honest the probabilities are: calibration on MNIST, and how many letters and scribbles are called unsure."""

import statistics
import string
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import xpnet
from bench._common import Parser
from bench._log import note
from xpnet.checks import required
from xpnet.data import DataError, to_form
from xpnet.model import UNSURE, calibration_error

ALIKE = "OoIilSsZzBbqg"  # letters that are drawn as digits are
SIDE = 200


def main(argv: list[str] | None = None) -> int:
    """Train the default network once for each seed, and show it MNIST's test images, letters and scribbles."""
    parser = Parser(prog="python -m bench unsure", description=__doc__)
    parser.add_argument("--data", default="mnist", help="the set to train on; %(default)s by default")
    parser.add_argument(
        "--validation", type=float, default=0.0, help="to hold out, by which probabilities are calibrated"
    )
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(argv)

    drawn, names = _letters()
    unlike = ~np.isin(names, list(ALIKE))
    others = {"letters": drawn, "letters unlike any digit": drawn[unlike], "scribbles": _scribbles(500)}
    data = xpnet.load_data(options.data)
    if data.test is None:
        parser.error(f"{options.data} has no test images")
    network = xpnet.TrainConfig().network(data.n_features, data.n_outputs, data.task)
    rows = []
    for seed in range(options.seeds):
        model = xpnet.fit(network, data, device="cpu", seed=seed, validation=options.validation, progress=False).model
        outputs = model.outputs(data.test.images)
        rows.append(
            {
                "expected calibration error": calibration_error(outputs, model.targets(data.test.labels)),
                "bound for 1 % of the test images": float(np.quantile(outputs.max(axis=1), 0.01)),
                f"unsure at {UNSURE}: test images": float((outputs.max(axis=1) < UNSURE).mean()),
                **{name: float((model.outputs(x).max(axis=1) < UNSURE).mean()) for name, x in others.items()},
            }
        )
    for name in rows[0]:
        values = [row[name] for row in rows]
        if name == "expected calibration error":
            note(name, values, "")
        print(f"{name:40} {statistics.mean(values):.4f}  ({', '.join(f'{value:.4f}' for value in values)})")
    return 0


def _letters() -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    """Every letter of sixteen fonts, slightly turned, in MNIST's form, and its name."""
    required("matplotlib", "python -m bench unsure", "plot")
    import matplotlib

    rng, images, names = np.random.default_rng(0), [], []
    for path in sorted(Path(matplotlib.get_data_path(), "fonts", "ttf").glob("*.ttf")):
        if not path.name.startswith(("DejaVu", "STIXGeneral")) or "Display" in path.name:
            continue
        font = ImageFont.truetype(path, 120)
        for name in string.ascii_letters:
            paper = Image.new("L", (SIDE, SIDE), 255)
            ImageDraw.Draw(paper).text((SIDE / 2, SIDE / 2), name, font=font, fill=0, anchor="mm")
            images.append(to_form(np.asarray(paper.rotate(rng.uniform(-8, 8), fillcolor=255))))
            names.append(name)
    return np.stack(images), np.array(names)


def _scribbles(n: int) -> NDArray[np.uint8]:
    """Strokes through 5 to 11 random points with their corners rounded, in MNIST's form."""
    images: list[NDArray[np.uint8]] = []
    for points in _random_points():
        t = np.linspace(0, len(points) - 1, 40 * len(points))
        window = np.hanning(41) / np.hanning(41).sum()
        lines = (np.interp(t, np.arange(len(points)), coordinate) for coordinate in points.T)
        stroke = np.stack([np.convolve(np.pad(line, 20, "edge"), window, "valid") for line in lines], axis=1)
        paper = Image.new("L", (SIDE, SIDE), 255)
        pen = ImageDraw.Draw(paper)
        for at in stroke:
            pen.ellipse([*(at - 6), *(at + 6)], fill=0)
        try:
            images.append(to_form(np.asarray(paper)))
        except DataError:  # so thick a knot is no ink
            continue
        if len(images) == n:
            break
    return np.stack(images)


def _random_points() -> Iterator[NDArray[np.float64]]:
    rng = np.random.default_rng(1)
    while True:
        yield rng.uniform(30, SIDE - 30, (rng.integers(5, 12), 2))
