"""The page of xpnet export in Chromium: whether it reads redrawn test images as Python does, and how fast."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import xpnet
from bench._common import Parser
from bench._log import note
from xpnet.data import from_ink
from xpnet.export.page import content

BYTES, OFF, LATENCY = 300_000, 1e-3, 16.0
"""What is aimed at: the page's size at most, the largest difference of an output, the median of an answer in ms."""

LONG, PEN = 280, 10  # the paper's side and the pen's radius, as in forms.js

Strokes = list[list[tuple[float, float]]]

_DRAW = """drawings => drawings.map(strokes => {
  items = strokes.map(points => ({ points }));
  const start = performance.now();
  drawNow();
  const took = performance.now() - start, seen = seenNow();
  const { outputs } = answered(members, inputsOf(seen));
  return { took, seen: Array.from(seen, share => Math.round(255 * share)), outputs: Array.from(outputs) };
})"""


class Answers(NamedTuple):
    """What a page answers to some drawings: (n, pixels) bytes that it sees, (n, n_outputs), and (n,) milliseconds."""

    seen: NDArray[np.uint8]
    outputs: NDArray[np.float64]
    took: NDArray[np.float64]


def main(argv: list[str] | None = None) -> int:
    """Train the default network, redraw test images on its page, and compare; 1 if a goal is not reached."""
    parser = Parser(prog="python -m bench page", description=__doc__)
    parser.add_argument("--data", default="mnist", help="the set to train on and to redraw; %(default)s by default")
    parser.add_argument("--images", type=int, default=1000)
    options = parser.parse_args(argv)
    data = xpnet.load_data(options.data)
    if data.test is None or len(data.image_shape) != 2:
        parser.error(f"{options.data} has no test images")
    network = xpnet.TrainConfig().network(data.n_features, data.n_outputs, data.task)
    model = xpnet.fit(network, data, device="cpu", progress=False).model
    page = content(model, examples=data.test)
    drawings = redrawn(np.asarray(data.test.images[: options.images]))
    with browser() as chromium, shown(chromium, page) as tab:
        found = answers(tab, drawings)
    form, shape = model.schema.form, (model.image_shape[0], model.image_shape[1])
    expected = np.stack([from_ink(inked(strokes), form, shape) for strokes in drawings])
    outputs = model.outputs(expected)
    n = len(drawings)
    alike = int((found.seen == expected.reshape(n, -1)).all(axis=1).sum())
    same = int((found.outputs.argmax(axis=1) == outputs.argmax(axis=1)).sum())
    off = float(np.abs(found.outputs - outputs).max())
    right = 100 * float(np.mean(found.outputs.argmax(axis=1) == model.targets(data.test.labels[:n])))
    median, most = np.quantile(found.took, (0.5, 0.95)).tolist()
    note("size", [len(page)], "bytes")
    note("an answer", found.took.tolist(), "ms")
    print(f"page: {len(page):,} bytes")
    print(f"{n:,} test images of {options.data}, redrawn: forms equal {alike:,}, classes equal {same:,}")
    print(f"largest difference of an output {off:.1e}; read right {right:.1f} %")
    print(f"an answer with its pictures: median {median:.1f} ms, 95 % {most:.1f} ms")
    reached = alike == same == n and off < OFF and len(page) <= BYTES and median < LATENCY
    print("reached" if reached else "NOT REACHED")
    return 0 if reached else 1


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright.   Raises MissingPackageError where one of them is missing."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        raise xpnet.MissingPackageError("a browser is needed: pip install playwright, and Chromium from your system")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield chromium
        finally:
            chromium.close()


