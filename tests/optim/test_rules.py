"""Optimizers: ten steps against torch.optim, the same on every library, in place where arrays are mutable.

And what follows an update: the limit of norms, and the moving average.
"""

from typing import Any

import numpy as np
import pytest

from tests.conftest import ArrayLibrary, open_backend, relative_error
from xpnet.optim import OPTIMIZERS, adam_eps_hat, init_state, limit_norms, moving_average, rescale_velocity

# name -> our hyperparameters, torch's class and its hyperparameters; no momentum is zero
RULES: dict[str, tuple[dict[str, float], str, dict[str, Any]]] = {
    "sgd": ({}, "SGD", {}),
    "momentum": ({"momentum": 0.8}, "SGD", {"momentum": 0.8}),
    "nesterov": ({"momentum": 0.8}, "SGD", {"momentum": 0.8, "nesterov": True}),
    "rmsprop": ({"alpha": 0.95}, "RMSprop", {"alpha": 0.95}),
    "adam": ({"beta1": 0.8, "beta2": 0.95}, "Adam", {"betas": (0.8, 0.95)}),
    "adamw": ({"beta1": 0.8, "beta2": 0.95}, "AdamW", {"betas": (0.8, 0.95)}),
}
SHAPES = [(4, 3), (3,), (3, 2), (2,)]


def problem() -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    rng = np.random.default_rng(6)
    params = [rng.normal(size=shape) for shape in SHAPES]
    return params, [[rng.normal(size=shape) for shape in SHAPES] for _ in range(10)]


def test_every_optimizer_is_here() -> None:
    assert set(RULES) == set(OPTIMIZERS)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("name", RULES)
def test_ten_steps_against_torch(name: str, weight_decay: float) -> None:
    open_backend("torch")
    import torch

    ours, theirs, options = RULES[name]
    params, grads = problem()
    state = init_state(name, params)
    torch_params = [torch.nn.Parameter(torch.tensor(p)) for p in params]
    optimizer = getattr(torch.optim, theirs)(torch_params, lr=0.05, weight_decay=weight_decay, **options)
    params = [p.copy() for p in params]
    for step in grads:
        params, state = OPTIMIZERS[name].update(params, state, step, lr=0.05, weight_decay=weight_decay, **ours)
        for p, g in zip(torch_params, step, strict=True):
            p.grad = torch.tensor(g)
        optimizer.step()
        for p, q in zip(params, torch_params, strict=True):
            assert relative_error(p, q.detach().numpy()) < 1e-12


def test_adam_whose_eps_is_not_corrected() -> None:
    """Ten steps by the formula at the end of section 2 of Kingma and Ba 2015, with an eps that counts."""
    lr, beta1, beta2, eps = 0.05, 0.8, 0.95, 0.3
    params, grads = problem()
    expected, state = [p.copy() for p in params], init_state("adam", params)
    m, v = ([np.zeros_like(p) for p in params] for _ in range(2))
    for t, step in enumerate(grads, 1):
        params, state = adam_eps_hat(params, state, step, lr=lr, beta1=beta1, beta2=beta2, eps=eps)
        rate = lr * (1 - beta2**t) ** 0.5 / (1 - beta1**t)
        for i, g in enumerate(step):
            m[i], v[i] = beta1 * m[i] + (1 - beta1) * g, beta2 * v[i] + (1 - beta2) * g * g
            expected[i] -= rate * m[i] / (np.sqrt(v[i]) + eps)
            assert relative_error(params[i], expected[i]) < 1e-12


def test_a_velocity_keeps_its_path_at_another_rate() -> None:
    """Without a gradient, the next step with half the rate goes as far as with the whole one."""
    params, grads = problem()
    ends = []
    for factor in (1.0, 0.5):
        moved, velocity = [p.copy() for p in params], init_state("momentum", params)
        update = OPTIMIZERS["momentum"].update
        moved, velocity = update(moved, velocity, grads[0], lr=0.1)
        velocity = rescale_velocity(velocity, 1 / factor)
        moved, _ = update(moved, velocity, [np.zeros_like(p) for p in params], lr=0.1 * factor)
        ends.append(moved)
    for a, b in zip(*ends, strict=True):
        assert relative_error(a, b) < 1e-14


@pytest.mark.parametrize("name", RULES)
def test_libraries_agree(name: str, xp: ArrayLibrary) -> None:
    """Ten steps on every library, the rate a device array, equal NumPy's in float64 with a Python rate."""
    if xp.variant.mode == "readonly":
        pytest.skip("an optimizer writes into its arrays")
    ours, _, _ = RULES[name]
    params, grads = problem()
    mine, expected = list(map(xp, params)), [p.copy() for p in params]
    my_state, state = init_state(name, mine, xp=xp.xp), init_state(name, expected)
    lr = xp(np.array([0.05]))
    update = OPTIMIZERS[name].update
    for step in grads:

        def call(params: Any, state: Any, grads: Any, lr: Any) -> Any:
            return update(params, state, grads, lr=lr, weight_decay=0.1, xp=xp.xp, **ours)

        mine, my_state = xp.run(call, mine, my_state, list(map(xp, step)), lr)
        expected, state = update(expected, state, step, lr=0.05, weight_decay=0.1, **ours)
    for actual, desired in zip([*mine, *my_state], [*expected, *state], strict=True):
        xp.assert_close(actual, desired, 10 * xp.tolerance)


