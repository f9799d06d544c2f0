"""Handwritten-like digits drawn by the package itself: the data set that is always available.

A digit is a few strokes of a pen. Letter forms written down by hand (strokes.toml) are mixed, shaken, bent, slanted and
inked at random, then normalised as MNIST was: fitted into 20x20 pixels with their aspect ratio kept, anti-aliased, and
centred by mass in 28x28. Nothing was fitted to pixels: the forms and the parameters of the hand were chosen by trial,
by looking at the MNIST training images that were misclassified by a network trained on these digits alone.
"""

import functools
import io
import logging
import os
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import DataError
from xpnet.files import package_text, write_atomically

from .download import Progress
from .formats import read_npz_arrays

__all__ = ["draw", "load_splits"]

logger = logging.getLogger("xpnet")

_Floats = NDArray[np.float32]
_Images = NDArray[np.uint8]
_Labels = NDArray[np.int32]
_Splits = tuple[tuple[_Images, _Labels], tuple[_Images, _Labels]]

_FORMAT = 1  # of the drawing: raise it when a seed's images change, and caches of the old drawing are left aside
_COUNTS = (60_000, 10_000)
_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")

_BOX, _SIZE = 20, 28  # pixels
_BLOCK = 1000  # images drawn by one generator
_CHUNK = 200  # images inked together: few enough for a core's cache, enough to keep the interpreter out of it
_MOST_THREADS = 16  # each takes some 10 MB
_POINTS = 96  # along all strokes of a digit: less than a pixel apart

# The hand. Spreads are standard deviations, lengths in letter heights unless said otherwise.
_MIX = 0.35  # Dirichlet's alpha: below 1 one variant prevails
_FIELD = 0.1  # smooth displacement that takes neighbouring strokes along
_WAVES = 4  # cosines per axis of that field
_SHAKE, _SHAKE_SPREAD = 0.032, 0.4  # each control point by itself; from writer to writer, in logarithms
_LOOSE_ENDS = 1.6  # a stroke's ends shake more than its middle
_BEND = 0.12  # quadratic part of a deformation of the page
_ASPECT = 0.25  # logarithm of width over height
_TURN = 0.08  # radians
_LEAN = (0.21, 0.27, 0.11, 0.05, 0.24, 0.14, 0.14, 0.05, 0.14, 0.14)  # mean slant of each digit
_SLANT = 0.26
_RADIUS = (1.2, 1.4, 1.15, 1.1, 1.05, 1.05, 1.1, 1.15, 1.05, 1.05)  # median radius of each digit's pen in pixels
_RADIUS_SPREAD, _RADII = 0.3, (0.6, 3.4)  # in logarithms; least and greatest, in pixels
_PRESSURE = 0.15  # logarithm of the radius along the strokes
_NIB = 0.17  # logarithm of the radius with the stroke's direction
_SOFT = 1.5  # pixels from paper to full ink


class _Form(NamedTuple):
    variants: _Floats  # (v, c, 2) control points around the origin, height 1
    spline: _Floats  # (k, c) from control points to points along the strokes
    loose: _Floats  # (c, 1) how freely each control point shakes


def _spline(points: _Floats, strokes: list[list[str]]) -> _Floats:
    """Catmull-Rom matrix (k, c) for points evenly along strokes through the control points (c, 2)."""
    segments = []
    first = 0
    for stroke in strokes:
        # Passing a point twice makes the tangents vanish there: a corner.
        knots = [first + i for i, point in enumerate(stroke) for _ in range(1 + point.endswith("!"))]
        knots = [knots[0], *knots, knots[-1]]
        segments += [knots[i : i + 4] for i in range(len(knots) - 3) if knots[i + 1] != knots[i + 2]]
        first += len(stroke)
    lengths = [float(np.linalg.norm(points[end] - points[start])) for _, start, end, _ in segments]
    ends = np.cumsum(lengths)
    matrix = np.zeros((_POINTS, len(points)), np.float32)
    for row, distance in zip(matrix, np.linspace(0, ends[-1], _POINTS), strict=True):
        i = min(int(np.searchsorted(ends, distance)), len(segments) - 1)
        t = 1 - (ends[i] - distance) / lengths[i]
        weights = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
        for knot, weight in zip(segments[i], weights, strict=True):
            row[knot] += weight / 2
    return matrix


def _compile(width: float, variants: str) -> _Form:
    pages = [[stroke.split() for stroke in variant.split("/")] for variant in variants.splitlines()]
    grid = [[(int(point[:2]), int(point[2:4])) for stroke in page for point in stroke] for page in pages]
    points = ((np.array(grid) / 99 - 0.5) * (width, 1)).astype(np.float32)
    loose = [_LOOSE_ENDS if i in (0, len(s) - 1) else 1.0 for s in pages[0] for i in range(len(s))]
    return _Form(points, _spline(points[0], pages[0]), np.array(loose, np.float32)[:, None])


