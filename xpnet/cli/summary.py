"""xpnet summary."""

import dataclasses
import json
from typing import Annotated

from cyclopts import Parameter

from xpnet.cli.datasets import ModelPath, newest_run
from xpnet.model import load

__all__ = ["summary"]


def summary(
    model: ModelPath = None,
    /,
    *,
    as_json: Annotated[bool, Parameter("--json", negative="", help="Print JSON.", show_default=False)] = False,
) -> None:
    """Show a model's layers, shapes and parameters, and the arithmetic per image."""
    model = model or newest_run()
    trained = load(model, "cpu")
    found = trained.summary()
    if as_json:
        numbers = dataclasses.asdict(found) | {"parameters": found.parameters, "flops": found.flops}
        print(json.dumps({"model": str(model), **numbers}, indent=2))
    else:
        print(f"{model}: {found}\n\nFLOPs count the matrix products for one example, two per weight.")
