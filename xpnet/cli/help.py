"""What --help prints: examples first, then the flags that most people need, and all of them by --help-all."""

from typing import Any

from cyclopts.help import DefaultFormatter

__all__ = ["EXAMPLES", "Help"]

EXAMPLES: dict[str, tuple[str, ...]] = {
    "": ("xpnet train", "xpnet predict", "xpnet draw"),
    "train": (
        "xpnet train",
        "xpnet train --data fashion-mnist --hidden 512 256 --dropout 0.2 --epochs 20",
        "xpnet train --data houses.csv --label price",
        "xpnet train --recipe best-cpu",
        "xpnet train --resume runs/mine --epochs 40",
    ),
    "evaluate": ("xpnet evaluate", "xpnet evaluate runs/a runs/b --data digits", "xpnet evaluate runs/mine --json"),
    "predict": ("xpnet predict", "xpnet predict runs/mine photo.jpg", "xpnet predict runs/mine --index 0-9"),
    "explain": ("xpnet explain runs/mine --index 247", "xpnet explain runs/mine photo.jpg --out why.png"),
    "plot": ("xpnet plot", "xpnet plot runs/a runs/b --out both.png", "xpnet plot runs/mine --confusion --mistakes"),
    "animate": ("xpnet animate", "xpnet animate runs/mine --out film.webp"),
    "summary": ("xpnet summary runs/mine",),
    "runs": ("xpnet runs", "xpnet runs --sort accuracy"),
    "compare": ("xpnet compare runs/a runs/b",),
    "export": ("xpnet export mnist.onnx", "xpnet export runs/mine mnist.h --quantize int8", "xpnet export page.html"),
    "draw": ("xpnet draw", "xpnet draw runs/mine"),
    "import": (
        "xpnet import model.onnx",
        "xpnet import model.pt --activation relu --loss cross-entropy --white 255",
    ),
    "recipes": ("xpnet recipes", "xpnet recipes best-cpu > mine.toml"),
    "reproduce": ("xpnet reproduce fast", "xpnet reproduce simard2003-plain --seeds 1"),
    "lr-find": ("xpnet lr-find", "xpnet lr-find --optimizer adam"),
    "tune": ("xpnet tune --trials 20", "xpnet tune --data houses.csv --out tuned"),
    "gradcheck": ("xpnet gradcheck", "xpnet gradcheck --devices cpu cuda"),
    "data": ("xpnet data list", "xpnet data show fashion-mnist", "xpnet data split mnist parts --parts 8"),
    "data list": ("xpnet data list",),
    "data download": ("xpnet data download fashion-mnist",),
    "data show": ("xpnet data show fashion-mnist", "xpnet data show mnist --index 0-9 --augment"),
    "data split": ("xpnet data split mnist parts --parts 8",),
    "info": ("xpnet info", "xpnet info --json"),
}
"""How each command, and each of data's, is called, and "" for the program."""


TAKE_SETTINGS = {"train", "lr-find", "tune"}
"""The commands whose flags are the settings."""


class Help(DefaultFormatter):
    """Prints examples behind the description, and leaves out what is not asked for.

    command : the one that is explained, or "".   everything : whether all settings are shown, not only the common ones.
    """

    def __init__(self, command: str, *, everything: bool) -> None:
        super().__init__()
        self._command, self._everything = command, everything

    def render_description(self, console: Any, options: Any, description: Any) -> None:
        """The description, and the examples, each of them a line that can be copied."""
        super().render_description(console, options, description)
        for example in EXAMPLES.get(self._command, ()):
            console.print(f"  $ {example}", style="dim", markup=False, highlight=False, soft_wrap=True)
        console.print()

    def __call__(self, console: Any, options: Any, panel: Any) -> None:
        """A panel of flags, without those that few people need."""
        if self._command in TAKE_SETTINGS and not self._everything:
            # These import NumPy, which is too much for the help of other commands.
            from xpnet.cli.settings import flag_name
            from xpnet.training.config import SETTINGS

            rare = {flag_name(name) for name, setting in SETTINGS.items() if not setting.common}
            panel = panel.copy(
                entries=[entry for entry in panel.entries if not rare.intersection(entry.positive_names)]
            )
        if panel.entries:
            super().__call__(console, options, panel)
