"""Gradients three ways: finite differences, torch's autograd as an independent implementation, and across libraries."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.conftest import ArrayLibrary, open_backend, relative_error
from xpnet.backend import select
from xpnet.numerics import functional as F
from xpnet.numerics.network import MLP
from xpnet.studies import gradcheck
from xpnet.training.initializers import init_params, init_running

CASES = {case.name: case for case in gradcheck.cases()}
BOUND_AUTOGRAD = 1e-12


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> gradcheck.Case:
    return CASES[request.param]


def test_finite_differences(case: gradcheck.Case) -> None:
    numpy = select("cpu")
    numeric = gradcheck.finite_differences(case, numpy)
    for exact, estimate in zip(gradcheck.gradients(case, numpy), numeric, strict=True):
        assert exact.shape == estimate.shape
    assert gradcheck.relative_error(gradcheck.gradients(case, numpy), numeric) < gradcheck.BOUNDS["finite differences"]


def test_libraries_agree(case: gradcheck.Case, xp: ArrayLibrary) -> None:
    """Every variant of every library gives NumPy's float64 value and gradients, to its precision."""
    value, vjp = case.function(*case.inputs, *case.constants, xp=np)
    u = np.random.default_rng(3).normal(size=np.shape(value))
    n = len(case.inputs)

    def value_and_grads(*arrays: Any) -> tuple[Any, ...]:
        value, vjp = case.function(*arrays[1:], xp=xp.xp)
        return value, *vjp(arrays[0])

    arrays = [xp(u), *map(xp, case.inputs), *map(xp, case.constants)]
    actual = xp.run(value_and_grads, *arrays)
    assert len(actual) == n + 1
    for a, desired in zip(actual, [value, *vjp(u)], strict=True):
        xp.assert_close(a, desired, 10 * xp.tolerance)


def test_namespace_is_looked_up(case: gradcheck.Case) -> None:
    """Without xp= the functions find the namespace themselves."""
    strict = select("device1", "array-api-strict")
    arrays = [strict.to_device(a) for a in (*case.inputs, *case.constants)]
    value, vjp = case.function(*arrays, xp=None)
    assert all(a.device == value.device for a in vjp(value))


