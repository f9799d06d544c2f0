"""Values and edges of the functions whose gradients test_gradients.py checks."""

from typing import Any

import numpy as np
import pytest

from tests.conftest import ArrayLibrary, open_backend, relative_error
from xpnet.numerics import functional as F


def test_bytes_become_numbers_of_the_unit_interval_to_the_last_bit(xp: ArrayLibrary) -> None:
    images, dtype = xp(np.arange(256, dtype=np.uint8).reshape(64, 4)), getattr(xp.xp, xp.dtype)
    x = xp.run(lambda u: F.scale_features(u, dtype, scale=255.0, xp=xp.xp), images)
    np.testing.assert_array_equal(xp.numpy(x), xp.numpy(xp.run(lambda u: xp.xp.astype(u, dtype) / 255.0, images)))


@pytest.mark.parametrize("kind", ["int16", "uint8", "int64", "float"])
def test_features_are_shifted_and_scaled_by_column(xp: ArrayLibrary, kind: str) -> None:
    features = np.array([[3, 40, 5], [1, 20, 5]]).astype(kind)
    shift, scale = np.array([2.0, 30.0, 5.0]), np.array([0.5, 10.0, 1.0])

    def scaled(u: Any, *columns: Any) -> Any:
        shift, scale = columns or (None, None)
        return F.scale_features(u, getattr(xp.xp, xp.dtype), shift=shift, scale=scale, xp=xp.xp)

    xp.assert_close(xp.run(scaled, xp(features), xp(shift), xp(scale)), np.array([[2.0, 1.0, 0.0], [-2.0, -1.0, 0.0]]))
    xp.assert_close(xp.run(scaled, xp(features)), features.astype(float))


def test_columns_far_from_zero_keep_their_digits(xp: ArrayLibrary) -> None:
    """Seconds since 1970 in float64, for a network in float32: the difference is taken before the cast."""
    features = 1.7e9 + np.array([[0.0], [0.25], [0.5]])
    shift, scale = np.array([1.7e9 + 0.25]), np.array([0.25])
    arrays = [xp(a, "float64") for a in (features, shift, scale)]
    x = xp.run(lambda u, m, s: F.scale_features(u, getattr(xp.xp, xp.dtype), shift=m, scale=s, xp=xp.xp), *arrays)
    xp.assert_close(x, np.array([[-1.0], [0.0], [1.0]]))


def test_sigmoid_keeps_its_digits(xp: ArrayLibrary) -> None:
    z = np.array([-80.0, -30.0, -1.0, 0.0, 1.0, 30.0, 80.0])
    y, _ = xp.run(lambda z: (F.sigmoid(z, xp=xp.xp)[0], None), xp(z))
    exact = np.array([np.exp(v) / (1 + np.exp(v)) if v < 0 else 1 / (1 + np.exp(-v)) for v in z])
    actual = xp.numpy(y)
    assert np.all(np.abs(actual / exact - 1) < 20 * xp.tolerance), actual


def test_sigmoid_of_huge_values_is_quiet(xp: ArrayLibrary) -> None:
    y = xp.run(lambda z: F.sigmoid(z, xp=xp.xp)[0], xp(np.array([-1e30, 1e30])))
    xp.assert_close(y, np.array([0.0, 1.0]))


def test_cross_entropy_of_huge_logits(xp: ArrayLibrary) -> None:
    """Finite where a softmax followed by a logarithm overflows or meets log 0."""
    logits = np.array([[1e4, 0.0, -1e4], [-1e4, 1e4, 0.0]])
    labels = xp(np.array([0, 2], np.int32))

    def value_and_grad(z: Any, labels: Any) -> tuple[Any, Any]:
        loss, vjp = F.softmax_cross_entropy(z, labels, xp=xp.xp)
        return loss, vjp()

    loss, dz = xp.run(value_and_grad, xp(logits), labels)
    xp.assert_close(loss, np.array(5e3))
    xp.assert_close(dz, np.array([[0.0, 0.0, 0.0], [0.0, 0.5, -0.5]]))


def test_cross_entropy_by_hand(xp: ArrayLibrary) -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
    labels = xp(np.array([0, 2], np.int32))
    loss = xp.run(lambda z, y: F.softmax_cross_entropy(z, y, xp=xp.xp)[0], xp(logits), labels)
    xp.assert_close(loss, np.array(-(np.log(0.5) + np.log(0.7)) / 2))


def test_mean_squared_error_by_hand(xp: ArrayLibrary) -> None:
    labels = xp(np.array([1, 0], np.int32))
    loss = xp.run(lambda z, y: F.mean_squared_error(z, y, xp=xp.xp)[0], xp(np.array([[0.5, 1.0], [0.0, 2.0]])), labels)
    xp.assert_close(loss, np.array((0.25 + 0.0 + 1.0 + 4.0) / 4))


ON_NUMBERS = [name for name, loss in F.LOSSES.items() if loss.task != "classification"]


