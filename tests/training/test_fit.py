"""What fit takes besides a Dataset of pictures: arrays, tables, numbers to predict, several labels, a trained model."""

import logging
import warnings
from pathlib import Path
from typing import Any, get_type_hints

import array_api_strict
import numpy as np
import pytest

import xpnet
from xpnet.data import Dataset, Split, rows_of
from xpnet.errors import ConfigError, DataError
from xpnet.numerics.functional import softmax
from xpnet.numerics.network import MLP
from xpnet.training import scaling
from xpnet.training.calibration import temperature_of
from xpnet.training.config import SETTINGS, Settings, TrainConfig
from xpnet.training.loader import Examples, Loader
from xpnet.training.prepare import held_out
from xpnet.training.setting import SYNONYMS

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(120, 6)) * [1, 10, 0.1, 1e4, 1, 1] + [0, 5, 100, 1e6, -3, 0]
CLASSES = (TABLE[:, 0] > 0).astype(int) + (TABLE[:, 4] > -3)
NUMBERS = TABLE @ [1.0, 0.2, 3.0, 1e-4, 0.0, -1.0]
PIXELS = RNG.integers(0, 256, (60, 8, 8)).astype(np.uint8)
DIGITS = np.arange(60) % 3
QUICK: Any = {"epochs": 2, "progress": False}


def classifier(n_in: int = 6, n_out: int = 3) -> xpnet.MLP:
    return xpnet.MLP((n_in, 8, n_out))


def regressor(n_out: int = 1, loss: str = "squared-error") -> xpnet.MLP:
    return xpnet.MLP((6, 16, n_out), loss=loss)


@pytest.mark.parametrize(
    ("X", "y"),
    [
        (PIXELS, DIGITS.astype(np.int64)),
        (PIXELS.astype(np.int64), DIGITS.astype(np.int32)),
        (PIXELS * 1.0, DIGITS * 1.0),
        (PIXELS.tolist(), DIGITS.tolist()),
        (PIXELS.astype(">u2"), DIGITS.astype(">i8")),
        (PIXELS[..., None], DIGITS[:, None]),
        (PIXELS[:, None], np.eye(3)[DIGITS]),
        (PIXELS.reshape(60, 64), [f"class {k}" for k in DIGITS]),
        (PIXELS.reshape(60, 64).astype(object), (DIGITS + 5).astype(np.uint8)),
    ],
    ids=["int64", "pixels", "floats", "lists", "big-endian", "column", "one-hot", "text", "objects"],
)
def test_the_ways_to_hand_over_arrays_train_the_same_network(X: Any, y: Any) -> None:
    network = classifier(64)
    expected = xpnet.fit(network, Dataset("own", Split(PIXELS, DIGITS)), **QUICK)
    result = xpnet.fit(network, (X, y), **QUICK)
    for own, same in zip(result.model.params, expected.model.params, strict=True):
        assert np.array_equal(own, same)
    labels = np.ravel(y) if np.ndim(y) == 1 or np.shape(y)[1] == 1 else DIGITS
    assert result.model.evaluate(X, y) == expected.model.evaluate(PIXELS, DIGITS)
    assert np.mean(result.model.predict(X) == labels) == result.model.evaluate(X, y).accuracy


def test_several_splits_at_once() -> None:
    """As Keras' load_data, scikit-learn's train_test_split and its data sets, and np.load return them."""
    X, y, Xt, yt = TABLE[:90], CLASSES[:90], TABLE[90:], CLASSES[90:]
    expected = xpnet.fit(classifier(), (X, y), test=(Xt, yt), **QUICK).history[-1].test_loss
    for data in (((X, y), (Xt, yt)), [X, Xt, y, yt], {"x_train": X, "y_train": y, "x_test": Xt, "y_test": yt}):
        assert xpnet.fit(classifier(), data, **QUICK).history[-1].test_loss == expected
    bunch = {"data": X, "target": y, "feature_names": list("abcdef"), "DESCR": "a set of scikit-learn"}
    assert xpnet.fit(classifier(), bunch, test=(Xt, yt), **QUICK).history[-1].test_loss == expected
    for wrong in ("mnist", 5, (X,), {"other": X}):
        with pytest.raises((TypeError, DataError), match=r"data must be a Dataset|name a pair"):
            xpnet.fit(classifier(), wrong, **QUICK)


def test_features_beyond_the_squares_of_floats_are_scaled() -> None:
    expected = xpnet.fit(classifier(), (TABLE, CLASSES), **QUICK).model.outputs(TABLE)
    for factor in (1e290, 1e-290):
        model = xpnet.fit(classifier(), (TABLE * factor, CLASSES), **QUICK).model
        assert np.allclose(model.outputs(TABLE * factor), expected, rtol=1e-4)