@functools.cache
def _forms() -> tuple[tuple[_Form, ...], NDArray[np.float64]]:
    """All forms, and the cumulated shares of the forms in each digit, (10, forms)."""
    forms = tomllib.loads(package_text("xpnet.data", "strokes.toml"))["form"]
    shares = np.zeros((10, len(forms)))
    for i, form in enumerate(forms):
        shares[form["digit"], i] = form["share"]
    cumulated = np.cumsum(shares, axis=1)
    return tuple(_compile(form["width"], form["variants"]) for form in forms), cumulated / cumulated[:, -1:]


def _letters(rng: np.random.Generator, labels: _Labels) -> _Floats:
    """The pen's way through each letter, (2, n, k): x and y around the origin, height about 1."""
    n = len(labels)
    forms, shares = _forms()
    chosen = np.sum(rng.random(n)[:, None] >= shares[labels], axis=1)
    mix = rng.standard_gamma(_MIX, (n, max(len(form.variants) for form in forms))).astype(np.float32) + np.float32(1e-6)
    most = max(len(form.loose) for form in forms)
    shake = _SHAKE * np.exp(_SHAKE_SPREAD * _normal(rng, n, 1, 1)) * _normal(rng, n, most, 2)
    order = np.arange(_WAVES, dtype=np.float32)
    field = _FIELD * _normal(rng, n, 2, _WAVES, _WAVES) / (1 + order[:, None] + order)
    pen = np.empty((2, n, _POINTS), np.float32)
    for i in np.unique(chosen):
        who = chosen == i
        variants, spline, loose = forms[i]
        weights = mix[who, : len(variants)]
        points = np.einsum("nv,vcd->ncd", weights / weights.sum(1, keepdims=True), variants)
        waves = np.cos(np.pi * order * (points[..., None] + 0.5))
        points += np.einsum("ndij,nci,ncj->ncd", field[who], waves[:, :, 0], waves[:, :, 1])
        points += loose * shake[who, : len(loose)]
        pen[:, who] = np.einsum("kc,ncd->dnk", spline, points)
    return pen


def _handwriting(rng: np.random.Generator, labels: _Labels) -> tuple[_Floats, _Floats]:
    """The pen's way (2, n, k) in the pixels of the box, and its radii (n, k) in pixels."""
    n = len(labels)
    x, y = _letters(rng, labels)
    a, b, c, d, e, f = _BEND * _normal(rng, 6, n, 1)
    x, y = x + 2 * a * y * y + 2 * b * x * y + c * x * x, y + d * x * x + e * x * y + f * y * y
    x = x * np.exp(_ASPECT * _normal(rng, n, 1))
    turn = _TURN * _normal(rng, n, 1)
    x, y = x - turn * y, y + turn * x
    x = x - (_of_digit(_LEAN, labels) + _SLANT * _normal(rng, n, 1)) * y

    along = np.linspace(0, np.pi, _POINTS, dtype=np.float32)
    pressure = sum(_normal(rng, n, 1) * np.cos(i * along) for i in (1, 2, 3))
    dx, dy = np.gradient(x, axis=1), np.gradient(y, axis=1)
    nib = _normal(rng, n, 1) * (dx * dx - dy * dy) + _normal(rng, n, 1) * 2 * dx * dy
    nib /= dx * dx + dy * dy + np.float32(1e-6)
    radius = _of_digit(_RADIUS, labels) * np.exp(_RADIUS_SPREAD * _normal(rng, n, 1))
    radius = np.clip(radius, *_RADII)
    radii = radius * np.exp(_PRESSURE * pressure + _NIB * nib)

    pen = np.stack([x, y])
    low, high = pen.min(2, keepdims=True), pen.max(2, keepdims=True)
    scale = (_BOX - 2 * radius) / (high - low).max(0)
    return (pen - (low + high) / 2) * scale + _BOX / 2, radii


def _of_digit(values: tuple[float, ...], labels: _Labels) -> _Floats:
    return np.array(values, np.float32)[labels, None]


def _normal(rng: np.random.Generator, *shape: int) -> _Floats:
    return rng.standard_normal(shape, np.float32)


def _ink(pen: _Floats, radii: _Floats) -> _Floats:
    """Ink in [0, 1] on the box's pixels, (20, 20, n): the images come last, so that NumPy's inner loops are long."""
    x, y = np.ascontiguousarray(pen.transpose(0, 2, 1))
    per_radius = np.ascontiguousarray(1 / radii.T)
    centres = np.arange(0.5, _BOX, dtype=np.float32)[:, None]
    nearest = np.full((_BOX, _BOX, len(radii)), np.inf, np.float32)
    square = np.empty_like(nearest)
    for k in range(_POINTS):
        dx = (centres - x[k]) * per_radius[k]
        dy = (centres - y[k]) * per_radius[k]
        np.add(dx * dx, (dy * dy)[:, None], out=square)
        np.minimum(nearest, square, out=nearest)
    ink: _Floats = np.clip((1 - np.sqrt(nearest)) * (radii.mean(1) / _SOFT) + 0.5, 0, 1)
    ink *= ink * (3 - 2 * ink)
    ink /= ink.max((0, 1))
    return ink


