"""An explanation in the terminal: pixels or features for and against, hidden units, similar examples."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xpnet.cli.readings import Reader, Reading, heading_of, value_of
from xpnet.cli.terminal import SIGNS, Bar, cut, draw, draw_bars, draw_map, in_colour, print_flow, result_console
from xpnet.display import plain
from xpnet.errors import one_line
from xpnet.model import Explanation, Neighbours

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["print_explanation", "title_of"]

MOST_FEATURES, MOST_UNITS = 12, 8
# Columns of the bars of features and of units, and of a similar example's picture.
FEATURES, UNITS, SMALL = 60, 46, 14
FOR, AGAINST = "bright_red", "bright_blue"


def print_explanation(reader: Reader, reading: Reading, explanation: Explanation) -> None:
    """Print the answer, what is for and against it, the units that fire most, similar examples, an empty line."""
    console, image = result_console(), reading.image
    console.print(title_of(reader, reading, explanation), soft_wrap=True)
    console.print(_equation(explanation, signs=image.ndim == 2 and not in_colour(console)), soft_wrap=True)
    if image.ndim == 2:
        blocks = [draw(image, console), draw_map(image, explanation.contributions, console)]
    else:
        blocks = [_features(explanation, console)]
    if explanation.layers:
        blocks.append(_units(explanation, console))
    print_flow(blocks, console)
    if explanation.neighbours is not None:
        space = "last hidden layer" if explanation.layers else "scaled features"
        console.print(f"most similar training examples, by the {space}: distance and index", style="dim")
        if image.ndim == 2:
            print_flow(list(_pictures(explanation.neighbours, console)), console)
        else:
            console.print(_rows(explanation.neighbours))
    console.print()


def title_of(reader: Reader, reading: Reading, explanation: Explanation) -> "Text":
    """What was read, as predict prints it, and the class that comes next."""
    heading, k = heading_of(reader, reading), explanation.runner_up
    if k is None:
        return heading
    return heading.append(f"; next is {reader.names[k]} ({value_of(reader, reading.outputs[k]).strip()})")


def _equation(explanation: Explanation, *, signs: bool) -> "Text":
    """What is for and against, with the signs that stand for them where there are no colours."""
    from rich.text import Text

    text, (above, below, _) = Text(explanation.equation), explanation.terms
    text.highlight_regex(rf"[\d.]+ {above}\b", FOR)
    text.highlight_regex(rf"[\d.]+ {below}\b", AGAINST)
    return text.append(f" ({SIGNS[3]} and {SIGNS[4]} {above}, {SIGNS[1]} and {SIGNS[0]} {below})" if signs else "")


def _features(explanation: Explanation, console: "Console") -> "Text":
    """A bar for each of the features that contribute most."""
    contributions = explanation.contributions.reshape(-1)
    order = np.argsort(-abs(contributions), kind="stable")[:MOST_FEATURES]
    names = explanation.columns or [f"feature {i}" for i in range(len(contributions))]
    values = explanation.image.reshape(-1)
    largest = abs(contributions[order[0]]) or 1.0
    bars = [
        Bar(
            f"{cut(one_line(names[i]))} = {plain(values[i])}",
            abs(contributions[i]) / largest,
            f"{contributions[i]:+.{explanation.decimals}f}",
            _style(contributions[i]),
        )
        for i in order
    ]
    n = len(contributions)
    title = "what the features contribute" + f", {len(order)} of {n}" * (len(order) < n)
    return _titled(title, draw_bars(bars, console, min(console.width, FEATURES)))


def _units(explanation: Explanation, console: "Console") -> "Text":
    """A bar for each of the units of the last hidden layer that fire most."""
    activations, contributions = explanation.layers[-1]
    order = np.argsort(-abs(activations), kind="stable")[:MOST_UNITS]
    largest = abs(activations[order[0]]) or 1.0
    bars = [
        Bar(
            f"unit {i}",
            abs(activations[i]) / largest,
            f"{activations[i]:6.2f} {contributions[i]:+{explanation.decimals + 5}.{explanation.decimals}f}",
            _style(contributions[i]),
        )
        for i in order
    ]
    title = "hidden units that fire most: activation, contribution"
    return _titled(title, draw_bars(bars, console, min(console.width, UNITS)))


def _pictures(near: Neighbours, console: "Console") -> Iterator["Text"]:
    """Each of the similar images in small, below its label."""
    from rich.text import Text

    for label, i, distance, image in zip(_labels(near), near.indices, near.distances, near.images, strict=True):
        caption = Text(f"{distance:.2f}, {i}", "dim")
        yield Text("\n").join([Text(cut(label, SMALL), "bold"), draw(_small(image), console), caption])


def _rows(near: Neighbours) -> "Text":
    """A line for each of the similar examples."""
    from rich.text import Text

    rows = zip(_labels(near), near.indices, near.distances, strict=True)
    lines = [Text.assemble(f"{distance:8.2f} {i:9}  ", (cut(label, 50), "bold")) for label, i, distance in rows]
    return Text("\n", no_wrap=True).join(lines)


def _labels(near: Neighbours) -> Sequence[str]:
    return near.labels or ["no label"] * len(near.indices)


def _small(image: NDArray[Any]) -> NDArray[Any]:
    """A picture of at most SMALL columns, each pixel the mean of several."""
    size = -(-image.shape[1] // SMALL)
    padded = np.pad(image.astype(np.float64), [(0, -side % size) for side in image.shape], "edge")
    small = padded.reshape(len(padded) // size, size, -1, size).mean(axis=(1, 3))
    shown: NDArray[Any] = small.astype(image.dtype)
    return shown


def _style(contribution: float) -> str:
    return FOR if contribution > 0 else AGAINST if contribution < 0 else ""


def _titled(title: str, block: "Text") -> "Text":
    from rich.text import Text

    return Text("\n", no_wrap=True).join([Text(title, "dim"), block])
