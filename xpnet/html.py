"""HTML for notebooks."""

import html
from collections.abc import Mapping

__all__ = ["html_table"]


def html_table(title: str, rows: Mapping[str, object]) -> str:
    """A table with a title and a row for each name and its value; floats are shown with four digits."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
        for name, value in ((name, f"{v:.4g}" if isinstance(v, float) else str(v)) for name, v in rows.items())
    )
    return f"<table><caption style='text-align:left'><b>{html.escape(title)}</b></caption>{cells}</table>"
