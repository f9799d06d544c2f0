"""A film of a training run: filters, hidden layer, decision boundary and curves, frame by frame, as GIF or WebP."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xpnet.checks import nearest, required
from xpnet.errors import ConfigError
from xpnet.files import write_atomically
from xpnet.plots.style import (
    DARK,
    FONT,
    LIGHT,
    SMALL,
    add_axes,
    colours,
    house_style,
    new_figure,
    shortened,
    signed_map,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL import Image

__all__ = ["FILMS", "PANELS", "Plane", "Scenes", "check_film", "film", "plane_around", "save_film"]

Floats = NDArray[Any]
Place = tuple[float, float, float, float]  # left, bottom, width, height

FILMS = (".gif", ".webp")
PANELS = ("filters", "boundary", "projection")

WIDTH, HEIGHT, DPI = 8.0, 4.5, 120  # inches, and dots per inch
MAIN = (0.7, 0.45, 4.1, 3.2)
GRID = (164, 128)  # places of the plane, across and down, in the proportions of MAIN
SIDE, BESIDE = 5.4, 2.4  # left and width of what stands beside
TITLE = 13.0
PAUSE = 2.5  # seconds on the last frame
LEVELS = 10  # of the probabilities that are told apart
TINT = 0.5  # of a class's colour where its probability is 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Plane:
    """The outputs of a network of two features.

    outputs : (f, down, across, k) floats at each frame: probabilities of the classes, or a regression's numbers.
    extent : the plane's ends, x from and to, y from and to.   points : (n, 2), examples.   columns : the two names.
    """

    outputs: Floats
    extent: tuple[float, float, float, float]
    points: Floats
    columns: tuple[str, str]


@dataclass(frozen=True, eq=False, kw_only=True)
class Scenes:
    """What a film shows: arrays with an entry for each of f frames.

    title : of the film.   steps : (f,) whole numbers, rising: the training steps done.   n_steps : steps per epoch.
    losses, scores : (f,) floats by the split's name; scores are accuracies or R2, which metric says.
    targets : (n,) of the examples that are drawn: positions among names, or numbers.   names : of the classes, or ().
    filters : (f, units, height, width), the first layer's weights.   units : of how many they are.
    projection : (f, n, 2), the examples in the last hidden layer.   layer : what it is called.
    plane : of two features.   Each of these three may be None.
    """

    title: str
    steps: NDArray[np.integer]
    n_steps: int
    losses: Mapping[str, Floats]
    scores: Mapping[str, Floats]
    metric: str
    targets: NDArray[Any]
    names: Sequence[str] = ()
    filters: Floats | None = None
    units: int = 0
    projection: Floats | None = None
    layer: str = ""
    plane: Plane | None = None

    def __len__(self) -> int:
        return len(self.steps)


def plane_around(points: Floats) -> tuple[tuple[float, float, float, float], Floats]:
    """The part of the plane around points, and the places in it at which a film asks a network.

    points : (n, 2) floats. Axes of similar length get the same unit.
    Returns its extent, and (down, across, 2) places, the lowest row first.
    """
    low, high = points.min(axis=0).astype(np.float64), points.max(axis=0).astype(np.float64)
    size = np.where(high > low, high - low, 1.0) * 1.12
    middle, room = (low + high) / 2, np.array(MAIN[2:])
    if 1 / 3 < size[0] / size[1] < 3:
        size = room * (size / room).max()
    (x0, y0), (x1, y1) = middle - size / 2, middle + size / 2
    across, down = GRID
    places = np.stack(np.meshgrid(np.linspace(x0, x1, across), np.linspace(y0, y1, down)), axis=-1)
    return (x0, x1, y0, y1), places


def film(scenes: Scenes) -> Iterator[NDArray[np.uint8]]:
    """The pictures of a film, (540, 960, 3) each, made as they are asked for.

    The first panel that there is of filters, plane and projection is drawn large, the next one beside it, and curves
    where there is room. All scales are the same in every picture.
    Raises ConfigError if there is no panel, MissingPackageError without matplotlib.
    """
    with house_style():
        drawing = _Drawing(scenes)
    return map(drawing.at, range(len(scenes)))


class _Drawing:
    """The figure, of which each frame changes what it shows."""

    def __init__(self, scenes: Scenes) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        self.scenes, self.figure, self.colours = scenes, new_figure(), colours()
        self.figure.set_size_inches(WIDTH, HEIGHT)
        self.figure.set_dpi(DPI)
        self.canvas = FigureCanvasAgg(self.figure)
        self.moving: list[Any] = []
        self._head()
        panels = [
            panel
            for panel, there in (
                (self._filters, scenes.filters),
                (self._plane, scenes.plane),
                (self._projection, scenes.projection),
            )
            if there is not None
        ]
        if not panels:
            raise ConfigError("a film needs something to show: filters, a plane or a projection")
        panels[0](MAIN)
        if len(panels) > 1:
            panels[1]((SIDE, 1.85, BESIDE, 1.8))
            self._curve((SIDE, 0.45, BESIDE, 0.9), self.scenes.metric, last=True)
        else:
            self._curve((SIDE, 2.2, BESIDE, 1.45), "loss")
            self._curve((SIDE, 0.45, BESIDE, 1.45), self.scenes.metric, last=True)

    @house_style()
    def at(self, i: int) -> NDArray[np.uint8]:
        for move in self.moving:
            move(i)
        self.canvas.draw()
        return np.asarray(self.canvas.buffer_rgba())[..., :3].copy()

    def _head(self) -> None:
        """The title and the step, and below them what the colours stand for."""
        scenes, figure, right = self.scenes, self.figure, 1 - 0.2 / WIDTH
        large: dict[str, Any] = {"y": 1 - 0.17 / HEIGHT, "size": TITLE, "weight": "bold", "va": "top"}
        bold = 1.15 * TITLE / FONT  # times the width of the same text in small
        last = int(scenes.steps[-1])
        width = bold * text_width(figure, [f"step {last:,}"]) + 0.2
        step = figure.text(right, s="", ha="right", **large)
        epoch = figure.text(right - width / WIDTH, s="", ha="right", **large)
        room = WIDTH - 0.6 - width - bold * text_width(figure, [f"epoch {last / scenes.n_steps:.2f}"])
        fitting = (shortened(scenes.title, length) for length in range(80, 3, -1))
        title = next(text for text in fitting if bold * text_width(figure, [text]) < room)
        figure.text(0.2 / WIDTH, s=title, **large)
        if not scenes.names:
            self._scale()
        elif len(scenes.names) <= len(self.colours.classes):
            self._legend()

        def move(i: int) -> None:
            done = int(scenes.steps[i])
            epoch.set_text(f"epoch {done / scenes.n_steps:.2f}")
            step.set_text(f"step {done:,}")

        self.moving.append(move)

    def _legend(self) -> None:
        """The classes' names in a line, as long as there is room for."""
        left, lower, gap = 0.2, 1 - 0.46 / HEIGHT, 0.13
        for length in range(20, 3, -1):
            names = [f"    {shortened(name, length)}" for name in self.scenes.names]
            if text_width(self.figure, ["".join(names)]) + gap * len(names) < WIDTH - 2 * left:
                break
        for name, color in zip(names, self.colours.classes, strict=False):
            self.figure.text(left / WIDTH, lower, "●", color=color, size=FONT, va="top")
            self.figure.text(left / WIDTH, lower, name, size=FONT, va="top")
            left += text_width(self.figure, [name]) + gap

    def _scale(self) -> None:
        """The colours of a regression's numbers, from the least to the largest."""
        low, high = (f"{end:.4g}" for end in self._ends())
        left, lower = 0.2, 1 - 0.46 / HEIGHT
        self.figure.text(left / WIDTH, lower, low, size=FONT, va="top")
        left += text_width(self.figure, [low]) + 0.06
        bar = add_axes(self.figure, left, HEIGHT - 0.58, 1.0, 0.1)
        bar.imshow(self._mapped(np.linspace(*self._ends(), 64)[None]), aspect="auto")
        bar.axis("off")
        self.figure.text((left + 1.06) / WIDTH, lower, high, size=FONT, va="top")

    def _axes(self, place: Place, title: str) -> "Axes":
        axes = add_axes(self.figure, *place)
        axes.set_title(title, size=SMALL, color=self.colours.grey, loc="left", pad=4)
        return axes

    def _filters(self, place: Place) -> None:
        """All filters in one picture, since many axes take long to draw."""
        filters = self.scenes.filters
        assert filters is not None
        n, high, wide = filters.shape[1:]
        which = f"{n} of {self.scenes.units}" if n < self.scenes.units else f"all {n}"
        axes = self._axes(place, f"first-layer weights of {which} units: red positive, blue negative")
        columns = min(range(1, n + 1), key=lambda k: max(k * wide / place[2], -(-n // k) * high / place[3]))
        gap = max(1, round(0.08 * max(high, wide)))
        rows = -(-n // columns)
        page = np.full((rows * (high + gap) - gap, columns * (wide + gap) - gap), np.nan, np.float32)
        sizes = np.abs(filters[[0, -1]])
        largest = float(np.quantile(sizes[np.isfinite(sizes)], 0.998)) or 1.0
        colors = signed_map().resampled(33)
        picture = axes.imshow(page, cmap=colors, vmin=-largest, vmax=largest, interpolation="nearest")
        axes.axis("off")

        def move(i: int) -> None:
            for k, tile in enumerate(filters[i]):
                row, column = divmod(k, columns)
                top, left = row * (high + gap), column * (wide + gap)
                page[top : top + high, left : left + wide] = tile
            picture.set_data(page)

        self.moving.append(move)

    def _plane(self, place: Place) -> None:
        """The outputs over the plane: the classes' colours by their probabilities, or a map of numbers."""
        plane, scenes = self.scenes.plane, self.scenes
        assert plane is not None
        classes = bool(scenes.names)
        axes = self._axes(place, "probabilities of the classes, and lines between them" if classes else "prediction")
        axes.grid(visible=False)
        picture = axes.imshow(
            self._field(0), origin="lower", extent=plane.extent, aspect="auto", interpolation="nearest"
        )
        most = slice(None, None, max(1, len(plane.points) // 500))
        colors = self._colors()[most]
        x, y = plane.points[most, 0], plane.points[most, 1]
        axes.scatter(x, y, c=colors, s=11, linewidths=0.4, edgecolors=self.colours.ground, zorder=3)
        axes.set(xlim=plane.extent[:2], ylim=plane.extent[2:])
        x_name, y_name = (shortened(name, 30) for name in plane.columns)
        axes.set_xlabel(x_name, labelpad=1)
        axes.set_ylabel(y_name, labelpad=1)
        borders: list[Any] = []

        def move(i: int) -> None:
            picture.set_data(self._field(i))
            while borders:
                borders.pop().remove()
            outputs = plane.outputs[i].astype(np.float32)
            for k in range(outputs.shape[-1] if classes else 0):
                lead = outputs[..., k] - np.delete(outputs, k, axis=-1).max(axis=-1)
                if lead.min() < 0 < lead.max():
                    ends = np.linspace(*plane.extent[:2], GRID[0]), np.linspace(*plane.extent[2:], GRID[1])
                    borders.append(axes.contour(*ends, lead, [0.0], colors=self.colours.ink, linewidths=1.2))

        self.moving.append(move)

    def _field(self, i: int) -> NDArray[np.float32]:
        """The colours of the plane, (down, across, 3) in [0, 1]."""
        plane = self.scenes.plane
        assert plane is not None
        outputs = plane.outputs[i].astype(np.float32)
        if not self.scenes.names:
            return self._mapped(outputs[..., 0])
        classes = self.colours.classes
        palette = _rgb([classes[k % len(classes)] for k in range(outputs.shape[-1])])
        # In steps: plain areas make files several times smaller.
        shares = np.rint(LEVELS * outputs) / LEVELS
        ground = _rgb([self.colours.ground])
        field: NDArray[np.float32] = np.clip(ground + TINT * (shares.dot(palette) - ground), 0.0, 1.0).astype(
            np.float32
        )
        return field

    def _mapped(self, numbers: Floats) -> NDArray[np.float32]:
        """The colours of numbers (..., 3), on a scale from the least target to the largest."""
        from matplotlib import colormaps

        low, high = self._ends()
        shares = (np.asarray(numbers, np.float32) - low) / (high - low or 1.0)
        least = self.colours.least
        return colormaps["cividis"](least + (1.0 - least) * np.clip(shares, 0.0, 1.0))[..., :3].astype(np.float32)  # type: ignore[no-any-return]

    def _ends(self) -> tuple[float, float]:
        return float(self.scenes.targets.min()), float(self.scenes.targets.max())

    def _colors(self) -> NDArray[np.float32]:
        """The colour of each example."""
        if not self.scenes.names:
            return self._mapped(self.scenes.targets)
        classes = self.colours.classes
        colors: NDArray[np.float32] = _rgb(classes)[self.scenes.targets % len(classes)]
        return colors

    def _projection(self, place: Place) -> None:
        """The examples along the principal components; a class of a short name is named in its middle."""
        from matplotlib.patheffects import withStroke

        points, scenes = self.scenes.projection, self.scenes
        assert points is not None
        axes = self._axes(place, f"{scenes.layer} (PCA)")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color=self.colours.pale)
        low, high = points.min(axis=(0, 1)), points.max(axis=(0, 1))
        margin = 0.05 * (high - low) + 1e-6
        axes.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
        dots = axes.scatter(points[0, :, 0], points[0, :, 1], c=self._colors(), s=7, linewidths=0)
        named = scenes.names if all(len(name) <= 2 for name in scenes.names) else ()
        members = [np.flatnonzero(scenes.targets == k) for k in range(len(named))]
        middles = [
            axes.text(
                *(0.0, 0.0, name),
                size=TITLE,
                weight="bold",
                ha="center",
                va="center",
                path_effects=[withStroke(linewidth=2.5, foreground=self.colours.ground)],
                visible=bool(len(members[k])),
            )
            for k, name in enumerate(named)
        ]

        def move(i: int) -> None:
            dots.set_offsets(points[i])
            for text, rows in zip(middles, members, strict=True):
                if len(rows):
                    text.set_position(np.median(points[i][rows], axis=0))

        self.moving.append(move)

    def _curve(self, place: Place, quantity: str, *, last: bool = False) -> None:
        """A quantity of each split up to the frame, over steps as the frames have them: the first ones far apart."""
        scenes = self.scenes
        percent = 100.0 if quantity == "accuracy" else 1.0
        of = scenes.losses if quantity == "loss" else scenes.scores
        name = {"accuracy": "accuracy (%)", "r2": "R²"}.get(quantity, quantity)
        axes = self._axes(place, name)
        axes.set_xscale("function", functions=(np.cbrt, lambda x: np.asarray(x) ** 3))
        end = max(1, int(scenes.steps[-1]))
        axes.set_xlim(0, end)
        ticks = _ticks(end)
        axes.set_xticks(ticks, [f"{step:,}" for step in ticks])
        axes.minorticks_off()
        if last:
            axes.set_xlabel("step", labelpad=1)
        else:
            axes.tick_params(labelbottom=False)
        values = np.concatenate(list(of.values())) * percent
        values = values[np.isfinite(values)]
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        if quantity == "r2":
            low = max(low, -0.2)
        if quantity == "loss":
            low, high = 0.0, float(np.quantile(values, 0.98)) if len(values) else 1.0
        margin = 0.06 * (high - low) or 0.5
        axes.set_ylim(low - margin, high + margin)
        lines = {split: axes.plot([], [], color=self.colours.splits[split], label=split)[0] for split in of}
        corner = "upper right" if quantity == "loss" else "lower right"
        legend = axes.legend(loc=corner, frameon=False, borderpad=0, labelspacing=0.3, handlelength=1.2)
        digits = {"loss": 3, "r2": 3}.get(quantity, 1)

        def move(i: int) -> None:
            for (split, line), text in zip(lines.items(), legend.get_texts(), strict=True):
                line.set_data(scenes.steps[: i + 1], of[split][: i + 1] * percent)
                text.set_text(f"{split} {percent * of[split][i]:.{digits}f}")

        self.moving.append(move)


def _rgb(colors: Sequence[str]) -> NDArray[np.float32]:
    from matplotlib.colors import to_rgb

    return np.array([to_rgb(color) for color in colors], np.float32)


def _ticks(end: int) -> list[int]:
    """Steps 0, 1, 2, 5, 10, ... up to the end, as many as have room on an axis of cube roots."""
    ticks: list[int] = []
    for step in sorted((k * 10**e for e in range(12) for k in (1, 2, 5) if k * 10**e <= end), reverse=True):
        place = np.cbrt(step / end)
        if place > 0.12 and (not ticks or np.cbrt(ticks[-1] / end) - place > 0.18):
            ticks.append(step)
    return [0, *reversed(ticks)]


def check_film(path: Path, *, force: bool = False) -> None:
    """Raise ConfigError unless a film can be written to a path: it ends in .gif or .webp, has a folder, and is free."""
    if path.suffix.lower() not in FILMS:
        hint = nearest(path.suffix, FILMS) if path.suffix else ""
        raise ConfigError(f"{path}: a film's file ends in one of {', '.join(FILMS)}; {hint}name it so")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: no such folder {path.parent}; create it, or name another file")
    if path.exists() and not force:
        raise ConfigError(f"{path} exists: choose another name, or replace it with force (--force)")


def save_film(pictures: Iterable[NDArray[np.uint8]], path: str | Path, *, seconds: float = 10.0) -> None:
    """Write pictures as a film that repeats for ever, completely or not at all.

    pictures : at least one, each (height, width, 3).   path : .gif or .webp.
    seconds : from the first picture to the last one, which then stays for 2.5 s.
    Raises ConfigError for another suffix, or where the file cannot be written.
    """
    path = Path(path)
    check_film(path, force=True)
    image = required("PIL.Image", "a film", "plot")
    frames = [image.fromarray(picture) for picture in pictures]
    # GIF counts in hundredths of a second, and programs take what is shorter than two for ten.
    shown = max(20, 10 * round(100 * seconds / max(1, len(frames) - 1)))
    durations = [shown] * (len(frames) - 1) + [int(1000 * PAUSE)]
    content = io.BytesIO()
    about: dict[str, Any] = {"save_all": True, "duration": durations, "loop": 0}
    frames = _in_few_colors(frames)
    if path.suffix.lower() == ".gif":
        frames[0].save(content, format="GIF", append_images=frames[1:], optimize=True, **about)
    else:
        frames = [frame.convert("RGB") for frame in frames]
        frames[0].save(content, format="WEBP", append_images=frames[1:], lossless=True, quality=50, method=2, **about)
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}; name another file") from None


def _in_few_colors(frames: "list[Image.Image]") -> "list[Image.Image]":
    """The frames in 256 colours, the same in all of them: nothing flickers, and files are small."""
    image = required("PIL.Image", "a film", "plot")
    some = frames[:: max(1, len(frames) // 12)] + frames[-1:]
    width, height = frames[0].size
    page = image.new("RGB", (width, height * len(some)))
    for k, frame in enumerate(some):
        page.paste(frame, (0, k * height))
    # What is found are means, in which thin lines and the ground of the page lose their own colours.
    its = DARK if np.asarray(frames[0])[0, 0].max() < 128 else LIGHT
    own = np.rint(255 * _rgb([its.ground, its.ink, its.grey, its.pale, *its.splits.values(), *its.classes])).astype(int)
    palette = page.quantize(256 - len(own), method=image.Quantize.MEDIANCUT)
    colors = np.reshape(palette.getpalette(), (-1, 3))[: 256 - len(own)]
    colors[abs(colors - own[0]).max(axis=1) <= 15] = own[0]
    palette.putpalette([*colors.ravel().tolist(), *own.ravel().tolist()])
    return [frame.quantize(palette=palette, dither=image.Dither.NONE) for frame in frames]