@pytest.mark.parametrize("name", RULES)
def test_writes_in_place_and_only_reads_gradients(name: str) -> None:
    params, (grads, *_) = problem()
    state = init_state(name, params)
    before = [*params, *state]
    for g in grads:
        g.flags.writeable = False
    new_params, new_state = OPTIMIZERS[name].update(params, state, grads, lr=np.array([0.1]), weight_decay=0.1)
    assert all(a is b for a, b in zip([*new_params, *new_state], before, strict=True))
    assert all(p.dtype == np.float64 for p in new_params)


def test_first_adam_step_in_float32() -> None:
    """The bias correction keeps its digits: the first step is lr for every entry, whatever the gradient's size."""
    params = [np.zeros(3, np.float32)]
    state = init_state("adam", params)
    OPTIMIZERS["adam"].update(params, state, [np.array([1e-2, 1.0, -1e3], np.float32)], lr=0.125)
    assert np.allclose(params[0], [-0.125, -0.125, 0.125], rtol=2e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adam_without_memory(dtype: type) -> None:
    """With both betas 0, every step is lr g / (|g| + eps)."""
    g: np.ndarray = np.array([0.0, 1e-3, -2.0], dtype)
    params: list[np.ndarray] = [np.zeros(3, dtype)]
    state = init_state("adam", params)
    for _ in range(2):
        OPTIMIZERS["adam"].update(params, state, [g], lr=np.array([0.125], dtype), beta1=0.0, beta2=0.0, eps=1e-3)
    assert params[0].dtype == dtype
    assert np.allclose(params[0], -0.25 * g / (np.abs(g) + 1e-3), rtol=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_lists_that_do_not_fit(name: str) -> None:
    params, (grads, *_) = problem()
    state = init_state(name, params)
    with pytest.raises(ValueError, match="4 parameters but 3 gradients"):
        OPTIMIZERS[name].update(params, state, grads[:-1], lr=0.1)
    with pytest.raises(ValueError, match="make it with init_state"):
        OPTIMIZERS[name].update(params, [*state, *state, params[0]], grads, lr=0.1)


def test_norms_are_limited(xp: ArrayLibrary) -> None:
    """Those of the columns of all matrices but the last; what is within the limit stays as it is, to the last bit."""
    if xp.variant.mode == "readonly":
        pytest.skip("it writes into its arrays")
    rng = np.random.default_rng(2)
    shapes = [(5, 7), (7,), (7,), (7, 4), (4,), (4, 3), (3,)]  # the first layer is normalised
    host = [(rng.normal(size=shape) * rng.choice([0.5, 3.0], shape[-1])).astype(xp.dtype) for shape in shapes]
    limited = xp.run(lambda *params: limit_norms(list(params), 2.0, xp=xp.xp), *map(xp, host))
    for i, (actual, before) in enumerate(zip(limited, host, strict=True)):
        after = xp.numpy(actual)
        if i not in (0, 3):
            assert np.array_equal(after, before)
            continue
        norms = np.linalg.norm(before, axis=0)
        assert 0 < np.sum(norms > 2.0) < len(norms), "the limit must bind for some units and not for others"
        assert np.array_equal(after[:, norms <= 2.0], before[:, norms <= 2.0])
        xp.assert_close(actual, before * np.minimum(1.0, 2.0 / norms))


def test_norms_are_limited_in_place_where_there_are_hidden_units() -> None:
    params, _ = problem()
    before, copies = [*params], [p.copy() for p in params]
    assert all(np.array_equal(a, b) for a, b in zip(limit_norms(params[:2], 1e-3), copies, strict=False))
    assert all(a is b for a, b in zip(limit_norms(params, 1e-3), before, strict=True))
    assert np.allclose(np.linalg.norm(params[0], axis=0), 1e-3)


def test_the_moving_average(xp: ArrayLibrary) -> None:
    """Twenty steps written out: the decay begins at 1/10 and is the one asked for from step 8 on."""
    if xp.variant.mode == "readonly":
        pytest.skip("it writes into its arrays")
    rng = np.random.default_rng(5)
    desired = [rng.normal(size=shape) for shape in SHAPES]
    average, decays = list(map(xp, desired)), []

    def call(average: Any, values: Any, step: Any) -> Any:
        return moving_average(average, values, step, decay=0.5, xp=xp.xp)

    for step in range(20):
        values = [rng.normal(size=shape) for shape in SHAPES]
        average = xp.run(call, average, list(map(xp, values)), xp(np.array([step])))
        decays.append(min(0.5, (1 + step) / (10 + step)))
        desired = [decays[-1] * a + (1 - decays[-1]) * v for a, v in zip(desired, values, strict=True)]
        for actual, each in zip(average, desired, strict=True):
            xp.assert_close(actual, each, 10 * xp.tolerance)
    assert decays.index(0.5) == 8


def test_the_average_is_written_in_place_and_only_reads_the_values() -> None:
    params, (values, *_) = problem()
    before = [*params]
    for value in values:
        value.flags.writeable = False
    average = moving_average(params, values, np.array([0]), decay=0.9)
    assert all(a is b for a, b in zip(average, before, strict=True))
    with pytest.raises(ValueError, match="4 arrays but 3 averages: the lists must match"):
        moving_average(params[:-1], values, np.array([0]), decay=0.9)
