"""What this site needs beyond Sphinx and MyST: xpnet's docstrings, its flags, and equations as MathML.

A docstring is one sentence, an indented equation, lines such as `x : (n, k) floats.   lr : > 0.`, and sentences that
begin with Returns, Raises, Yields or Source; here they become a literal block and a list of fields. The flags are read
from the parser that prints --help, and the settings from the table that the flags are made from. Equations become
MathML, which browsers draw by themselves: no page asks a network for anything.
"""

import re
from itertools import groupby
from typing import Any

from cyclopts.help import DefaultFormatter
from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import xpnet
from xpnet import errors
from xpnet.cli import COMMANDS, _app
from xpnet.cli.help import EXAMPLES
from xpnet.numerics import functional
from xpnet.training.config import SETTINGS
from xpnet.training.setting import GROUPS

# Docstrings -----------------------------------------------------------------------------------------------------------

ARGUMENT = re.compile(r"(\*{0,2}\w+(?: \w+)?(?:, \*{0,2}\w+(?: \w+)?)*) : ")
FIELDS = ("Returns", "Raises", "Yields", "Source")
ERRORS = [name for name in errors.__all__ if name.endswith("Error")]


def fields_of(lines: list[str]) -> list[str]:
    """A docstring of the house as reStructuredText."""
    out: list[str] = []
    fields: list[tuple[str, str]] = []
    for indented, block in groupby(_blocks(lines), key=lambda block: block[0].startswith("    ")):
        if indented:
            out += _listed(fields)
            fields = []
            out += [".. code-block:: text", "", *[line for each in block for line in [*each, ""]]]
            continue
        for each in block:
            text: list[str] = []
            for name, words in _sentences(each):
                if name:
                    fields.append((name, words))
                elif fields and fields[-1][0] not in FIELDS and text:
                    fields[-1] = (fields[-1][0], f"{fields[-1][1]} {words}")
                else:
                    text.append(words)
            if text:
                out += [_escaped(" ".join(text)), ""]
    return out + _listed(fields)


def _blocks(lines: list[str]) -> list[list[str]]:
    return [list(block) for blank, block in groupby(lines, key=lambda line: not line.strip()) if not blank]


def _sentences(block: list[str]) -> list[tuple[str, str]]:
    """The arguments, results and errors of a paragraph by name; other words have the name ""."""
    found: list[tuple[str, str]] = []
    for line in block:
        if line.startswith("    ") and found:  # what continues the line above
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
            continue
        for part in re.split(r" {3,}(?=\S)", line.strip()):
            word, _, rest = part.partition(" ")
            if word.rstrip(":") in FIELDS:
                found.append((word.rstrip(":"), rest))
            elif argument := ARGUMENT.match(part):
                found.append((argument[1].strip(), part[argument.end() :]))
            elif found and part is not None and (found[-1][0] in FIELDS or not found[-1][0]):
                found[-1] = (found[-1][0], f"{found[-1][1]} {part}")
            else:
                found.append(("", part))
    # The lines of the continuations may themselves hold several arguments.
    split: list[tuple[str, str]] = []
    for name, words in found:
        first, *others = re.split(r" {3,}(?=\S)", words)
        split.append((name, first))
        split += _sentences(others) if others else []
    return split


def _listed(fields: list[tuple[str, str]]) -> list[str]:
    out: list[str] = []
    arguments = [(name, words) for name, words in fields if name not in FIELDS]
    if arguments:
        out += [":Parameters:"]
        out += [f"    - **{_escaped(name)}**: {_escaped(words)}" for name, words in arguments]
    for field in FIELDS:
        if words := " ".join(words for name, words in fields if name == field):
            out.append(f":{field}: {_escaped(words)}")
    return [*out, ""] if out else []


def _escaped(text: str) -> str:
    """Prose as reStructuredText: what stands in backticks is code, the names of errors are links, the rest is plain."""
    parts = re.split(r"(``.+?``|`.+?`)", text)
    return "".join(
        f"``{part.strip('`')}``"
        if part.startswith("`") and len(part) > 2
        else _linked(re.sub(r"([\\*`|_])", r"\\\1", part))
        for part in parts
    )


def _linked(text: str) -> str:
    return re.sub(rf"\b({'|'.join(ERRORS)})\b(?!\w)", r":py:exc:`~xpnet.errors.\1`", text)


def process_docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Sphinx's hook."""
    lines[:] = fields_of(lines)


