"""xpnet lr-find."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter

from xpnet import plots
from xpnet.cli.settings import (
    RUN,
    Dark,
    DataDir,
    NoDownload,
    RecipeName,
    chosen,
    flag_name,
    opened,
    takes_settings,
    whole_numbers,
)
from xpnet.cli.terminal import fill, working
from xpnet.errors import ConfigError, MissingPackageError
from xpnet.numerics.network import MLP
from xpnet.studies.lr_find import RateRange, find_lr

__all__ = ["lr_find"]


@takes_settings
def lr_find(
    *,
    low: Annotated[float, Parameter(group=RUN, help="Learning rate of the first step.", metavar="X")] = 1e-4,
    high: Annotated[float, Parameter(group=RUN, help="Learning rate of the last step.", metavar="X")] = 10.0,
    steps: Annotated[
        int, Parameter(group=RUN, converter=whole_numbers, help="Number of steps from --low to --high.", metavar="N")
    ] = 400,
    data_dir: DataDir = None,
    no_download: NoDownload = False,
    recipe: RecipeName = None,
    out: Annotated[Path, Parameter(group=RUN, help="Picture file: .png, .svg or .pdf.", metavar="FILE")] = Path(
        "lr-find.png"
    ),
    dark: Annotated[Dark, Parameter(group=RUN)] = False,
    as_json: Annotated[
        bool, Parameter("--json", group=RUN, negative="", help="Print JSON.", show_default=False)
    ] = False,
    **settings: Any,
) -> None:
    """Find a good learning rate by training while it rises.

    The rate rises until the loss diverges. The network and the training are
    those of xpnet train with the same flags; only the picture is saved.
    """
    plots.format_of(out)
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: no such directory {out.parent}; create it, or name another file")
    config = chosen(recipe, settings)
    config.warn_of_idle(settings, flag_name)
    backend, data, network = opened(config, data_dir, download=not no_download)
    if not isinstance(network, MLP):
        raise ConfigError("--from is for xpnet train: the range test starts from random parameters")
    with working("raising the rate") as show:
        found = find_lr(
            *(network, data, config),
            backend=backend,
            low=low,
            high=high,
            steps=steps,
            report=lambda done: show("raising the rate", done, steps),
        )
    if found.smoothed.argmin() == steps - 1:
        print(fill(f"the loss was still falling at the last rate, {high:g}: try a higher --high"), file=sys.stderr)
    if as_json:
        listed = {name: np.asarray(value).tolist() for name, value in found._asdict().items()}
        print(json.dumps(listed))
    else:
        _print(found)
    try:
        with plots.dark(dark):
            plots.save(plots.learning_rates(found.rates, found.losses, found.smoothed, found.suggestion), out)
    except MissingPackageError as error:
        print(fill(f"{out} was not drawn: {error}"), file=sys.stderr)
        return
    print(f"saved {out}", file=sys.stderr if as_json else sys.stdout)


def _print(found: RateRange) -> None:
    lowest = found.smoothed.argmin()
    print(f"suggested: --lr {found.suggestion:.2g}")
    print(
        f"half of {found.rates[lowest]:.2g}, where the smoothed loss was lowest ({found.smoothed[lowest]:.3g}), "
        f"after {len(found.rates)} steps from {found.rates[0]:.2g} to {found.rates[-1]:.2g}"
    )