@contextlib.contextmanager
def shown(chromium: Any, page: bytes, **context: Any) -> Iterator[Any]:
    """A tab that shows a page from a file.   context : of Playwright, such as viewport and color_scheme."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "page.html")
        path.write_bytes(page)
        own = chromium.new_context(**context)
        try:
            tab = own.new_page()
            tab.goto(path.as_uri())
            yield tab
        finally:
            own.close()


def answers(tab: Any, drawings: list[Strokes]) -> Answers:
    """Draw each on the page by its own functions, and read what it says."""
    found = [each for i in range(0, len(drawings), 50) for each in tab.evaluate(_DRAW, drawings[i : i + 50])]
    seen = np.array([each["seen"] for each in found], np.uint8)
    return Answers(seen, np.array([each["outputs"] for each in found]), np.array([each["took"] for each in found]))


def redrawn(images: NDArray[Any], seed: int = 0) -> list[Strokes]:
    """Images as strokes of a pen: thinned, each two neighbours joined, and moved to anywhere on the paper."""
    rng, scale = np.random.default_rng(seed), LONG / max(images.shape[1:])
    drawings = []
    for skeleton in thinned(images > 0.4 * images.max()):
        pixels = (np.argwhere(skeleton) + 0.5) * scale
        moved = rng.uniform(PEN - pixels.min(axis=0), LONG - PEN - pixels.max(axis=0))
        drawings.append(_joined(skeleton, scale, moved))
    return drawings


def thinned(ink: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n, height, width) masks thinned to lines of one pixel.   Source: Zhang and Suen 1984."""
    ink = np.pad(ink, ((0, 0), (1, 1), (1, 1)))
    around = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
    changed = True
    while changed:
        changed = False
        for phase in (0, 1):
            p = [np.roll(ink, (-dy, -dx), (1, 2)) for dy, dx in around]
            neighbours = np.sum(p, axis=0)
            rises = np.sum([~p[i] & p[(i + 1) % 8] for i in range(8)], axis=0)
            north, east, south, west = p[0], p[2], p[4], p[6]
            ends = (east & south & (north | west)) if phase == 0 else (north & west & (east | south))
            gone = ink & (neighbours >= 2) & (neighbours <= 6) & (rises == 1) & ~ends
            ink, changed = ink & ~gone, changed or bool(gone.any())
    cut: NDArray[np.bool_] = ink[:, 1:-1, 1:-1]
    return cut


def _joined(skeleton: NDArray[np.bool_], scale: float, moved: NDArray[np.float64]) -> Strokes:
    """A stroke between each two neighbours of a skeleton, and a dot at each of its pixels."""
    pixels = set(map(tuple, np.argwhere(skeleton).tolist()))
    dy, dx = moved.tolist()

    def place(y: int, x: int) -> tuple[float, float]:
        return (x + 0.5) * scale + dx, (y + 0.5) * scale + dy

    strokes: Strokes = [[place(*pixel)] for pixel in sorted(pixels)]
    for y, x in sorted(pixels):
        for other in ((y, x + 1), (y + 1, x - 1), (y + 1, x), (y + 1, x + 1)):
            if other in pixels:
                strokes.append([place(y, x), place(*other)])
    return strokes


def inked(strokes: Strokes, height: int = LONG, width: int = LONG) -> NDArray[np.bool_]:
    """The pixels whose centres are within the pen's radius of a stroke, by the arithmetic of forms.js."""
    mask = np.zeros((height, width), bool)
    for points in strokes:
        for (ax, ay), (bx, by) in zip(points[:1] + points[:-1], points, strict=True):
            y, x = _reach(ay, by, height), _reach(ax, bx, width)
            py, px = np.mgrid[y, x] + 0.5
            py, px, dy, dx = py - ay, px - ax, by - ay, bx - ax
            length = dx * dx + dy * dy
            t = ((px * dx + py * dy) / length).clip(0, 1) if length else 0.0
            ey, ex = py - t * dy, px - t * dx
            mask[y, x] |= ex * ex + ey * ey <= PEN * PEN
    return mask


def _reach(a: float, b: float, size: int) -> slice:
    """The rows or columns, of so many, that a stroke between two places may touch."""
    ends = np.clip([np.floor(min(a, b)) - PEN, np.ceil(max(a, b)) + PEN + 1], 0, size)
    return slice(int(ends[0]), int(ends[1]))
