"""A model whose features and outputs come in another order: names tell which is which."""

import dataclasses
from typing import TYPE_CHECKING, Any

from xpnet.data import Scaling

if TYPE_CHECKING:
    from xpnet.model.model import Model

__all__ = ["reordered"]


def reordered(model: "Model", columns: tuple[str, ...], outputs: tuple[Any, ...] = ()) -> "Model":
    """The model with its features and its outputs in another order, where their names are the same.

    columns : names of the features in that order, () for the model's own.   outputs : likewise.
    """
    schema = model.schema
    rows, units = _order(schema.columns, columns), _order(schema.classes, outputs)
    if rows is None and units is None:
        return model
    params = [model.backend.to_host(a) for a in model.params]
    if rows is not None:
        params[0] = params[0][rows, :]
        schema = dataclasses.replace(schema, columns=columns, features=_permuted(schema.features, rows))
    if units is not None:
        params[-2:] = params[-2][:, units], params[-1][units]
        schema = dataclasses.replace(schema, classes=outputs, targets=_permuted(schema.targets, units))
    return dataclasses.replace(model, params=[model.backend.to_device(a) for a in params], schema=schema)


def _order(known: tuple[Any, ...], wanted: tuple[Any, ...]) -> list[int] | None:
    """The places of some names among known ones; None where they are as known, or not the same, or not one each."""
    if wanted == known or not len(set(wanted)) == len(wanted) == len(known) or set(wanted) != set(known):
        return None
    return [known.index(name) for name in wanted]


def _permuted(scaling: Scaling, order: list[int]) -> Scaling:
    return scaling.on(lambda a: a[order])