def value_and_grad(name: str, xp: ArrayLibrary, *arrays: Any) -> tuple[Any, Any]:
    """Of a loss of (logits, targets, weights=None), through xp.run."""

    def both(z: Any, t: Any, w: Any = None) -> tuple[Any, Any]:
        value, vjp = F.LOSSES[name].function(z, t, weights=w, xp=xp.xp)
        return value, vjp()

    value, grad = xp.run(both, *map(xp, arrays))
    return value, grad


@pytest.mark.parametrize(
    ("name", "targets", "value", "grad"),
    [
        ("binary-cross-entropy", [[0.0, 1.0, 0.5]], 2.5e4 / 3, [[1.0, -1.0, 0.5]]),
        ("binary-cross-entropy", [[1.0, 0.0, 1.0]], 0.0, [[0.0, 0.0, 0.0]]),
        ("squared-error", [[1.0, -1.0, 1e4]], (9999.0**2 + 9999.0**2) / 3, [[19998.0, -19998.0, 0.0]]),
        ("huber", [[0.0, 0.0, 0.0]], 9999.5, [[1.0, -1.0, 1.0]]),
    ],
)
def test_losses_on_numbers_of_huge_logits(
    xp: ArrayLibrary, name: str, targets: list[list[float]], value: float, grad: list[list[float]]
) -> None:
    found, slope = value_and_grad(name, xp, np.array([[1e4, -1e4, 1e4]]), np.array(targets))
    xp.assert_close(found, value)
    xp.assert_close(slope, np.array(grad) / 3)


def test_rates_near_zero(xp: ArrayLibrary) -> None:
    value, grad = value_and_grad("poisson", xp, np.array([[-1e4, -1e4]]), np.array([[0.0, 3.0]]))
    xp.assert_close(value, 1.5e4)
    xp.assert_close(grad, np.array([[0.0, -1.5]]))


def test_binary_cross_entropy_keeps_its_digits(xp: ArrayLibrary) -> None:
    """log(1 + e^-z) is e^-z for large z, where 1 + e^-z is 1."""
    value, _ = value_and_grad("binary-cross-entropy", xp, np.array([[40.0]]), np.array([[1.0]]))
    assert xp.numpy(value) == pytest.approx(np.exp(-40.0), rel=1e-5, abs=0.0)


@pytest.mark.parametrize("name", ON_NUMBERS)
def test_a_loss_is_least_where_the_outputs_are_the_targets(name: str) -> None:
    logits = np.random.default_rng(4).normal(size=(6, 2))
    targets, _ = F.LOSSES[name].output(logits, xp=np)
    least, vjp = F.LOSSES[name].function(logits, targets)
    assert np.abs(vjp()).max() < 1e-15
    assert all(F.LOSSES[name].function(logits + d, targets)[0] > least for d in (-0.01, 0.01))


def test_dropout_drops_the_rate_and_keeps_the_mean(xp: ArrayLibrary) -> None:
    u = (np.arange(1000) + 0.5) / 1000
    y = xp.numpy(xp.run(lambda x, u: F.dropout(x, u, 0.25, xp=xp.xp)[0], xp(np.ones(1000)), xp(u)))
    assert np.count_nonzero(y == 0.0) == 250
    assert abs(y.mean() - 1.0) < 1e-5


def test_batch_norm_normalises(xp: ArrayLibrary) -> None:
    x = np.random.default_rng(0).normal(3.0, 2.0, (50, 4))
    one, zero = xp(np.ones(4)), xp(np.zeros(4))
    (y, mean, var) = xp.run(lambda x: F.batch_norm(x, one, zero, eps=1e-12, xp=xp.xp)[0], xp(x))
    xp.assert_close(mean, x.mean(0))
    xp.assert_close(var, x.var(0))
    assert np.allclose(xp.numpy(y).mean(0), 0.0, atol=1e-5)
    assert np.allclose(xp.numpy(y).std(0), 1.0, atol=1e-5)


def test_dense_without_dx_or_bias(xp: ArrayLibrary) -> None:
    x, W = np.arange(6.0).reshape(2, 3), np.ones((3, 2))
    y, vjp = F.dense(xp(x), xp(W), need_dx=False, xp=xp.xp)
    xp.assert_close(y, x @ W)
    dx, dW, db = vjp(xp(np.ones((2, 2))))
    assert dx is None
    assert db is None
    xp.assert_close(dW, x.T @ np.ones((2, 2)))


@pytest.mark.parametrize("name", F.LOSSES)
def test_a_weight_counts_an_example_so_many_times(xp: ArrayLibrary, name: str) -> None:
    """Weights 2, 0 and 3 against the example twice, not at all and three times; the mean is over n examples still."""
    rng, times = np.random.default_rng(2), [2, 0, 3]
    logits, labels, numbers = rng.normal(size=(3, 4)), np.array([1, 3, 0], np.int32), rng.random((3, 4))
    loss, _, task = F.LOSSES[name]
    targets, options = (labels, {"label_smoothing": 0.1}) if task == "classification" else (numbers, {})

    def both(z: Any, t: Any, w: Any = None) -> tuple[Any, Any]:
        value, vjp = loss(z, t, weights=w, xp=xp.xp, **options)
        return value, vjp()

    rows = np.repeat(np.arange(3), times)
    value, grad = xp.run(both, xp(logits), xp(targets), xp(np.array(times, np.float64)))
    repeated, each = xp.run(both, xp(logits[rows]), xp(targets[rows]))
    xp.assert_close(value, xp.numpy(repeated) * (5 / 3))
    summed = np.zeros((3, 4))
    np.add.at(summed, rows, xp.numpy(each) * (5 / 3))
    xp.assert_close(grad, summed)


