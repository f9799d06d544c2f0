"""The MLP and its first parameters."""

import numpy as np
import pytest

from tests.conftest import ArrayLibrary
from xpnet.errors import ConfigError
from xpnet.numerics.functional import ACTIVATIONS, LOSSES
from xpnet.numerics.network import MLP
from xpnet.training.initializers import INITIALIZERS, init_params, init_running


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("he-normal", 2 / 300),
        ("he-uniform", 2 / 300),
        ("glorot-normal", 2 / 500),
        ("glorot-uniform", 2 / 500),
        ("lecun-normal", 1 / 300),
        ("lecun-uniform", 1 / 300),
        ("zeros", 0.0),
    ],
)
def test_initializers(name: str, variance: float) -> None:
    W = INITIALIZERS[name](np.random.default_rng(0), 300, 200)
    assert W.shape == (300, 200)
    assert W.var() == pytest.approx(variance, rel=0.03)
    assert abs(W.mean()) <= 5 * np.sqrt(variance / W.size)
    if name.endswith("uniform"):
        assert np.abs(W).max() <= np.sqrt(3 * variance)
    if name.endswith("normal"):
        assert np.mean(np.abs(W) > 2 * np.sqrt(variance)) == pytest.approx(0.0455, rel=0.1)


def test_every_initializer_is_tested() -> None:
    assert set(INITIALIZERS) == {
        f"{family}-{shape}" for family in ("he", "glorot", "lecun") for shape in ("normal", "uniform")
    } | {"zeros"}


def test_same_start_in_every_precision() -> None:
    double, single = (init_params(MLP((20, 10, 3)), seed=4, dtype=dtype) for dtype in ("float64", "float32"))
    assert all(np.array_equal(d.astype(np.float32), s) for d, s in zip(double, single, strict=True))
    assert not np.array_equal(double[0], init_params(MLP((20, 10, 3)), seed=5, dtype="float64")[0])


@pytest.mark.parametrize("network", [MLP((4, 3)), MLP((4, 5, 6, 3)), MLP((4, 5, 6, 3), batch_norm=True)], ids=str)
def test_names_and_gradients_run_parallel_to_the_parameters(network: MLP) -> None:
    params, running = init_params(network, dtype="float64"), init_running(network, "float64")
    assert list(network.param_shapes().values()) == [p.shape for p in params]
    assert list(network.running_shapes().values()) == [a.shape for a in running]
    rng = np.random.default_rng(0)
    _, grads, logits, new = network.loss_and_grads(params, rng.random((7, 4)), rng.integers(0, 3, 7), running=running)
    assert [g.shape for g in grads] == [p.shape for p in params]
    assert [a.shape for a in new] == [a.shape for a in running]
    assert logits.shape == (7, 3)


def test_dropout_masks_differ_by_step_layer_and_seed_and_repeat(xp: ArrayLibrary) -> None:
    network = MLP((4, 50, 50, 3), dropout=0.5)
    params = [xp(p) for p in init_params(network, dtype="float64")]
    x, labels = xp(np.ones((8, 4))), xp(np.zeros(8, np.int32))

    def first_gradient(step: int, seed: int) -> np.ndarray:
        grads = xp.run(
            lambda s: network.loss_and_grads(params, x, labels, step=s, seed=seed, xp=xp.xp)[1], xp(np.array([step]))
        )
        return xp.numpy(grads[0])

    base = first_gradient(5, 0)
    assert np.array_equal(base, first_gradient(5, 0))
    assert not np.array_equal(base, first_gradient(6, 0))
    assert not np.array_equal(base, first_gradient(5, 1))


def test_dropout_masks_of_two_layers_are_independent() -> None:
    """A unit survives both layers with probability 1/4; with one mask for both it would be 1/2."""
    network = MLP((1, 400, 400, 400), activation="identity", dropout=0.5)
    ones, eye, zero = np.ones((1, 400)), np.eye(400), np.zeros(400)
    logits, _, _ = network.forward(
        [ones, zero, eye, zero, eye, zero], np.ones((1, 1)), training=True, step=np.array([0])
    )
    assert np.mean(logits != 0.0) == pytest.approx(0.25, abs=0.1)


def test_input_dropout_drops_its_share_of_the_pixels_and_scales_up_the_rest() -> None:
    network = MLP((500, 500), input_dropout=0.2)
    x = 1.0 + np.random.default_rng(0).random((20, 500))
    seen, vjp, _ = network.forward([np.eye(500), np.zeros(500)], x, training=True, step=np.array([4]))
    assert np.mean(seen == 0.0) == pytest.approx(0.2, abs=5 * np.sqrt(0.2 * 0.8 / x.size))
    assert np.allclose(seen[seen != 0.0], x[seen != 0.0] / 0.8)
    dW, _ = vjp(np.ones((20, 500)))
    assert np.allclose(dW[:, 0], seen.sum(0)), "the gradient is that of the pixels that were seen"


def test_input_dropout_masks_are_no_layer_s() -> None:
    """A pixel and its unit survive with probability 1/4; and what the hidden layer drops stays as it was."""
    eye, zero, x, step = np.eye(400), np.zeros(400), np.ones((5, 400)), np.array([0])
    seen = [
        MLP((400, 400, 400), activation="identity", dropout=0.5, input_dropout=rate).forward(
            [eye, zero, eye, zero], x, training=True, step=step
        )[0]
        for rate in (0.0, 0.5)
    ]
    assert np.mean(seen[1] != 0.0) == pytest.approx(0.25, abs=5 * np.sqrt(0.25 * 0.75 / x.size))
    assert np.all(seen[0][seen[1] != 0.0] != 0.0)


