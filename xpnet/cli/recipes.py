"""xpnet recipes."""

import json
from typing import Annotated

from cyclopts import Parameter

from xpnet.cli.terminal import result_console
from xpnet.recipes import read_recipe, recipe_names, recipe_text

__all__ = ["recipes"]


def recipes(
    name: Annotated[str | None, Parameter(help="Recipe to print, to copy and change.")] = None,
    /,
    *,
    as_json: Annotated[bool, Parameter("--json", negative="", help="Print JSON.", show_default=False)] = False,
) -> None:
    """List the recipes for xpnet train --recipe, or print one as TOML."""
    if as_json:
        chosen = [name] if name else recipe_names()
        print(json.dumps({each: read_recipe(each)._asdict() for each in chosen}, indent=2))
    elif name:
        read_recipe(name)
        print(recipe_text(name), end="")
    else:
        _print_all()


def _print_all() -> None:
    from rich.table import Table

    console = result_console()
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for i, name in enumerate(recipe_names()):
        recipe = read_recipe(name)
        reported = f"reported {recipe.reported:.2f} %" if recipe.reported else "no accuracy reported"
        measured = f", here {recipe.measured:.2f} %" if recipe.measured else ""
        changed = [f"differences: {recipe.changed}"] if recipe.changed else []
        blank = [("", "")] if i else []
        lines = [("", line) for line in (recipe.source, *changed, reported + measured)]
        for first, line in (*blank, (name, recipe.what), *lines):
            table.add_row(first, line)
    console.print(table)
    print("\nAccuracies are on MNIST's test set; xpnet's own are means of three seeds.")
    print("xpnet train --recipe NAME runs one, xpnet reproduce NAME measures it; xpnet recipes NAME prints it.")