def test_check_sees_a_wrong_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check is checked: a mask that is off in one place in a hundred is found, and so is a NaN."""

    def wrong_tanh(z: Any, *, xp: Any) -> tuple[Any, Callable[..., Any]]:
        y = xp.tanh(z)
        return y, lambda dy: dy * (1.0 - 0.99999 * y * y)

    def nan_tanh(z: Any, *, xp: Any) -> tuple[Any, Callable[..., Any]]:
        y = xp.tanh(z)
        return y, lambda dy: dy * float("nan")

    for broken in (wrong_tanh, nan_tanh):
        monkeypatch.setitem(F.ACTIVATIONS, "tanh", broken)
        bad = {c.case for c in gradcheck.check([select("cpu")]) if not c.ok}
        assert {"tanh", "network 5-7-6-4 tanh", "input 5-7-6-4 tanh"} <= bad
        assert "relu" not in bad


def test_relative_error_fails_on_difference() -> None:
    a = [np.ones(3), np.zeros(2)]
    assert gradcheck.relative_error(a, a) == 0.0
    assert gradcheck.relative_error([np.ones(3), np.array([0.0, 1.0])], a) > 0.5
    assert gradcheck.relative_error([np.ones(3), np.array([0.0, np.nan])], a) == np.inf
    assert gradcheck.relative_error([np.ones(3)], a) == np.inf
    assert relative_error(np.ones(3), np.ones(3)) == 0.0
    assert relative_error(np.ones(3), np.array([1, 1, 1.1])) > 0.01
    assert relative_error(np.array([1, np.nan]), np.ones(2)) == np.inf


def test_assert_close_fails_on_each_difference() -> None:
    backend = select("cpu")
    numpy = ArrayLibrary(_variant("numpy", "float64"), backend)
    numpy.assert_close(np.ones(3), np.ones(3))
    for wrong in (np.ones(3, np.float32), np.ones((3, 1)), np.array([1, 1, 1 + 1e-9])):
        with pytest.raises(AssertionError):
            numpy.assert_close(wrong, np.ones(3))
    with pytest.raises((AssertionError, TypeError)):
        numpy.assert_close(select("device1").to_device(np.ones(3)), np.ones(3))


def _variant(library: str, dtype: str) -> Any:
    from tests.conftest import Variant

    return Variant(library, "cpu", dtype)


# torch's autograd ----------------------------------------------------------------------------------------------------

ON_NUMBERS = {
    "binary-cross-entropy": "binary_cross_entropy_with_logits",
    "squared-error": "mse_loss",
    "huber": "huber_loss",
    "poisson": "poisson_nll_loss",
}
NETWORKS = [
    MLP((9, 8, 7, 5), activation=activation, loss=loss)
    for activation in F.ACTIVATIONS
    for loss in ("cross-entropy", "mse-sigmoid")
] + [
    MLP((9, 5)),
    MLP((9, 8, 5), loss="mse"),
    MLP((9, 8, 5), loss="mse-softmax"),
    *(MLP((9, 8, 5), loss=name) for name in ON_NUMBERS),
    MLP((9, 8, 5), label_smoothing=0.2),
    MLP((9, 8, 7, 5), batch_norm=True),
    MLP((9, 8, 7, 5), activation="tanh", batch_norm=True, loss="mse-softmax"),
]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: f"{n}-{n.loss}-{n.batch_norm}-{n.label_smoothing}")
def test_torch_autograd(network: MLP) -> None:
    """Loss, logits, gradients and running statistics equal those of the same network written in torch."""
    open_backend("torch")
    import torch

    rng = np.random.default_rng(4)
    x, labels, numbers = rng.normal(size=(11, 9)), rng.integers(0, 5, 11), rng.random((11, 5))
    targets = labels if F.LOSSES[network.loss].task == "classification" else numbers
    params = [p + 0.1 * rng.normal(size=p.shape) for p in init_params(network, dtype="float64")]
    running = init_running(network, "float64")
    loss, grads, logits, new_running = network.loss_and_grads(params, x, targets, running=running)

    theirs = [torch.tensor(p, requires_grad=True) for p in params]
    their_running = [torch.tensor(a) for a in running]
    their_logits = _torch_layers(network, theirs, their_running, torch.tensor(x), training=True)[-1]
    their_loss = _torch_loss(network, their_logits, torch.tensor(targets))
    their_loss.backward()

    assert relative_error(loss, their_loss.item()) < BOUND_AUTOGRAD
    assert relative_error(logits, their_logits.detach().numpy()) < BOUND_AUTOGRAD
    assert gradcheck.relative_error(grads, [p.grad.numpy() for p in theirs]) < BOUND_AUTOGRAD
    for mine, their in zip(new_running, their_running, strict=True):
        assert relative_error(mine, their.numpy()) < BOUND_AUTOGRAD


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: f"{n}-{n.loss}-{n.batch_norm}-{n.label_smoothing}")
def test_layers_and_their_gradients_are_torch_s(network: MLP) -> None:
    """Of one logit, by the input and by every hidden layer; batch normalisation uses its running statistics."""
    open_backend("torch")
    import torch

    rng = np.random.default_rng(5)
    x = rng.normal(size=(11, 9))
    params = [p + 0.1 * rng.normal(size=p.shape) for p in init_params(network, dtype="float64")]
    running = [0.5 + rng.random(a.shape) for a in init_running(network, "float64")]
    values, vjp = network.layers(params, x, running=running)
    grads = vjp(np.eye(5)[[3] * 11])

    their_params, their_running = ([torch.tensor(a) for a in arrays] for arrays in (params, running))
    theirs = _torch_layers(network, their_params, their_running, torch.tensor(x))
    for layer in theirs:
        layer.retain_grad()
    theirs[-1][:, 3].sum().backward()
    assert len(values) == network.n_layers + 1
    assert len(grads) == network.n_layers
    for mine, their in zip(values, theirs, strict=True):
        assert relative_error(mine, their.detach().numpy()) < BOUND_AUTOGRAD
    for mine, their in zip(grads, theirs[:-1], strict=True):
        assert relative_error(mine, their.grad.numpy()) < BOUND_AUTOGRAD


def test_every_loss_on_numbers_is_compared_with_torch() -> None:
    assert set(ON_NUMBERS) == {name for name, loss in F.LOSSES.items() if loss.task != "classification"}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ON_NUMBERS)
def test_losses_on_numbers_are_torch_s(xp: ArrayLibrary, name: str, weighted: bool) -> None:
    """Errors lie on both sides of Huber's delta, and targets between the ends."""
    open_backend("torch")
    import torch

    rng = np.random.default_rng(3)
    logits, targets, weights = 2.0 * rng.normal(size=(7, 3)), rng.random((7, 3)), rng.random(7)
    z = torch.tensor(logits, requires_grad=True)
    losses = getattr(torch.nn.functional, ON_NUMBERS[name])(z, torch.tensor(targets), reduction="none")
    their_loss = (losses * torch.tensor(weights)[:, None] if weighted else losses).mean()
    their_loss.backward()

    def loss_and_grad(z: Any, t: Any, w: Any) -> tuple[Any, Any]:
        loss, vjp = F.LOSSES[name].function(z, t, weights=w if weighted else None, xp=xp.xp)
        return loss, vjp()

    loss, grad = xp.run(loss_and_grad, xp(logits), xp(targets), xp(weights))
    xp.assert_close(loss, their_loss.item())
    xp.assert_close(grad, z.grad.numpy())