@pytest.mark.parametrize(("max_norm", "factor"), [(1.0, 1 / 13), (13.0, 1.0), (100.0, 1.0)])
def test_clip_by_global_norm(xp: ArrayLibrary, max_norm: float, factor: float) -> None:
    grads = [np.array([3.0, 4.0]), np.array([[12.0]])]
    clipped, norm = xp.run(lambda *g: F.clip_by_global_norm(list(g), max_norm, xp=xp.xp), *map(xp, grads))
    xp.assert_close(norm, np.array(13.0))
    for actual, g in zip(clipped, grads, strict=True):
        xp.assert_close(actual, g * factor, 1e-6)


@pytest.mark.parametrize("strength", [0.0, 0.3])
def test_the_penalty_on_weights(xp: ArrayLibrary, strength: float) -> None:
    """Its value, and its gradients for a strength that is a number, or an array on the device."""
    weights = [np.array([[3.0, -4.0]]), np.array([[1.0], [2.0]])]

    def penalty(*arrays: Any) -> Any:
        s, *W = arrays
        value, vjp = F.l2_penalty(W, s, xp=xp.xp)
        return value, vjp(2.0), F.l2_penalty(W, strength, xp=xp.xp)[0]

    value, grads, same = xp.run(penalty, *map(xp, (np.array(strength), *weights)))
    xp.assert_close(value, np.array(15.0 * strength))
    xp.assert_close(same, np.array(15.0 * strength))
    for actual, W in zip(grads, weights, strict=True):
        xp.assert_close(actual, 2.0 * strength * W)


def test_torch_clips_alike() -> None:
    open_backend("torch")
    import torch

    rng = np.random.default_rng(1)
    grads = [rng.normal(size=(3, 4)), rng.normal(size=4)]
    params = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in grads]
    for p, g in zip(params, grads, strict=True):
        p.grad = torch.tensor(g)
    torch.nn.utils.clip_grad_norm_(params, 0.7)
    clipped, _ = F.clip_by_global_norm(grads, 0.7)
    for p, mine in zip(params, clipped, strict=True):
        assert relative_error(p.grad.numpy(), mine) < 1e-12


def test_gelu_is_near_the_erf_form() -> None:
    from math import erf

    z = np.linspace(-6, 6, 1001)
    exact = np.array([v * 0.5 * (1 + erf(v / 2**0.5)) for v in z])
    assert np.abs(F.gelu(z)[0] - exact).max() < 5e-4


def test_sigmoid_s_gradient_keeps_its_digits_on_both_sides() -> None:
    """dz = e^z / (1 + e^z)^2 is even; y (1 - y) would be 0 from z = 37 on."""
    z = np.array([1.0, 12.0, 30.0, 40.0, 300.0])
    up, down = F.sigmoid(z)[1](np.ones(5)), F.sigmoid(-z)[1](np.ones(5))
    exact = np.exp(-z) / (1 + np.exp(-z)) ** 2
    assert np.allclose(up, exact, rtol=1e-14, atol=0.0)
    assert np.array_equal(up, down)


def test_scaled_tanh_is_made_for_targets_of_one() -> None:
    """It maps 1 and -1 to themselves, where its curvature is greatest."""
    assert np.allclose(F.scaled_tanh(np.array([-1.0, 0.0, 1.0]))[0], [-1.0, 0.0, 1.0], atol=1e-4)
    z = np.linspace(0, 3, 3001)
    slope = F.scaled_tanh(z)[1](np.ones(3001))
    assert z[np.argmin(np.diff(slope))] == pytest.approx(1.0, abs=0.02)


def test_rectifiers_at_zero(xp: ArrayLibrary) -> None:
    """The gradient at the kink is the left one, as documented."""
    one = xp(np.ones(1))
    xp.assert_close(F.relu(xp(np.zeros(1)), xp=xp.xp)[1](one), np.zeros(1))
    xp.assert_close(F.leaky_relu(xp(np.zeros(1)), xp=xp.xp)[1](one), np.array([0.01]), 1e-6)


def test_dropout_masks_are_the_same_in_both_precisions() -> None:
    """Also for the one draw in 2^24 that lies between a rate and its nearest float32."""
    draws = np.array([11744050, 11744051, 11744052]) / 2**24
    for rate in (0.7, 0.5, 0.1, 11744051 / 2**24):
        masks = [F.dropout(np.ones(3, dtype), draws.astype(dtype), rate)[0] > 0 for dtype in (np.float32, np.float64)]
        assert np.array_equal(*masks)
        assert np.array_equal(masks[1], draws >= rate)
