"""xpnet lr-find."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter

from xpnet import plots
from xpnet.cli.settings import RUN, DataDir, NoDownload, RecipeName, chosen, opened, takes_settings, whole_numbers
from xpnet.cli.terminal import step_bar
from xpnet.errors import ConfigError, MissingPackageError
from xpnet.studies.lr_find import RateRange, find_lr

__all__ = ["lr_find"]


@takes_settings
def lr_find(
    *,
    low: Annotated[float, Parameter(group=RUN, help="The rate of the first step.", metavar="X")] = 1e-4,
    high: Annotated[float, Parameter(group=RUN, help="The rate of the last step.", metavar="X")] = 10.0,
    steps: Annotated[
        int, Parameter(group=RUN, converter=whole_numbers, help="Steps from the one to the other.", metavar="N")
    ] = 400,
    data_dir: DataDir = None,
    no_download: NoDownload = False,
    recipe: RecipeName = None,
    out: Annotated[Path, Parameter(group=RUN, help="The picture: a .png, .svg or .pdf file.", metavar="FILE")] = Path(
        "lr-find.png"
    ),
    as_json: Annotated[
        bool, Parameter("--json", group=RUN, negative="", help="Print JSON.", show_default=False)
    ] = False,
    **settings: Any,
) -> None:
    """Look for a good learning rate: train while it climbs.

    It climbs until the loss runs away. The network and the training are those
    that xpnet train would take with the same flags; only the picture is kept.
    """
    plots.format_of(out)
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no directory {out.parent}")
    config = chosen(recipe, settings)
    backend, data, network = opened(config, data_dir, download=not no_download)
    with step_bar(steps) as report:
        found = find_lr(network, data, config, backend=backend, low=low, high=high, steps=steps, report=report)
    if found.smoothed.argmin() == len(found.smoothed) - 1:
        print(f"the loss was still falling at the last rate, {high:g}: a higher --high says more", file=sys.stderr)
    if as_json:
        listed = {name: np.asarray(value).tolist() for name, value in found._asdict().items()}
        print(json.dumps(listed))
    else:
        _print(found)
    try:
        plots.save(plots.learning_rates(found.rates, found.losses, found.smoothed, found.suggestion), out)
    except MissingPackageError as error:
        print(f"no {out}: {error}", file=sys.stderr)
        return
    print(f"saved {out}", file=sys.stderr if as_json else sys.stdout)


def _print(found: RateRange) -> None:
    lowest = found.smoothed.argmin()
    print(f"suggested: --lr {found.suggestion:.2g}")
    print(
        f"half of {found.rates[lowest]:.2g}, at which the smoothed loss was smallest ({found.smoothed[lowest]:.3g}), "
        f"after {len(found.rates)} steps from {found.rates[0]:.2g} to {found.rates[-1]:.2g}"
    )