def process_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Sphinx's hook: NumPy's ArrayLike by its name."""
    return signature and re.sub(r"_Buffer \| .*?complex \| bytes \| str\]", "ArrayLike", signature), returns


def skip_member(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Sphinx's hook: the fields of a named tuple are described by the tuple."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else None


# Commands and settings ------------------------------------------------------------------------------------------------


class Table(DefaultFormatter):
    """Keeps what --help would print."""

    def __init__(self) -> None:
        super().__init__()
        self.usage, self.description, self.panels = "", "", list[Any]()

    def render_usage(self, console: Any, options: Any, usage: Any) -> None:
        self.usage = _plain(usage)

    def render_description(self, console: Any, options: Any, description: Any) -> None:
        self.description = _plain(description)

    def __call__(self, console: Any, options: Any, panel: Any) -> None:
        self.panels.append(panel)


def help_of(*command: str) -> Table:
    """What `xpnet COMMAND --help-all` says."""
    table, app = Table(), _app([*command, "--version"], everything=True)
    app.help_formatter = table
    app.help_epilogue = ""
    app.help_print(list(command))
    return table


def _plain(text: Any) -> str:
    if text is None or isinstance(text, str):
        return text or ""
    return str(getattr(text, "plain", None) or getattr(text, "primary_renderable", None) or text)


def _marked(text: str) -> str:
    """Prose as Markdown."""
    return re.sub(r"([\\`*_\[\]<>$|#~])", r"\\\1", text)


def _options(panel: Any) -> list[str]:
    lines = []
    for entry in panel.entries:
        names = ", ".join([*entry.positive_names, *entry.positive_shorts, *entry.negative_names])
        shown = " ".join(part for part in (names, entry.metavar) if part) or entry.positional_label
        notes = [f"one of {', '.join(f'`{choice}`' for choice in entry.choices)}"] if entry.choices else []
        notes += ["required"] if entry.required else [f"default `{entry.default}`"] if entry.default else []
        note = f" ({'; '.join(notes)})" if notes else ""
        lines += [f"```{{option}} {shown}", f"{_marked(_plain(entry.description))}{note}", "```", ""]
    return lines


class Commands(SphinxDirective):
    """Every command, with its examples and all of its flags."""

    def run(self) -> list[nodes.Node]:
        lines: list[str] = []
        for name in COMMANDS:
            commands = [[name]]
            if name == "data":
                panels = help_of(name).panels
                commands += [[name, entry.positive_names[0]] for panel in panels for entry in panel.entries]
            for command in commands:
                lines += self.described(command)
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)

    def described(self, command: list[str]) -> list[str]:
        name, table = " ".join(command), help_of(*command)
        lines = [f"(xpnet-{'-'.join(command)})=", f"{'#' * (1 + len(command))} xpnet {name}", ""]
        lines += [*[_marked(line.strip()) for line in table.description.splitlines()], ""]
        if examples := EXAMPLES.get(name):
            lines += ["```text", *[f"$ {example}" for example in examples], "```", ""]
        lines += [f"```{{program}} xpnet {name}", "```", ""]
        for panel in table.panels:
            if panel.format == "parameter" and panel.entries:
                lines += [f"**{_plain(panel.title)}**", "", *_options(panel)]
        return lines


class Settings(SphinxDirective):
    """Every setting of TrainConfig."""

    def run(self) -> list[nodes.Node]:
        lines: list[str] = []
        for group in GROUPS:
            members = [setting for setting in SETTINGS.values() if setting.group == group]
            lines += [f"## {group}", ""]
            for each in members:
                default = "" if each.default is None else f" = {each.default!r}"
                lines += [f"`{each.name}{default}`", f": {_marked(each.explained())}", ""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


# Pages that are the repository's own ---------------------------------------------------------------------------------

BORROWED = {
    "security": "SECURITY.md",
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "reference/data-sets": "data/README.md",
}


def borrow(app: Sphinx, docname: str, source: list[str]) -> None:
    """Sphinx's hook: a page that is a file of the repository has its text, with links that hold from here."""
    if docname not in BORROWED:
        return
    root, up = app.srcdir.parent, "../" * docname.count("/")
    pages = {file: f"{up}{page}.md" for page, file in BORROWED.items()} | {"README.md": f"{up}index.md"}

    def moved(link: re.Match[str]) -> str:
        path = link[1]
        return f"]({pages[path]})" if path in pages else f"]({up}../{path})" if (root / path).exists() else link[0]

    source[0] = re.sub(r"\]\(([^)#:]+)\)", moved, (root / BORROWED[docname]).read_text(encoding="utf-8"))


# Equations ------------------------------------------------------------------------------------------------------------


def inline(self: Any, node: nodes.math) -> None:
    """An equation within a line."""
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def display(self: Any, node: nodes.math_block) -> None:
    """An equation in a line of its own."""
    self.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def check_names(app: Sphinx, env: Any) -> None:
    """Sphinx's hook: every public name is somewhere in the reference."""
    documented = {name.rpartition(".")[2] for name in env.domains.python_domain.objects}
    public = {*xpnet.__all__, *functional.__all__} - {"__version__", "ACTIVATIONS", "LOSSES"}
    for name in sorted(public - documented):
        logging.getLogger(__name__).warning("%s is not in the reference", name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register all of it with Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", process_docstring)
    app.connect("autodoc-process-signature", process_signature)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("source-read", borrow)
    app.connect("env-check-consistency", check_names)
    app.add_directive("commands", Commands)
    app.add_directive("settings", Settings)
    app.add_html_math_renderer("mathml", (inline, None), (display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
