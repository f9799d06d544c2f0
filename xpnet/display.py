"""How figures are shown to people: lengths of time in words, numbers, and tables for notebooks."""

import html
import itertools
from collections.abc import Mapping

__all__ = ["duration", "html_table", "plain"]


def duration(seconds: float) -> str:
    """A length of time in words, to two places: "8 s", "1 min 5 s", "2 h 3 min", "3 d 4 h"."""
    whole = round(max(0.0, seconds))
    for (large, size), (small, part) in itertools.pairwise((("d", 86400), ("h", 3600), ("min", 60), ("s", 1))):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {large}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def plain(number: float) -> str:
    """A number to five digits, and up to 1e9 to all those before the point: "0.012346", "4911085"."""
    return f"{number:.0f}" if 1e4 <= abs(number) < 1e9 else f"{number:.5g}"


def html_table(title: str, rows: Mapping[str, object]) -> str:
    """A table with a title and a row for each name and its value; floats are shown with four digits."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
        for name, value in ((name, f"{v:.4g}" if isinstance(v, float) else str(v)) for name, v in rows.items())
    )
    return f"<table><caption style='text-align:left'><b>{html.escape(title)}</b></caption>{cells}</table>"
