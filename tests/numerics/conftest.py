"""While these tests run, and only then, the numerics' arguments and results are compared with their signatures."""

import inspect
import typing
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import jaxtyping
import pytest
from beartype import beartype

from xpnet.numerics import augment, counter_rng, functional
from xpnet.numerics.network import MLP

PUBLIC = [getattr(module, name) for module in (augment, counter_rng, functional) for name in module.__all__]
SIGNED: list[Callable[..., Any]] = [*filter(inspect.isfunction, PUBLIC), MLP.forward, MLP.layers, MLP.loss_and_grads]


def checked(function: Any) -> Callable[..., Any]:
    """A copy of a function that raises jaxtyping.TypeCheckError where its signature is not kept."""
    copy = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    copy.__kwdefaults__, copy.__module__ = function.__kwdefaults__, function.__module__
    # In use nobody has imported the names of the annotations.
    copy.__annotations__ = typing.get_type_hints(function, vars(jaxtyping) | function.__globals__)
    return jaxtyping.jaxtyped(typechecker=beartype)(copy)


def _detour(*args: Any, to: Callable[..., Any], **options: Any) -> Any:
    return to(*args, **options)


@pytest.fixture(scope="package", autouse=True)
def shapes_are_checked() -> Iterator[None]:
    """Exchanges the functions' code: the functions themselves are held by tables, defaults and other modules."""
    with pytest.MonkeyPatch.context() as patch:
        for function in SIGNED:
            copy = checked(function)
            patch.setattr(function, "__signature__", inspect.signature(function), raising=False)
            patch.setattr(function, "__defaults__", None)
            patch.setattr(function, "__kwdefaults__", {"to": copy})
            patch.setattr(function, "__code__", _detour.__code__)
        yield
