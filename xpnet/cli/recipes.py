"""xpnet recipes."""

import json
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from xpnet.cli.terminal import print_table, result_console, say, table_width
from xpnet.recipes import Recipe, read_recipe, recipe_names, recipe_text

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["recipes"]

GROUPS = ("xpnet's own", "published networks", "the five that xpnet grew from")
COLUMNS = ("recipe", "what it is", "reaches", "published")


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
        _print_all(result_console())


def _print_all(console: "Console") -> None:
    groups: dict[str, list[dict[str, str]]] = {name: [] for name in GROUPS}
    found = {name: read_recipe(name) for name in recipe_names()}
    for name, recipe in sorted(found.items(), key=lambda item: item[1].measured or item[1].reported or 0.0):
        figures = (f"{x:.2f} %" if x else "" for x in (recipe.measured, recipe.reported))
        groups[_group(recipe)].append(dict(zip(COLUMNS, (name, recipe.short, *figures), strict=True)))
    for title, rows in groups.items():
        console.print(title, style="bold")
        if not console.is_terminal or table_width(rows, COLUMNS[:-1]) <= console.width:
            print_table(rows, COLUMNS, console, right=COLUMNS[2:], less=COLUMNS[3:], headings=False)
        else:
            for row in rows:
                print_table([row], ("recipe", "reaches"), console, headings=False)
                say(f"  {row['what it is']}", console, 2)
        console.print()
    say(
        "Accuracies are on MNIST's test images: first the one reached here, then the published one. xpnet train "
        "--recipe NAME trains one, xpnet reproduce NAME measures it, xpnet recipes NAME prints it with its source.",
        console,
    )


def _group(recipe: Recipe) -> str:
    if recipe.source == "xpnet's own.":
        return GROUPS[0]
    return GROUPS[1] if recipe.seeds else GROUPS[2]