def _draw_block(seed: int, block: int) -> tuple[_Images, _Labels]:
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(block,)))
    labels = rng.permutation(np.arange(_BLOCK, dtype=np.int32) % 10)
    pen, radii = _handwriting(rng, labels)
    room = _SIZE + 2 * _BOX  # so that no box is out of place before the page is cut out
    pages = np.zeros((_BLOCK, room, room), np.uint8)
    axis = np.arange(_BOX, dtype=np.float32)[:, None]
    for start in range(0, _BLOCK, _CHUNK):
        ink = _ink(pen[:, start : start + _CHUNK], radii[start : start + _CHUNK])
        centre = np.stack([(axis * ink.sum(other)).sum(0) for other in (1, 0)]) / ink.sum((0, 1))
        corners = _BOX + np.rint(_SIZE // 2 - centre).astype(int).T
        pixels = np.rint(255 * ink).astype(np.uint8)
        for i, (top, left) in enumerate(corners):
            pages[start + i, top : top + _BOX, left : left + _BOX] = pixels[:, :, i]
    return pages[:, _BOX:-_BOX, _BOX:-_BOX], labels


def draw(n: int, *, seed: int = 0, progress: Progress | None = None) -> tuple[_Images, _Labels]:
    """Draw handwritten-like digits; image i of a seed is the same for every n and any number of threads.

    n : number of images, >= 0.
    seed : integer >= 0.   progress : called with (description, bytes drawn, bytes in all).
    Returns (images, labels): uint8 (n, 28, 28), 255 is full ink; int32 (n,) in 0..9, 100 of each in every thousand.
    Raises ValueError if n or seed is negative.
    """
    if n < 0 or seed < 0:
        raise ValueError(f"digits.draw: n and seed must not be negative, but n is {n} and seed {seed}")
    images = np.empty((n, _SIZE, _SIZE), np.uint8)
    labels = np.empty(n, np.int32)

    def fill(block: int) -> None:
        rows = slice(block * _BLOCK, (block + 1) * _BLOCK)
        drawn = _draw_block(seed, block)
        wanted = len(labels[rows])
        images[rows], labels[rows] = drawn[0][:wanted], drawn[1][:wanted]

    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS)) as pool:
        for block, _ in enumerate(pool.map(fill, range(-(-n // _BLOCK))), 1):
            if progress is not None:
                progress("drawing digits", images[: block * _BLOCK].nbytes, images.nbytes)
    return images, labels


def load_splits(cache_dir: str | os.PathLike[str], progress: Progress | None = None) -> _Splits:
    """The standard set, 60,000 digits to train on (seed 0) and 10,000 to test on (seed 1), kept in a file once drawn.

    cache_dir : folder of that file, created if missing; if it cannot be written, a warning is logged.
    progress : as draw takes it.
    Returns ((images, labels), (images, labels)): the training and the test split, each as draw returns it.
    """
    path = Path(cache_dir) / f"digits-v{_FORMAT}.npz"
    splits = _read(path)
    if splits is None:
        logger.info("drawing %s digits, which are then kept in %s", f"{sum(_COUNTS):,}", path)
        splits = draw(_COUNTS[0], seed=0, progress=progress), draw(_COUNTS[1], seed=1, progress=progress)
        _write(path, splits)
    return splits


def _read(path: Path) -> _Splits | None:
    """The splits kept in a file, or None if it cannot be trusted."""
    if not os.path.lexists(path):
        return None
    try:
        arrays = read_npz_arrays(path, _ARRAYS)  # zip's CRC-32 finds the damage
        shapes = [(n, *shape) for n in _COUNTS for shape in ((_SIZE, _SIZE), ())]
        if [a.shape for a in arrays] != shapes or [a.dtype for a in arrays] != [np.uint8, np.int32] * 2:
            raise DataError(f"{path}: not the expected arrays")
    except DataError as error:
        logger.warning("%s; the set is drawn again", error)
        return None
    return (arrays[0], arrays[1]), (arrays[2], arrays[3])


def _write(path: Path, splits: _Splits) -> None:
    (train_images, train_labels), (test_images, test_labels) = splits
    content = io.BytesIO()
    np.savez(
        content,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())
    except OSError as error:
        logger.warning("the drawn digits cannot be saved, so the next run draws them again: %s", error)
