"""What a model gives as its reasons: they add up, they are the slope of the value, and what is near is near."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.conftest import open_backend, relative_error
from tests.export.models import made, rows_for
from xpnet.data import Scaling
from xpnet.errors import ConfigError, DataError, ModelError
from xpnet.numerics.functional import ACTIVATIONS, LOSSES


def explained_value(model: xpnet.Model, X: Any, of: int, against: int | None) -> Any:
    """What an Explanation's value is said to be, by another way: from the model's outputs."""
    if model.task != "regression":
        logits = model.logits(X).astype(np.float64)
        return logits[:, of] - (0.0 if against is None else logits[:, against])
    outputs = model.outputs(X)[:, of]
    return np.log(outputs) if model.network.loss == "poisson" else outputs


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("activation", ["relu", "leaky-relu", "identity"])
def test_without_biases_the_contributions_add_up_to_the_logit(activation: str, batch_norm: bool) -> None:
    model = made(activation, batch_norm=batch_norm, dtype="float64")
    params = [
        p if p.ndim == 2 or "scale" in name else 0 * p for p, name in zip(model.params, _names(model), strict=True)
    ]
    running = [0 * a if i % 2 == 0 else a for i, a in enumerate(model.running)]
    model = dataclasses.replace(model, params=params, running=running)
    X = rows_for(model, 7)
    for each, logits in zip(model.explain(X), model.logits(X), strict=True):
        assert each.contributions.sum() == pytest.approx(logits[each.of], rel=1e-10)
        assert sum(each.sums) == pytest.approx(each.value)
        assert each.sums[2] == pytest.approx(0.0, abs=1e-9)
        assert each.terms[2] == "biases"


def _names(model: xpnet.Model) -> list[str]:
    return list(model.network.param_shapes())


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_last_hidden_layer_s_contributions_and_the_bias_add_up_to_the_value(
    activation: str, batch_norm: bool
) -> None:
    model = made(activation, batch_norm=batch_norm, dtype="float64")
    for each in model.explain(rows_for(model, 5), of=1, against=2):
        assert [len(layer.activations) for layer in each.layers] == [8, 5]
        bias = model.params[-1][1] - model.params[-1][2]
        assert each.layers[-1].contributions.sum() + bias == pytest.approx(each.value, rel=1e-10)
        assert (each.terms[2] == "biases") == (activation in ("relu", "leaky-relu", "identity"))


@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_is_the_slope_of_the_value(loss: str) -> None:
    """By differences of what the model's outputs say, in the target's own unit, with each feature in its deviations."""
    model = made("tanh", loss, True, "float64")
    against = 2 if LOSSES[loss].task == "classification" else None
    X, h = rows_for(model, 4).astype(np.float64), 1e-5
    found = model.explain(X, of=1, against=against)
    assert [each.of for each in found] == [1] * 4
    np.testing.assert_allclose([each.value for each in found], explained_value(model, X, 1, against), rtol=1e-9)
    scaling = model.schema.features
    deviation = np.where(np.isfinite(scaling.scale), scaling.scale, 0.0)
    for i in range(X.shape[1]):
        step = h * deviation[i] * np.eye(X.shape[1])[i]
        slope = (explained_value(model, X + step, 1, against) - explained_value(model, X - step, 1, against)) / (2 * h)
        gradient = np.array([each.gradient[i] for each in found])
        if deviation[i]:
            np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-7)
    x = (X - scaling.shift) / scaling.scale
    assert relative_error([each.contributions for each in found], x * [each.gradient for each in found]) < 1e-6


def test_by_default_what_is_predicted_is_explained() -> None:
    model = made(classes=("a", "b", "c"))
    X = rows_for(model, 30)
    outputs = model.outputs(X)
    for each, row, predicted in zip(model.explain(X), outputs, model.predict(X), strict=True):
        assert (each.of, each.against) == (row.argmax(), None)
        assert each.prediction == predicted
        assert each.runner_up == np.argsort(row)[-2]
        assert np.array_equal(each.outputs, row)
        assert each.what == f"logit of {predicted}"
    (each,) = model.explain(X[:1], of="b", against="a")
    assert (each.of, each.against, each.what) == (1, 0, "logit of b less that of a")
    assert each.runner_up == np.argsort(outputs[0])[-2], "next to what is predicted, whatever is explained"
    assert model.explain(X[:0]) == []
    (labels,) = made(loss="binary-cross-entropy").explain(X[:1])
    assert (labels.runner_up, labels.of) == (None, labels.outputs.argmax())
    (number,) = made(loss="squared-error").explain(X[:1])
    assert (number.runner_up, number.of, number.what, number.terms[:2]) == (None, 0, "output 0", ("up", "down"))
    (count,) = made(loss="poisson", classes=("x", "y", "z")).explain(X[:1], of="z")
    assert count.what == "logarithm of z"


def test_an_equation_is_written_as_it_is_said() -> None:
    (each,) = made().explain(np.ones((1, 6), np.float32))

    def written(value: float, contributions: list[float]) -> str:
        return dataclasses.replace(each, what="y", value=value, contributions=np.array(contributions)).equation

    assert written(6.171, [12.18, -3.0, -3.2]) == "y: 6.17 = 12.18 for - 6.20 against + 0.19 biases"
    assert written(-1.0, [1.0, 0.0]) == "y: -1.000 = 1.000 for - 0.000 against - 2.000 biases"
    assert written(120000.0, [1.0]) == "y: 120000 = 1 for - 0 against + 119999 biases"
    assert written(np.nan, [1.0]) == "y: nan = 1.000 for - 0.000 against + nan biases"


def test_pictures_are_explained_in_their_shape(small_data: xpnet.Dataset) -> None:
    result = xpnet.fit(xpnet.MLP((36, 8, 3)), small_data, epochs=1, device="cpu", progress=False)
    images = small_data.train.images
    for X in (images[:3], images[:3].reshape(3, 36), images[:3] / 255.0):
        for each, image in zip(result.model.explain(X), images, strict=False):
            assert each.contributions.shape == each.gradient.shape == each.image.shape == (6, 6)
            assert np.allclose(each.contributions, each.gradient * image / 255, rtol=1e-5)
            assert np.array_equal(each.image, (image if X.dtype == np.uint8 else image / 255.0))


@pytest.mark.parametrize("hidden", [(), (8,), (8, 5)])
def test_the_nearest_examples_are_those_of_a_search_through_all(hidden: tuple[int, ...]) -> None:
    """There are more than go through the network at a time, and some are equal."""
    model = made("tanh", sizes=(6, *hidden, 3), dtype="float64")
    X = rows_for(model, 2300).astype(np.float64)
    X[2000:2010] = X[:10]
    y = np.arange(2300) % 3
    layers, _ = model.network.layers(model.params, (X - model.schema.features.shift) / model.schema.features.scale)
    queries = [3, 1200, 2299]
    for i, each in zip(queries, model.explain(X[queries], examples=(X, y), nearest=6), strict=True):
        assert each.neighbours is not None
        distances = np.sqrt(np.square(layers[-2] - layers[-2][i]).sum(axis=1))
        order = np.argsort(distances, kind="stable")[:6]
        near = each.neighbours
        assert near.indices[0] == i
        assert near.distances[0] == pytest.approx(0.0, abs=1e-6)
        np.testing.assert_allclose(near.distances, distances[order], atol=1e-6)
        assert set(near.indices) == set(order)
        assert np.array_equal(near.images, X[near.indices])
        assert near.targets is not None
        assert np.array_equal(near.targets, y[near.indices])
        assert near.labels == tuple(map(str, y[near.indices]))


def test_similar_examples_may_be_few_unlabelled_on_disk_or_numbers(tmp_path: Path) -> None:
    model = made(sizes=(36, 4, 3), image_shape=(6, 6), features=Scaling("pixels", None, 255.0))
    images = np.memmap(tmp_path / "images", np.uint8, "w+", shape=(3, 6, 6))
    images[:] = rows_for(model, 3).reshape(3, 6, 6)
    images.flush()
    mapped = np.memmap(tmp_path / "images", np.uint8, "r", shape=(3, 6, 6))
    (each,) = model.explain(np.array(images[1:2]), examples=(mapped, None), nearest=9)
    near = each.neighbours
    assert near is not None
    assert (near.indices[0], len(near.indices), near.images.shape) == (1, 3, (3, 6, 6))
    assert np.array_equal(near.images[0], images[1])
    assert (near.targets, near.labels) == (None, ())
    regression = made(loss="squared-error")
    X = rows_for(regression, 4)
    y = np.arange(12.0).reshape(4, 3)
    found = regression.explain(X[2:3], examples=(X, y), nearest=1)[0].neighbours
    assert found is not None
    assert found.labels == ("6, 7, 8",)
    found = regression.explain(X[2:3], examples=(X, y * 700_001), nearest=1)[0].neighbours
    assert found is not None
    assert found.labels == ("4200006, 4900007, 5600008",)
    several = made(loss="binary-cross-entropy", classes=("a", "b", "c"))
    found = several.explain(X[:1], examples=(X, [[1, 0, 1], [0, 0, 0]] * 2), nearest=4)[0].neighbours
    assert found is not None
    assert sorted(found.labels) == ["a, c", "a, c", "none", "none"]


@pytest.mark.parametrize(
    ("library", "device"),
    [
        ("torch", "cpu"),
        ("jax", "cpu"),
        ("array-api-strict", "device1"),
        pytest.param("cupy", "cuda", marks=pytest.mark.cuda),
    ],
)
def test_every_library_gives_the_same_reasons(library: str, device: str) -> None:
    reference = made("gelu", "huber", True, "float64")
    open_backend(library, device)
    there = reference.to(device, library)
    X = rows_for(reference, 40)
    y = np.zeros((40, 3))
    for mine, theirs in zip(*(m.explain(X[:3], of=2, examples=(X, y)) for m in (reference, there)), strict=True):
        assert theirs.value == pytest.approx(mine.value, rel=1e-9)
        assert relative_error(theirs.gradient, mine.gradient) < 1e-9
        assert relative_error(theirs.contributions, mine.contributions) < 1e-9
        for a, b in zip(theirs.layers, mine.layers, strict=True):
            assert relative_error(a.activations, b.activations) < 1e-9
            assert relative_error(a.contributions, b.contributions) < 1e-9
        assert theirs.neighbours is not None
        assert mine.neighbours is not None
        assert np.array_equal(theirs.neighbours.indices, mine.neighbours.indices)


def test_an_ensemble_s_reasons_are_the_mean_of_its_members() -> None:
    members = [made(seed=seed, sizes=(6, 4 + seed, 3)) for seed in range(3)]
    ensemble = xpnet.Ensemble(members)
    X = rows_for(members[0], 9)
    for i, each in enumerate(ensemble.explain(X, against=None)):
        own = [member.explain(X[i : i + 1], of=each.of)[0] for member in members]
        assert each.of == ensemble.outputs(X)[i].argmax()
        assert each.value == pytest.approx(np.mean([one.value for one in own]), rel=1e-5)
        assert np.allclose(
            each.contributions, np.mean([one.contributions for one in own], axis=0), rtol=1e-4, atol=1e-6
        )
        assert np.allclose(each.gradient, np.mean([one.gradient for one in own], axis=0), rtol=1e-4, atol=1e-6)
        assert sum(each.sums) == pytest.approx(each.value)
        assert (each.layers, each.neighbours) == ((), None)


def test_what_cannot_be_explained_is_refused() -> None:
    model = made(classes=("a", "b", "c"))
    X = rows_for(model, 3)
    for arguments in ({"of": "d"}, {"against": 0}):
        with pytest.raises(ConfigError, match=r"must be an output of the model, not .*; the choices are a, b, c$"):
            model.explain(X, **arguments)
    with pytest.raises(
        ConfigError, match="against: 'a' is itself what is explained in example 0: choose another class"
    ):
        model.explain(X, "a", against="a")
    with pytest.raises(ConfigError, match="against compares classes, but the model was trained for regression"):
        made(loss="huber").explain(X, against=1)
    with pytest.raises(ConfigError, match="the choices are 0, 1, 2"):
        made(loss="huber").explain(X, of="y")
    with pytest.raises(ConfigError, match="nearest must be at least 1, not 0"):
        model.explain(X, examples=(X, None), nearest=0)
    with pytest.raises(ConfigError, match=r"nearest must be a whole number, not 2.5"):
        model.explain(X, examples=(X, None), nearest=2.5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="there are no examples to find similar ones among"):
        model.explain(X, examples=(X[:0], None))
    with pytest.raises(ConfigError, match=r"examples must be a Split or a pair \(X, y\), not ndarray"):
        model.explain(X, examples=X)
    with pytest.raises(ModelError, match="3 examples need as many labels; these are 2"):
        model.explain(X, examples=(X, ["a", "b"]))
    with pytest.raises(ModelError, match="the model takes 6 features, but these have 2"):
        model.explain(X, examples=(X[:, :2], None))
    with pytest.raises(DataError, match="nan at row 0"):
        model.explain(X * np.nan)


def test_parameters_that_ran_away_show_in_the_result() -> None:
    model = made()
    wild = dataclasses.replace(model, params=[p * np.float32(np.inf) for p in model.params])
    (each,) = wild.explain(rows_for(model, 1), examples=(rows_for(model, 5), None))
    assert not np.isfinite(each.value)
    assert "nan" in each.equation