def test_columns_are_known_by_their_names(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="DataFrames are pandas' and are read by their protocol")
    table = pandas.DataFrame(TABLE, columns=list("abcdef"))
    turned = table[list("fedcba")].assign(more=1.0)
    result = xpnet.fit(classifier(), (table, CLASSES), test=(turned, CLASSES), **QUICK)
    assert result.history[-1].test_accuracy == result.model.evaluate(table, CLASSES).accuracy
    result.model.save(tmp_path / "model.safetensors")
    for model in (result.model, xpnet.load(tmp_path / "model.safetensors", "cpu")):
        assert np.array_equal(model.outputs(turned), model.outputs(TABLE))
        with pytest.raises(DataError, match="the column 'b' is missing; those that were trained on are needed"):
            model.predict(table.rename(columns={"b": "B"}))


def test_structured_and_masked_arrays() -> None:
    expected = xpnet.fit(classifier(), (TABLE, CLASSES), **QUICK).model.outputs(TABLE)
    records = np.rec.fromarrays(TABLE.T, names="a,b,c,d,e,f")  # type: ignore[call-overload]
    assert np.array_equal(xpnet.fit(classifier(), (records, CLASSES), **QUICK).model.outputs(records), expected)
    whole = np.ma.masked_array(TABLE)
    assert np.array_equal(xpnet.fit(classifier(), (whole, CLASSES), **QUICK).model.outputs(TABLE), expected)
    with pytest.raises(DataError, match="features of which some are masked; fill them in"):
        xpnet.fit(classifier(), (np.ma.masked_greater(TABLE, 1e6), CLASSES), **QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        matrix = np.asmatrix(TABLE)
    assert np.array_equal(xpnet.fit(classifier(), (matrix, CLASSES), **QUICK).model.outputs(TABLE), expected)


@pytest.mark.parametrize("scale", ["auto", "standard", "minmax", "none"])
def test_features_are_scaled_by_the_examples_that_are_trained_on(scale: str, tmp_path: Path) -> None:
    result = xpnet.fit(classifier(), (TABLE, CLASSES), validation=0.25, scale=scale, lr=1e-6, **QUICK)
    rows, _ = held_out(120, result.config)
    train, found = TABLE[rows], result.model.schema.features
    if scale == "none":
        assert (found.kind, found.shift, found.scale) == ("none", None, None)
    elif scale == "minmax":
        assert np.allclose(found.shift, train.min(axis=0), rtol=1e-12)
        assert np.allclose(found.scale, np.ptp(train, axis=0), rtol=1e-12)
    else:
        assert np.allclose(found.shift, train.mean(axis=0), rtol=1e-12)
        assert np.allclose(found.scale, train.std(axis=0), rtol=1e-12)
    result.model.save(tmp_path / "model.safetensors")
    loaded = xpnet.load(tmp_path / "model.safetensors", "cpu")
    assert np.array_equal(loaded.outputs(TABLE), result.model.outputs(TABLE))
    assert loaded.schema.features.kind == found.kind


def test_the_unit_of_a_feature_makes_no_difference() -> None:
    factor, offset = np.array([1, 60, 1000, 1e-3, 25.4, -1]), np.array([0, 273.15, 1e7, 0, -5, 1])
    here = xpnet.fit(classifier(), (TABLE, CLASSES), dtype="float64", **QUICK).model
    there = xpnet.fit(classifier(), (TABLE * np.abs(factor) + offset, CLASSES), dtype="float64", **QUICK).model
    assert np.allclose(here.outputs(TABLE), there.outputs(TABLE * np.abs(factor) + offset), rtol=1e-6)


def test_a_column_that_is_constant_in_training_never_matters() -> None:
    constant, varied = TABLE.copy(), TABLE.copy()
    constant[:, 2] = 0.1
    for X in (constant, constant.astype(np.float32)):
        model = xpnet.fit(classifier(), (X, CLASSES), **QUICK).model
        assert np.array_equal(model.outputs(varied.astype(X.dtype)), model.outputs(X))


@pytest.mark.parametrize("scale", ["standard", "minmax"])
def test_features_on_the_disk_are_scaled_by_all_of_them(
    scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xpnet.training.scaling.BLOCK_BYTES", 7 * 6 * 8)
    order = TABLE[:, 1].argsort()
    np.save(tmp_path / "table.npy", TABLE[order])
    table = np.load(tmp_path / "table.npy", mmap_mode="r")
    found = xpnet.fit(classifier(), (table, CLASSES[order]), scale=scale, **QUICK).model.schema.features
    minmax = scale == "minmax"
    assert np.allclose(found.shift, TABLE.min(axis=0) if minmax else TABLE.mean(axis=0), rtol=1e-12)
    assert np.allclose(found.scale, np.ptp(TABLE, axis=0) if minmax else TABLE.std(axis=0), rtol=1e-12)
    np.save(tmp_path / "pixels.npy", np.concatenate([PIXELS[:50] // 16, PIXELS[50:]]))
    pixels = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    assert xpnet.fit(classifier(64), (pixels, DIGITS), **QUICK).model.schema.features.scale == 255.0


def test_features_on_the_disk_are_read_once_for_their_scaling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In blocks each larger than the one before, so that the unit of what was summed up changes; and it is said."""
    table = np.exp(np.linspace(-700, 700, 600)).reshape(100, 6)
    np.save(tmp_path / "table.npy", table)
    monkeypatch.setattr(scaling, "BLOCK_BYTES", 7 * 6 * 8)
    monkeypatch.setattr(scaling, "LARGE", table.nbytes)
    taken: list[int] = []

    def counted(array: Any, rows: Any) -> Any:
        taken.extend(rows.tolist())
        return rows_of(array, rows)

    monkeypatch.setattr(scaling, "rows_of", counted)
    train = Examples(np.load(tmp_path / "table.npy", mmap_mode="r"), np.zeros(100, np.int32))
    caplog.set_level("INFO")
    found = scaling.scaling_of_features(train, "standard", "table")
    assert taken == list(range(100))
    assert caplog.messages == ["table: reading its 100 rows once, to scale the features"]
    largest = table.max(axis=0)
    assert np.allclose(found.shift, table.mean(axis=0), rtol=1e-12)
    assert np.allclose(found.scale / largest, (table / largest).std(axis=0), rtol=1e-12)


def test_pixels_are_divided_by_what_they_can_be(caplog: pytest.LogCaptureFixture) -> None:
    assert xpnet.fit(classifier(64), (PIXELS, DIGITS), **QUICK).model.schema.features.scale == 255.0
    assert not caplog.messages
    few = xpnet.fit(classifier(64), (PIXELS // 16, DIGITS), **QUICK).model
    assert few.schema.features.scale == 15.0
    assert caplog.messages == ["arrays: the largest pixel is 15, so pixels are divided by 15 instead of 255"]
    assert np.allclose(few.outputs(PIXELS // 16), few.outputs((PIXELS // 16) / 15), rtol=1e-5)
    fractions = xpnet.fit(classifier(64), (PIXELS / 255, DIGITS), **QUICK).model
    assert np.allclose(fractions.outputs(PIXELS), fractions.outputs(PIXELS / 255), rtol=1e-5)


def test_pixels_that_were_rounded_above_1_are_fractions(caplog: pytest.LogCaptureFixture) -> None:
    """As by float16; predict takes them so."""
    fractions = (PIXELS / PIXELS.max() * 1.0009765625).astype(np.float16)
    assert fractions.max() > 1
    model = xpnet.fit(classifier(64), (fractions, DIGITS), **QUICK).model
    assert model.schema.features.scale is None
    assert not caplog.messages
    assert np.allclose(model.outputs(PIXELS), model.outputs(PIXELS / 255), rtol=1e-5)


def test_constant_targets_are_not_divided_by_a_rounding_error() -> None:
    y = np.full((100, 3), 0.1)  # whose mean is another number, by a rounding
    found = scaling.scaling_of_targets(Examples(np.zeros((100, 1), np.float32), y), "squared-error")
    assert found.scale.tolist() == [1.0] * 3
    assert np.allclose(found.shift, 0.1, rtol=1e-12)


@pytest.mark.parametrize(("offset", "unit"), [(1.7e9, 10.0), (0.0, 1e45), (0.0, 1e-46), (0.0, 1e155), (0.0, 1e-165)])
def test_targets_of_any_size_are_predicted_with_their_digits(offset: float, unit: float) -> None:
    """Those of Unix times, and beyond float32, or the square root of float64."""
    plain = xpnet.fit(regressor(), (TABLE, TABLE[:, 0]), **QUICK)
    moved = xpnet.fit(regressor(), (TABLE, offset + unit * TABLE[:, 0]), **QUICK)
    assert moved.history[-1].train_r2 == pytest.approx(plain.history[-1].train_r2, abs=1e-5)
    assert np.allclose((moved.model.predict(TABLE) - offset) / unit, plain.model.predict(TABLE), atol=1e-5)
    scores = moved.model.evaluate(TABLE, offset + unit * TABLE[:, 0])
    assert scores.mae / unit == pytest.approx(plain.model.evaluate(TABLE, TABLE[:, 0]).mae, abs=1e-5)
    pair = xpnet.Ensemble([moved.model, moved.model]).evaluate(TABLE, offset + unit * TABLE[:, 0])
    assert pair.r2 == pytest.approx(scores.r2, abs=1e-5)
    own, its = (model.explain(TABLE[:1])[0] for model in (plain.model, moved.model))
    assert np.allclose(its.contributions / unit, own.contributions, atol=1e-5)
    assert (its.value - offset) / unit == pytest.approx(own.value, abs=1e-5)


def test_a_regression_has_r2_and_targets_in_their_unit(tmp_path: Path) -> None:
    X, y, Xt, yt = TABLE[:90], NUMBERS[:90], TABLE[90:], NUMBERS[90:]
    result = xpnet.fit(regressor(), (X, y), test=(Xt, yt), epochs=40, out=tmp_path / "run", progress=False)
    last, predicted = result.history[-1], result.model.predict(Xt)
    assert last.train_accuracy is None
    assert last.test_r2 == pytest.approx(
        1 - np.square(predicted - yt).sum() / np.square(yt - yt.mean()).sum(), rel=1e-5
    )
    assert (last.test_r2 or 0) > 0.8
    scores = result.model.evaluate(Xt, yt)
    assert scores.mae == pytest.approx(np.abs(predicted - yt).mean())
    assert (scores.r2, scores.loss) == (pytest.approx(last.test_r2), pytest.approx(last.test_loss, rel=1e-5))
    header = (tmp_path / "run" / "history.csv").read_text().splitlines()[0]
    assert header.startswith("epoch,train_loss,train_r2,validation_loss,validation_r2,test_loss,test_r2,learning_rate")
    loaded = xpnet.load(tmp_path / "run", "cpu")
    assert np.array_equal(loaded.predict(Xt), predicted)
    again = xpnet.fit(regressor(), (X, 1000 * y + 5), test=(Xt, 1000 * yt + 5), epochs=40, progress=False)
    assert np.allclose(again.model.predict(Xt), 1000 * predicted + 5, rtol=1e-3)


def test_a_regression_of_several_numbers() -> None:
    y = np.c_[NUMBERS, -NUMBERS * 100, TABLE[:, 0]]
    model = xpnet.fit(regressor(3, "huber"), (TABLE, y), epochs=60, lr=0.05, progress=False).model
    outputs = model.predict(TABLE)
    by_hand = np.mean(1 - np.square(outputs - y).sum(axis=0) / np.square(y - y.mean(axis=0)).sum(axis=0))
    assert model.evaluate(TABLE, y).r2 == pytest.approx(by_hand, rel=1e-4)
    assert by_hand > 0.8


def test_counts_are_not_scaled() -> None:
    counts = np.random.default_rng(1).poisson(np.exp(TABLE[:, 0]))
    model = xpnet.fit(regressor(loss="poisson"), (TABLE, counts), epochs=30, lr=0.02, progress=False).model
    assert model.schema.targets.kind == "none"
    assert (model.predict(TABLE) > 0).all()
    assert model.predict(TABLE).mean() == pytest.approx(counts.mean(), rel=0.2)
    with pytest.raises(ConfigError, match="poisson is for counts, but a target is -1"):
        xpnet.fit(regressor(loss="poisson"), (TABLE, counts - 1 - counts.min()), **QUICK)


def test_several_labels_an_example() -> None:
    y = np.c_[TABLE[:, 0] > 0, TABLE[:, 4] > -3, TABLE[:, 5] > 0]
    network = xpnet.MLP((6, 16, 3), loss="binary-cross-entropy")
    result = xpnet.fit(network, (TABLE, y), epochs=40, lr=0.2, progress=False)
    predicted = result.model.predict(TABLE)
    assert result.model.evaluate(TABLE, y).accuracy == np.mean((predicted == y).all(axis=1)) > 0.85
    assert result.model.outputs(TABLE).shape == (120, 3)


@pytest.mark.parametrize(
    ("network", "y", "says"),
    [
        (regressor(), CLASSES, None),
        (regressor(2), NUMBERS, "the network has 2 outputs, but arrays has 1 target a row"),
        (classifier(), NUMBERS, "is a fraction; to predict numbers, choose the loss squared-error"),
        (classifier(), np.c_[NUMBERS, NUMBERS], "not one-hot"),
        (classifier(n_out=2), CLASSES, "the network has 2 outputs, but arrays has 3 classes"),
        (
            xpnet.MLP((6, 1), loss="binary-cross-entropy"),
            CLASSES,
            "2 at row .*; multilabel targets are 0 or 1",
        ),
    ],
)
def test_networks_and_labels_that_do_not_fit(network: xpnet.MLP, y: Any, says: str | None) -> None:
    if says is None:
        assert xpnet.fit(network, (TABLE, y), **QUICK).history[-1].train_r2 is not None
        return
    with pytest.raises((ConfigError, DataError), match=says):
        xpnet.fit(network, (TABLE, y), **QUICK)


def test_a_loss_of_another_task_than_the_data() -> None:
    with pytest.raises(ConfigError, match="cross-entropy is for classification, but the labels of arrays"):
        xpnet.fit(classifier(n_out=1), Dataset.from_arrays(TABLE, NUMBERS), **QUICK)
    with pytest.raises(ConfigError, match="class_weight balanced needs classes"):
        xpnet.fit(regressor(), (TABLE, NUMBERS), class_weight="balanced", **QUICK)


@pytest.mark.parametrize("loss", ["squared-error", "huber", "poisson"])
@pytest.mark.parametrize("width", [8, 1024])
def test_a_regression_does_not_diverge_by_default(loss: str, width: int) -> None:
    y = NUMBERS if loss != "poisson" else RNG.poisson(np.exp(TABLE[:, 0]))
    result = xpnet.fit(xpnet.MLP((6, width, 1), loss=loss), (TABLE, y), progress=False)
    assert (result.config.epochs, result.config.clip_norm) == (100, 0.3)
    assert (result.history[-1].train_r2 or 0) > 0.5


# --- starting from a model -------------------------------------------------------------------------------------------


def test_a_model_is_trained_further() -> None:
    first = xpnet.fit(xpnet.MLP((6, 8, 3), batch_norm=True), (TABLE, CLASSES), **QUICK)
    before = [a.copy() for a in first.model.params]
    second = xpnet.fit(first.model, (TABLE[:50], CLASSES[:50]), lr=1e-9, **QUICK)
    for start, end, kept in zip(before, second.model.params, first.model.params, strict=True):
        assert np.allclose(start, end, atol=1e-6)
        assert np.array_equal(start, kept), "the model that it starts from stays as it is"
    assert np.array_equal(second.model.schema.features.shift, first.model.schema.features.shift)
    assert not np.array_equal(second.model.running[0], first.model.running[0])


def test_what_was_learned_is_kept_by_default() -> None:
    first = xpnet.fit(classifier(), (TABLE, CLASSES), progress=False).model
    few = TABLE[:30], CLASSES[:30]
    further, alone = (xpnet.fit(start, few, progress=False) for start in (first, classifier()))
    assert (further.config.lr, further.config.weight_decay) == (pytest.approx(0.015), 1e-4)
    accuracies = [result.model.evaluate(TABLE, CLASSES).accuracy for result in (further, alone)]
    assert accuracies[0] > accuracies[1]


def test_other_classes_need_a_new_last_layer(caplog: pytest.LogCaptureFixture) -> None:
    first = xpnet.fit(classifier(), (TABLE, CLASSES), **QUICK).model
    names = np.array(["cat", "dog"])[(CLASSES > 1).astype(int)]
    second = xpnet.fit(first, (TABLE, names), lr=1e-9, **QUICK).model
    assert second.classes == ("cat", "dog")
    assert np.allclose(second.params[0], first.params[0], atol=1e-6)
    assert second.params[2].shape == (8, 2)
    assert "with a new last layer, since the outputs stand for other things: cat, dog" in caplog.text


def test_own_examples_of_some_of_the_classes(caplog: pytest.LogCaptureFixture) -> None:
    first = xpnet.fit(classifier(), (TABLE, CLASSES), **QUICK).model
    some = CLASSES != 1
    second = xpnet.fit(first, (TABLE[some], CLASSES[some]), test=(TABLE[some], CLASSES[some]), lr=1e-9, **QUICK)
    assert second.model.classes == (0, 1, 2)
    assert np.allclose(second.model.outputs(TABLE), first.outputs(TABLE), atol=1e-5)
    assert second.history[-1].test_accuracy == first.evaluate(TABLE[some], CLASSES[some]).accuracy
    assert not caplog.messages


def test_rows_of_a_table_stay_rows_for_a_model_with_more_classes() -> None:
    table, y = (PIXELS.reshape(60, 64) / 255)[:, :36], np.arange(60) % 3
    rows = xpnet.Split(table, y, is_table=True)
    first = xpnet.fit(classifier(36), Dataset("a table", rows), **QUICK).model
    some = Dataset("own", xpnet.Split(table[y != 1], y[y != 1], is_table=True))
    second = xpnet.fit(first, some, lr=1e-9, **QUICK).model
    assert second.image_shape == first.image_shape == (36,)
    assert second.schema.features.kind == "standard"
    assert np.allclose(second.outputs(table), first.outputs(table), atol=1e-5)


@pytest.mark.parametrize("scale", ["standard", "minmax", "none"])
def test_features_stay_scaled_as_the_model_knows_them(scale: str) -> None:
    first = xpnet.fit(classifier(), (TABLE, CLASSES), scale=scale, **QUICK).model
    part = TABLE[:50] + 3
    chosen: list[dict[str, Any]] = [{}, {"scale": scale}]
    for settings in chosen:
        second = xpnet.fit(first, (part, CLASSES[:50]), lr=1e-9, **settings, **QUICK).model
        assert second.schema.features.kind == scale
        assert np.allclose(second.outputs(TABLE), first.outputs(TABLE), atol=1e-5)
    other = "none" if scale == "minmax" else "minmax"
    assert xpnet.fit(first, (part, CLASSES[:50]), scale=other, **QUICK).model.schema.features.kind == other


def named(names: str, values: np.ndarray) -> np.ndarray:
    """A structured array, which has names as a DataFrame has."""
    found = np.empty(len(values), [(name, values.dtype) for name in names])
    for name, column in zip(names, values.T, strict=True):
        found[name] = column
    return found


@pytest.mark.parametrize("hidden", [(8,), ()])
def test_columns_and_outputs_in_another_order_are_found_by_their_names(hidden: tuple[int, ...]) -> None:
    labels = (TABLE[:, :3] > TABLE[:, :3].mean(axis=0)).astype(int)
    network = xpnet.MLP((6, *hidden, 3), loss="binary-cross-entropy")
    first = xpnet.fit(network, (named("abcdef", TABLE), named("xyz", labels)), **QUICK).model
    columns, outputs = named("fadcbe", TABLE[:, [5, 0, 3, 2, 1, 4]]), named("zxy", labels[:, [2, 0, 1]])
    assert first.evaluate(columns, outputs) == first.evaluate(TABLE, labels)
    second = xpnet.fit(first, (columns, outputs), lr=1e-9, **QUICK).model
    assert (second.schema.columns, second.classes) == (tuple("fadcbe"), tuple("zxy"))
    assert np.allclose(second.outputs(columns), first.outputs(TABLE)[:, [2, 0, 1]], atol=1e-5)
    numbers = xpnet.fit(regressor(2), (TABLE, named("pq", TABLE[:, :2])), **QUICK).model
    turned = xpnet.fit(numbers, (TABLE, named("qp", TABLE[:, 1::-1])), lr=1e-9, **QUICK).model
    assert np.allclose(turned.predict(TABLE), numbers.predict(TABLE)[:, ::-1], rtol=1e-4)


def test_other_columns_and_outputs_are_noticed(caplog: pytest.LogCaptureFixture) -> None:
    first = xpnet.fit(regressor(), (named("abcdef", TABLE), named("p", NUMBERS[:, None])), **QUICK).model
    with pytest.raises(ConfigError, match="the model was trained on a column 'f', which the data lacks"):
        xpnet.fit(first, (named("abcdeg", TABLE), NUMBERS), **QUICK)
    with pytest.raises(DataError, match="labels: the column 'p' is missing"):
        first.evaluate(TABLE, named("q", NUMBERS[:, None]))
    assert xpnet.fit(first, (TABLE, NUMBERS), **QUICK).model.schema.targets is first.schema.targets
    assert not caplog.messages
    other = 1000 * TABLE[:, 1] + 1e6
    anew = xpnet.fit(first, (TABLE, named("q", other[:, None])), **QUICK).model
    assert anew.schema.targets.shift == pytest.approx(other.mean())
    assert caplog.messages == [
        "starting from a model of arrays, but with a new last layer, since the outputs stand for other things: q"
    ]
    caplog.clear()
    xpnet.fit(first, (TABLE, other), **QUICK)
    assert "arrays: the targets lie around 1.01e+06, but the model was trained on some around" in caplog.messages[0]


def test_models_that_do_not_fit_the_data() -> None:
    model = xpnet.fit(classifier(), (TABLE, CLASSES), **QUICK).model
    with pytest.raises(ConfigError, match="the model takes 6 features, but arrays has 5"):
        xpnet.fit(model, (TABLE[:, :5], CLASSES), **QUICK)
    with pytest.raises(ConfigError, match="the model was trained for classification, but arrays is for regression"):
        xpnet.fit(model, Dataset.from_arrays(TABLE, NUMBERS), **QUICK)


# --- arrays on a device ----------------------------------------------------------------------------------------------


def test_features_on_the_device_are_not_moved() -> None:
    backend, on_device = xpnet.select("device1"), array_api_strict.Device("device1")
    X = array_api_strict.asarray(PIXELS, device=on_device)
    data = Dataset.from_arrays(X, DIGITS)
    ((_, window),) = Loader(Examples(data.train.images, data.train.targets), backend).windows()
    assert np.shares_memory(window.images._array, X._array)
    result = xpnet.fit(classifier(64), (X, DIGITS), validation=0.2, backend=backend, **QUICK)
    expected = xpnet.fit(classifier(64), (PIXELS, DIGITS), validation=0.2, backend=backend, **QUICK)
    assert np.array_equal(result.model.outputs(X), expected.model.outputs(PIXELS))
    table = array_api_strict.asarray(TABLE, device=on_device)
    scaled = xpnet.fit(classifier(), (table, CLASSES), backend=backend, **QUICK).model
    assert np.allclose(scaled.schema.features.shift, TABLE.mean(axis=0), rtol=1e-12)
    assert scaled.to("cpu").evaluate(TABLE, CLASSES).accuracy == scaled.evaluate(table, CLASSES).accuracy


def test_arrays_of_torch_and_jax() -> None:
    torch = pytest.importorskip("torch", reason="torch is one of the libraries")
    jax = pytest.importorskip("jax", reason="JAX is one of the libraries")
    expected = xpnet.fit(classifier(64), (PIXELS, DIGITS), **QUICK).model.outputs(PIXELS)
    for asarray in (torch.tensor, jax.numpy.asarray):
        model = xpnet.fit(classifier(64), (asarray(PIXELS), asarray(DIGITS)), **QUICK).model
        assert np.array_equal(model.outputs(asarray(PIXELS)), expected)


# --- settings and progress -------------------------------------------------------------------------------------------


def test_an_editor_knows_every_setting() -> None:
    apart = {"data", "test", "validation"}  # arguments of fit
    assert list(Settings.__annotations__) == [name for name in SETTINGS if name not in apart]
    kinds = get_type_hints(TrainConfig)
    assert all(kind == kinds[name] for name, kind in get_type_hints(Settings).items())


@pytest.mark.parametrize(
    ("wrong", "right"), [("learning_rate", "lr"), ("n_epochs", "epochs"), ("random_state", "seed")]
)
def test_words_of_other_libraries_have_an_answer(wrong: str, right: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown setting '{wrong}'; did you mean '{right}'"):
        xpnet.fit(classifier(), (TABLE, CLASSES), **{wrong: 1})  # type: ignore[arg-type]
    assert set(SYNONYMS.values()) <= {*SETTINGS, "progress"}
    assert not set(SYNONYMS) & set(SETTINGS)


def test_settings_without_effect_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    """scikit-learn's alpha is a weight decay; here it belongs to an optimizer that is not the one in use."""
    idle = {"alpha": 0.5, "decay": 0.5, "teaching_share": 0.5}
    xpnet.fit(classifier(), (TABLE, CLASSES), **QUICK, **idle, momentum=0.5)  # type: ignore[arg-type]
    assert [record.getMessage() for record in caplog.records] == [
        "alpha has no effect without the optimizer rmsprop",
        "decay has no effect without the schedule step",
        "teaching_share has no effect without a teacher",
    ]
    caplog.clear()
    xpnet.fit(classifier(), (TABLE, CLASSES), **QUICK, alpha=0.5, decay=0.5, optimizer="rmsprop", schedule="step")
    assert not caplog.records


def test_arguments_that_are_nearly_right(caplog: pytest.LogCaptureFixture) -> None:
    data = (TABLE, CLASSES)
    share = xpnet.fit(classifier(), data, validation=np.float32(0.25), **QUICK).config.validation
    assert share == 0.25
    assert xpnet.fit(classifier(), data, validation=np.int64(30), **QUICK).config.validation == 30
    with pytest.raises(xpnet.ConfigError, match="validation must be a number or a word, not True"):
        xpnet.fit(classifier(), data, validation=True, **QUICK)
    loose: Any = xpnet
    for wrong, error, message in (
        (lambda: loose.fit(None, data), TypeError, "network must be an MLP"),
        (lambda: loose.fit(classifier(), (3, CLASSES)), DataError, "^train split: features must be an array"),
        (lambda: loose.fit(classifier(), data, callbacks=loose.LearningRates()), TypeError, "in a list"),
        (lambda: loose.EarlyStopping(0), ConfigError, "patience must be at least 1, not 0"),
        (lambda: loose.EarlyStopping("a"), ConfigError, "patience must be a whole number, not 'a'"),
        (lambda: loose.Ensemble(loose.fit(classifier(), data, **QUICK).model), TypeError, "members must be Models"),
        (lambda: loose.select(0), xpnet.DeviceError, "unknown device '0'"),
    ):
        with pytest.raises(error, match=message):
            wrong()
    assert not caplog.messages
    xpnet.fit(xpnet.MLP((64, 4, 3)), (PIXELS > 99, DIGITS), **QUICK)
    assert not caplog.messages, "truths have no larger value than 1"


@pytest.mark.parametrize("loss", ["cross-entropy", "mse"])
def test_classes_are_learned_with_the_default_settings(loss: str) -> None:
    """Squared errors of outputs without bounds diverged, on scaled columns."""
    result = xpnet.fit(MLP((6, 128, 3), loss=loss), (TABLE, CLASSES), progress=False)
    assert result.history[-1].train_accuracy is not None
    assert result.history[-1].train_accuracy > 0.85


def test_a_callback_does_not_hide_the_progress(capsys: pytest.CaptureFixture[str]) -> None:
    xpnet.fit(classifier(), (TABLE, CLASSES), epochs=1, callbacks=[xpnet.LearningRates()])
    assert "train loss  train acc" in capsys.readouterr().err
    xpnet.fit(classifier(), (TABLE, CLASSES), epochs=1, callbacks=[xpnet.Progress()])
    assert capsys.readouterr().err.count("train loss") == 1
    xpnet.fit(classifier(), (TABLE, CLASSES), epochs=1, callbacks=[xpnet.LearningRates()], progress=False)
    assert capsys.readouterr().err == ""


# --- calibration -----------------------------------------------------------------------------------------------------


def nats(logits: Any, labels: Any) -> float:
    p, _ = softmax(logits, xp=np)
    return float(-np.log(p[np.arange(len(p)), labels]).mean())


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_the_temperature_makes_the_labels_most_probable(factor: float) -> None:
    rng = np.random.default_rng(3)
    z = 2 * rng.normal(size=(4000, 5))
    labels = (softmax(z, xp=np)[0].cumsum(axis=1) > rng.random((4000, 1))).argmax(axis=1)
    temperature = temperature_of(factor * z, labels)
    assert temperature == pytest.approx(factor, rel=0.1)
    best = nats(factor * z / temperature, labels)
    assert all(best <= nats(factor * z / other, labels) for other in (0.97 * temperature, 1.03 * temperature))


@pytest.mark.parametrize("n", [1, 10, 30])
def test_few_examples_that_are_all_right_do_not_make_a_network_certain(n: int) -> None:
    """Of logits whose probabilities are true, so that any temperature but 1 makes them worse."""
    rng = np.random.default_rng(5)
    z = 2 * rng.normal(size=(4000, 3))
    labels = (softmax(z, xp=np)[0].cumsum(axis=1) > rng.random((4000, 1))).argmax(axis=1)
    right = np.flatnonzero(z.argmax(axis=1) == labels)[:n]
    assert nats(z / temperature_of(z[right], labels[right]), labels) < 1.2 * nats(z, labels)


def test_a_network_with_more_outputs_than_classes_keeps_their_numbers() -> None:
    """As one of ten digits does that is trained on the 3s, 5s and 7s."""
    model = xpnet.fit(classifier(n_out=6), (TABLE, CLASSES + 3), test=(TABLE, CLASSES + 3), **QUICK).model
    assert model.classes == (0, 1, 2, 3, 4, 5)
    alone = xpnet.fit(classifier(), (TABLE, CLASSES + 3), epochs=60, progress=False).model
    wide = xpnet.fit(classifier(n_out=6), (TABLE, CLASSES + 3), epochs=60, progress=False).model
    assert wide.evaluate(TABLE, CLASSES + 3).accuracy > 0.8 < alone.evaluate(TABLE, CLASSES + 3).accuracy
    with pytest.raises(DataError, match="every label is 1; at least two classes are needed"):
        xpnet.fit(classifier(n_out=6), (TABLE, np.ones(120, int)), **QUICK)
    for labels in (np.array(["a", "b", "c"])[CLASSES], CLASSES + 4):
        with pytest.raises(ConfigError, match="the network has 6 outputs, but arrays has 3 classes"):
            xpnet.fit(classifier(n_out=6), (TABLE, labels), **QUICK)


def test_a_model_is_calibrated_by_what_was_held_out(tmp_path: Path) -> None:
    y = np.random.default_rng(4).permutation(CLASSES)  # nothing to learn, so that it is too sure
    result = xpnet.fit(
        classifier(), (TABLE, y), validation=0.5, epochs=60, weight_decay=0.0, out=tmp_path / "run", progress=False
    )
    model = result.model
    assert model.schema.temperature > 1.5
    _, held = held_out(120, result.config)
    logits = model.logits(TABLE[held])
    assert temperature_of(logits, y[held]) == model.schema.temperature
    assert np.array_equal(model.outputs(TABLE), softmax(model.logits(TABLE) / np.float32(model.schema.temperature))[0])
    assert xpnet.load(tmp_path / "run", "cpu").schema.temperature == model.schema.temperature
    assert model.evaluate(TABLE[held], y[held]).loss == pytest.approx(result.history[-1].validation_loss, rel=1e-5)


def test_a_model_is_calibrated_by_examples_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xpnet.training.calibration.MOST_EXAMPLES", 40)
    order = CLASSES.argsort(kind="stable")
    model = xpnet.fit(
        classifier(), (TABLE, CLASSES), validation=(TABLE[order], CLASSES[order]), epochs=20, progress=False
    ).model
    every_third = order[::3]
    expected = temperature_of(model.logits(TABLE[every_third]), CLASSES[every_third])
    assert model.schema.temperature == pytest.approx(expected)


def test_a_run_does_not_take_an_exception_of_its_caller_s_for_its_own(tmp_path: Path) -> None:
    settings: Any = {"validation": 0.2, "epochs": 3, "progress": False}
    alone = xpnet.fit(classifier(), (TABLE, CLASSES), out=tmp_path / "alone", **settings)
    for exception in (OSError, KeyboardInterrupt):
        try:
            raise exception
        except exception:
            within = xpnet.fit(classifier(), (TABLE, CLASSES), out=tmp_path / exception.__name__, **settings)
        assert within.model.schema.temperature == alone.model.schema.temperature
        kept = [
            sorted(path.name for path in (tmp_path / run / "checkpoints").iterdir())
            for run in ("alone", exception.__name__)
        ]
        assert kept[0] == kept[1]


def test_without_held_out_examples_nothing_is_calibrated() -> None:
    assert xpnet.fit(classifier(), (TABLE, CLASSES), test=(TABLE, CLASSES), **QUICK).model.schema.temperature == 1.0


def test_a_regression_resumes_to_the_same_bits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    settings: Any = {"lr": 0.02, "schedule": "constant", "validation": 0.2, "progress": False}
    whole = xpnet.fit(regressor(), (TABLE, NUMBERS), epochs=4, **settings)
    xpnet.fit(regressor(), (TABLE, NUMBERS), epochs=2, out=tmp_path / "run", **settings)
    resumed = xpnet.fit(regressor(), (TABLE, NUMBERS), epochs=4, out=tmp_path / "run", resume=True, **settings)
    for own, same in zip(resumed.model.params, whole.model.params, strict=True):
        assert np.array_equal(own, same)
    assert [epoch.validation_r2 for epoch in resumed.history] == [epoch.validation_r2 for epoch in whole.history]