@pytest.mark.parametrize("rates", [{"dropout": 0.5}, {"input_dropout": 0.5}], ids=str)
def test_dropout_is_for_training_only(rates: dict[str, float]) -> None:
    network = MLP((4, 50, 3), **rates)  # type: ignore[arg-type]
    params, x = init_params(network, dtype="float64"), np.ones((2, 4))
    assert np.array_equal(network.forward(params, x)[0], MLP((4, 50, 3)).forward(params, x)[0])
    assert np.array_equal(network.forward(params, x, step=np.array([0]))[0], network.forward(params, x)[0])
    with pytest.raises(ValueError, match="needs step"):
        network.loss_and_grads(params, x, np.zeros(2, np.int32))


@pytest.mark.parametrize(
    ("loss", "total"),
    [("cross-entropy", 1.0), ("mse-softmax", 1.0), ("mse-sigmoid", None), ("binary-cross-entropy", None)],
)
def test_each_loss_has_outputs_of_its_own(loss: str, total: float | None) -> None:
    network = MLP((4, 6, 3), loss=loss)
    x = np.random.default_rng(0).random((5, 4))
    logits, _, _ = network.forward(init_params(network, dtype="float64"), x)
    outputs, _ = LOSSES[loss].output(logits, xp=np)
    assert np.all((outputs > 0) & (outputs < 1))
    if total is not None:
        assert np.allclose(outputs.sum(1), total)


def test_normalised_network_predicts_with_running_statistics() -> None:
    """After many batches of one kind, a prediction no longer depends on its companions and matches training."""
    network = MLP((4, 6, 3), batch_norm=True)
    params, running = init_params(network, dtype="float64"), init_running(network, "float64")
    x = np.random.default_rng(0).normal(size=(500, 4))
    for _ in range(300):
        training_logits, _, running = network.forward(params, x, running=running, training=True)
    logits, _, same = network.forward(params, x, running=running)
    assert np.allclose(logits, training_logits, atol=1e-2)
    assert all(a is b for a, b in zip(same, running, strict=True))
    assert np.allclose(logits[:1], network.forward(params, x[:1], running=running)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": (784,)}, "at least two widths"),
        ({"sizes": (784, 0, 10)}, "at least 1"),
        ({"sizes": 5}, "sizes must be a list of whole numbers, not 5"),
        ({"sizes": (784, 8.5, 10)}, r"sizes\[1\] must be a whole number, not 8.5"),
        ({"sizes": (784, float("nan"), 10)}, r"sizes\[1\] must be a whole number, not nan"),
        ({"batch_norm": "no"}, "batch_norm must be true or false, not 'no'"),
        ({"dropout": "0.5"}, "dropout must be a number, not '0.5'"),
        ({"activation": "rellu"}, "did you mean 'relu'"),
        ({"loss": "crossentropy"}, "did you mean 'cross-entropy'"),
        ({"initializer": "he"}, "the choices are auto, he-normal"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), not 1"),
        ({"dropout": float("nan")}, "not nan"),
        ({"input_dropout": 1.0}, r"input_dropout must be in \[0, 1\), not 1"),
        ({"label_smoothing": -0.1}, "label_smoothing must be"),
        ({"label_smoothing": 0.1, "loss": "huber"}, "label_smoothing is for class labels, and the loss huber has none"),
        ({"label_smoothing": 0.1, "loss": "binary-cross-entropy"}, "label_smoothing is for class labels"),
    ],
)
def test_bad_descriptions(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MLP(**{"sizes": (4, 3), **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_deep_and_narrow_runs(activation: str) -> None:
    network = MLP((3, *[2] * 30, 2), activation=activation)
    params = init_params(network, dtype="float64")
    loss, grads, _, _ = network.loss_and_grads(params, np.ones((1, 3)), np.zeros(1, np.int32))
    assert np.isfinite(loss)
    assert len(grads) == 62


def test_numpy_numbers_do_not_promote_a_float32_network() -> None:
    network = MLP((np.int64(4), 6, 3), dropout=np.float64(0.3), label_smoothing=np.float32(0.25))  # type: ignore[arg-type]
    assert (type(network.sizes[0]), type(network.dropout), type(network.label_smoothing)) == (int, float, float)
    x, labels = np.ones((2, 4), np.float32), np.zeros(2, np.int32)
    _, grads, logits, _ = network.loss_and_grads(init_params(network), x, labels, step=np.zeros(1, np.int64))
    assert {a.dtype for a in (logits, *grads)} == {np.dtype(np.float32)}


def test_lists_that_do_not_fit() -> None:
    network = MLP((4, 6, 3), batch_norm=True)
    params, running, x = init_params(network), init_running(network), np.ones((2, 4), np.float32)
    for wrong in (
        {"params": params[:-1]},
        {"params": [*params, params[0]]},
        {"running": None},
        {"running": running[:1]},
    ):
        with pytest.raises(ValueError, match="has 5 parameters and 2 running statistics, not"):
            network.forward(**{"params": params, "running": running, "x": x, **wrong})  # type: ignore[arg-type]


def test_first_weights_are_those_promised() -> None:
    """A change of these numbers changes every run ever seeded: raise the major version with it."""
    relu, tanh, gelu = (init_params(MLP((3, 2), activation=name), 7, "float64")[0] for name in ("relu", "tanh", "gelu"))
    draws = np.random.Generator(np.random.PCG64(7))
    assert np.allclose(relu, draws.normal(0.0, np.sqrt(2 / 3), (3, 2)), rtol=1e-15, atol=0.0)
    assert np.array_equal(gelu, relu)
    limit = np.sqrt(6 / 5)
    assert np.allclose(tanh, np.random.Generator(np.random.PCG64(7)).uniform(-limit, limit, (3, 2)), atol=0.0)
