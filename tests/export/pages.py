"""Pages under test: models of pictures, their descriptions, and strokes of the mouse."""

import json
import re
from typing import Any

import xpnet
from tests.export.models import made
from xpnet.data.schema import PIXELS

ONE = [(0.5, 0.2), (0.5, 0.8)]
SEVEN = [(0.25, 0.2), (0.7, 0.2), (0.45, 0.8)]


def drawer(sizes: tuple[int, ...] = (784, 12, 10), form: str = "mnist", **schema: Any) -> xpnet.Model:
    """A network of pictures with random parameters."""
    described: dict[str, Any] = {"features": PIXELS, "image_shape": (28, 28), "form": form, "temperature": 1.0}
    return made(sizes=sizes, **(described | schema))


def certain(logits: list[float], loss: str = "cross-entropy", **schema: Any) -> xpnet.Model:
    """A network that gives the same logits to any picture."""
    model = made(loss=loss, sizes=(784, len(logits)), features=PIXELS, image_shape=(28, 28), temperature=1.0, **schema)
    model.params[0][:] = 0
    model.params[1][:] = logits
    return model


def model_of(page: bytes) -> dict[str, Any]:
    """The description of a model that a page holds."""
    (found,) = re.findall(rb'<script type="application/json" id="model">(.*?)</script>', page)
    described: dict[str, Any] = json.loads(found)
    return described


def draw(tab: Any, *strokes: list[tuple[float, float]]) -> None:
    """Draw with the mouse; points in shares of the paper."""
    box = tab.locator("#paper").bounding_box()
    for stroke in strokes:
        for i, (x, y) in enumerate(stroke):
            tab.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
            if i == 0:
                tab.mouse.down()
        tab.mouse.up()
    tab.evaluate("drawNow()")