@pytest.mark.parametrize("delta", [0.25, 3.0])
def test_huber_s_delta_is_torch_s(xp: ArrayLibrary, delta: float) -> None:
    open_backend("torch")
    import torch

    logits = np.linspace(-4.0, 4.0, 12).reshape(4, 3)
    z = torch.tensor(logits, requires_grad=True)
    their_loss = torch.nn.HuberLoss(delta=delta)(z, torch.zeros_like(z))
    their_loss.backward()

    def loss_and_grad(z: Any) -> tuple[Any, Any]:
        loss, vjp = F.huber(z, xp.xp.zeros_like(z), delta, xp=xp.xp)
        return loss, vjp()

    loss, grad = xp.run(loss_and_grad, xp(logits))
    xp.assert_close(loss, their_loss.item())
    xp.assert_close(grad, z.grad.numpy())


def _torch_layers(network: MLP, params: list[Any], running: list[Any], x: Any, *, training: bool = False) -> list[Any]:
    """The input, every hidden layer and the logits."""
    import torch
    from torch.nn import functional as TF

    activations = {
        "relu": torch.relu,
        "leaky-relu": TF.leaky_relu,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "scaled-tanh": lambda z: 1.7159 * torch.tanh(2 * z / 3),
        "gelu": lambda z: TF.gelu(z, approximate="tanh"),
        "identity": lambda z: z,
    }
    rest, statistics = iter(params), iter(running)
    layers = [x.requires_grad_()]
    for _ in range(network.n_layers - 1):
        z = layers[-1] @ next(rest)
        if network.batch_norm:
            scale, shift, mean, var = next(rest), next(rest), next(statistics), next(statistics)
            z = TF.batch_norm(z, mean, var, scale, shift, training=training, momentum=0.1, eps=1e-5)
        else:
            z = z + next(rest)
        layers.append(activations[network.activation](z))
    return [*layers, layers[-1] @ next(rest) + next(rest)]


def _torch_loss(network: MLP, logits: Any, targets: Any) -> Any:
    import torch
    from torch.nn import functional as TF

    if network.loss in ON_NUMBERS:
        return getattr(TF, ON_NUMBERS[network.loss])(logits, targets)
    if network.loss == "cross-entropy":
        return TF.cross_entropy(logits, targets, label_smoothing=network.label_smoothing)
    outputs = {"mse": lambda z: z, "mse-sigmoid": torch.sigmoid, "mse-softmax": lambda z: torch.softmax(z, 1)}
    return TF.mse_loss(outputs[network.loss](logits), TF.one_hot(targets, 5).to(torch.float64))
