"""Model files: what is saved loads anywhere, and what is damaged is refused in one line."""

import copy
import json
import math
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

import xpnet
from tests.conftest import open_backend
from xpnet.backend import Backend, select
from xpnet.data import Scaling, Schema
from xpnet.errors import DataError, ModelError
from xpnet.export.layers import described
from xpnet.model import calibration_error, storage
from xpnet.numerics.functional import LOSSES
from xpnet.training.initializers import init_params, init_running


def make_model(library: str = "numpy", device: str = "cpu", dtype: str = "float32") -> xpnet.Model:
    network = xpnet.MLP((36, 7, 3), batch_norm=True)
    backend = open_backend(library, device)
    params = [backend.to_device(p) for p in init_params(network, 1, dtype)]
    running = [backend.to_device(a + 0.5) for a in init_running(network, dtype)]
    return xpnet.Model(network, params, running, backend, Schema("patterns", (6, 6)))


LIBRARIES = [
    ("numpy", "cpu"),
    ("torch", "cpu"),
    ("jax", "cpu"),
    ("array-api-strict", "device1"),
    pytest.param("cupy", "cuda", marks=pytest.mark.cuda),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("library", "device"), LIBRARIES)
def test_a_model_moves_between_libraries(library: str, device: str, dtype: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (1203, 6, 6)).astype(np.uint8)
    labels = rng.integers(0, 3, 1203).astype(np.int32)
    reference = make_model(dtype=dtype)
    there = make_model(library, device, dtype)
    there.save(tmp_path / "there.safetensors")
    reference.save(tmp_path / "here.safetensors")
    assert (tmp_path / "there.safetensors").read_bytes() == (tmp_path / "here.safetensors").read_bytes()
    back = xpnet.load(tmp_path / "there.safetensors", device="cpu")
    forth = xpnet.load(tmp_path / "here.safetensors", device=device, library=library)
    assert back.network == forth.network == reference.network
    assert (back.data, back.image_shape) == ("patterns", (6, 6))
    assert np.array_equal(back.outputs(images), reference.outputs(images))
    assert forth.outputs(images).dtype == dtype
    assert np.allclose(forth.outputs(images), reference.outputs(images), rtol=1e-5, atol=1e-7)
    assert forth.evaluate(images, labels).loss == pytest.approx(reference.evaluate(images, labels).loss, rel=1e-5)
    of_labels = reference.outputs(images)[np.arange(1203), labels]
    assert reference.evaluate(images, labels).loss == pytest.approx(-np.log(of_labels).mean(), rel=1e-5)


def test_predict_takes_images_of_any_layout() -> None:
    model = make_model()
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 6)).astype(np.uint8)
    classes = model.predict(images)
    assert classes.shape == (5,)
    assert np.array_equal(classes, model.predict(images.reshape(5, 36)))
    assert np.array_equal(classes, model.predict(images / 255.0))
    assert model.outputs(images[:0]).shape == (0, 3)
    assert model.hidden(images[:0]).shape == (0, model.network.sizes[-2])
    for wrong in (np.zeros((2, 5, 5), np.uint8), np.zeros(36, np.uint8)):
        with pytest.raises(ModelError, match="36 features"):
            model.predict(wrong)
    with pytest.raises(DataError, match="label 3 of row 1 is not a class of the model; the classes are 0, 1, 2"):
        model.evaluate(images, np.array([0, 3, 0, 0, 0], np.int32))
    as_list: Any = [0, 1, 2, 0, 1]
    assert model.evaluate(images, np.array(as_list)) == model.evaluate(images, as_list)
    for labels in (np.zeros(4, np.int32), np.eye(3)):
        with pytest.raises(ModelError, match="5 examples need as many labels"):
            model.evaluate(images, labels)
    with pytest.raises(ModelError, match="no examples to measure"):
        model.evaluate(images[:0], np.zeros(0, np.int32))
    with pytest.raises(DataError, match="rows of different lengths"):
        model.predict([[0.5] * 36, [0.5]])
    with pytest.raises(ModelError, match=r"pass.* as x\[None\]"):
        model.predict(images[0])
    for same in (images.astype(np.float64), images.astype(">i4"), images.tolist(), images[:, None]):
        assert np.array_equal(model.predict(same), classes)
    assert np.array_equal(model.predict(images / (images.max() - 0.01)), classes)  # as resampling rounds
    for pixels in (images - 1.0, images * 2.0, images / 250.0):
        with pytest.raises(ModelError, match=r"pixels must be in \[0, 1\], or from 0 to 255; these are from"):
            model.predict(pixels)
    with pytest.raises(DataError, match="nan at row 0, pixel"):
        model.predict(images * np.nan)


def test_outputs_that_are_not_numbers_tell_no_class() -> None:
    """Features that float64 holds may be infinite in the network's float32."""
    for network, n_targets in ((xpnet.MLP((3, 4, 2)), 0), (xpnet.MLP((3, 4, 2), loss="binary-cross-entropy"), 2)):
        backend = select("cpu")
        params = [backend.to_device(p) for p in init_params(network, 1)]
        model = xpnet.Model(network, params, [], backend, Schema("rows", (3,), features=Scaling()))
        rows = np.array([[0.1, 2.0, -3.0], [1e300, 1e300, 0.5]])
        assert model.predict(rows[:1]).shape == ((1, 2) if n_targets else (1,))
        with pytest.raises(ModelError, match="outputs for row 1 are not numbers: its features are too large"):
            model.predict(rows)


def test_predictions_do_not_depend_on_their_company() -> None:
    model = make_model(dtype="float64")
    images = np.random.default_rng(0).integers(0, 256, (2500, 6, 6)).astype(np.uint8)
    whole = model.outputs(images)
    assert np.allclose(whole[1700:1701], model.outputs(images[1700:1701]), rtol=1e-12, atol=0.0)


def test_evaluation_is_without_label_smoothing_and_dropout() -> None:
    plain = xpnet.MLP((36, 7, 3))
    backend = open_backend("numpy")
    images = np.random.default_rng(0).integers(0, 256, (50, 6, 6)).astype(np.uint8)
    labels = np.arange(50) % 3
    smoothed = xpnet.MLP((36, 7, 3), label_smoothing=0.3, dropout=0.5)
    scores = [xpnet.Model(net, init_params(plain), [], backend).evaluate(images, labels) for net in (plain, smoothed)]
    assert scores[0] == scores[1]


def make_member(
    seed: int, *, dtype: str = "float32", library: str = "numpy", device: str = "cpu", **description: Any
) -> xpnet.Model:
    network = xpnet.MLP(**{"sizes": (36, 4 + seed, 3), **description})
    backend = open_backend(library, device)
    params = [backend.to_device(p) for p in init_params(network, seed, dtype)]
    return xpnet.Model(network, params, [backend.to_device(a + 0.5) for a in init_running(network, dtype)], backend)


ON_LABELS = [name for name, loss in LOSSES.items() if loss.task == "classification"]


def drawn(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, 6, 6)).astype(np.uint8), rng.integers(0, 3, n)


@pytest.mark.parametrize("loss", ON_LABELS)
@pytest.mark.parametrize(("library", "device"), LIBRARIES)
def test_an_ensemble_averages_its_members_outputs(library: str, device: str, loss: str) -> None:
    images, labels = drawn(1203)
    members = [
        make_member(0, loss=loss),
        make_member(1, loss=loss, library=library, device=device, activation="tanh", batch_norm=True, dropout=0.5),
        make_member(2, loss=loss, sizes=(36, 5, 9, 3), dtype="float64", label_smoothing=0.2),
    ]
    ensemble = xpnet.Ensemble(members)
    first, second, third = (member.outputs(images) for member in members)
    outputs = ensemble.outputs(images)
    assert outputs.dtype == np.float64
    assert np.allclose(outputs, (first.astype(np.float64) + second + third) / 3, rtol=1e-15, atol=0.0)
    assert np.array_equal(ensemble.predict(images), outputs.argmax(axis=1))
    accuracy = np.mean(outputs.argmax(axis=1) == labels)
    errors = (outputs - np.eye(3)[labels]) ** 2
    by_hand = -np.log(outputs[np.arange(1203), labels]) if loss == "cross-entropy" else errors
    measured = ensemble.measure(images, labels)
    assert ensemble.evaluate(images, labels.tolist()) == measured.scores
    assert ensemble.evaluate(images, labels) == (pytest.approx(by_hand.mean()), accuracy)
    assert np.array_equal(measured.outputs, outputs)
    assert list(measured.members) == [member.evaluate(images, labels) for member in members]
    shuffled = xpnet.Ensemble(members[::-1])
    assert np.allclose(shuffled.outputs(images), outputs, rtol=1e-14, atol=0.0)
    assert shuffled.evaluate(images, labels).loss == pytest.approx(measured.scores.loss, rel=1e-14)
    members.clear()
    assert np.array_equal(ensemble.outputs(images), outputs), "the caller's list is not the ensemble's"


@pytest.mark.parametrize("loss", ON_LABELS)
def test_an_ensemble_of_one_is_its_member(loss: str) -> None:
    images, labels = drawn(50)
    alone, ensemble = make_member(0, loss=loss), xpnet.Ensemble([make_member(0, loss=loss)])
    assert ensemble.outputs(images).dtype == np.float64
    assert np.array_equal(ensemble.outputs(images), alone.outputs(images))
    assert np.array_equal(ensemble.predict(images), alone.predict(images))
    scores = alone.evaluate(images, labels)
    assert ensemble.evaluate(images, labels) == (pytest.approx(scores.loss, rel=1e-6), scores.accuracy)
    assert ensemble.outputs(images[:0]).shape == (0, 3)


def test_each_member_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = drawn(50)
    ensemble, ran, forward = xpnet.Ensemble([make_member(0), make_member(1)]), [], xpnet.MLP.forward

    def counted(network: xpnet.MLP, *arguments: Any, **options: Any) -> Any:
        ran.append(network)
        return forward(network, *arguments, **options)

    monkeypatch.setattr(xpnet.MLP, "forward", counted)
    ensemble.measure(images, labels)
    assert ran == [member.network for member in ensemble.members]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"sizes": (49, 4, 3)}, "49 inputs, but member 1 36 inputs"),
        ({"sizes": (36, 4, 5)}, "5 classes, but member 1 3 classes"),
        ({"loss": "mse-softmax"}, "the loss mse-softmax, but member 1 the loss cross-entropy"),
    ],
)
def test_members_that_do_not_agree(other: dict[str, Any], message: str) -> None:
    members = [make_member(0), make_member(1), make_member(2, **other)]
    with pytest.raises(ModelError, match=f"^member 3 has {message}: members of an ensemble must agree$"):
        xpnet.Ensemble(members)
    with pytest.raises(ModelError, match=r"^c has .+, but a "):
        xpnet.Ensemble(members, ["a", "b", "c"])


def described_member(**schema: Any) -> xpnet.Model:
    member = make_member(0)
    return replace(member, schema=replace(member.schema, **schema))


def test_members_whose_classes_are_other_ones_do_not_agree() -> None:
    """Far behind in a long list, too, and if only their kind differs."""
    for own, other, message in (
        ((0, 1, 2), (0, 1, 5), "member 2 has the classes 5, but member 1 the classes 2"),
        ((0, 1, 2), ("0", "1", "2"), "member 2 has the classes '0', '1', '2', but member 1 the classes 0, 1, 2"),
        ((0, 1, 2), (2, 1, 0), "member 2 has the classes 2, 1, 0, but member 1 the classes 0, 1, 2"),
        ((0, 1, 2), (0, 2, 1), "member 2 has the classes 2, 1, but member 1 the classes 1, 2"),
    ):
        with pytest.raises(ModelError, match=f"^{message}: members of an ensemble must agree$"):
            xpnet.Ensemble([described_member(classes=own), described_member(classes=other)])
    many = tuple(range(18))
    wide = [make_member(0, sizes=(36, 4, 20)) for _ in range(2)]
    far = [
        replace(member, schema=replace(member.schema, classes=(*many, *end)))
        for member, end in zip(wide, ((18, 19), (19, 18)), strict=True)
    ]
    with pytest.raises(ModelError, match="member 2 has the classes 19, 18, but member 1 the classes 18, 19"):
        xpnet.Ensemble(far)
    with pytest.raises(ModelError, match="2 members need as many names, not 1"):
        xpnet.Ensemble([make_member(0), make_member(1)], ["a"])


def test_members_that_take_their_columns_in_other_orders_take_them_in_the_first_one_s() -> None:
    pandas = pytest.importorskip("pandas", reason="needs pandas: pip install 'xpnet[tables]'")
    names = [f"c{i}" for i in range(36)]
    one, other = (described_member(columns=tuple(order), form="as-is") for order in (names, names[::-1]))
    X = np.random.default_rng(0).random((5, 36))
    table = pandas.DataFrame(X, columns=names)
    expected = (one.outputs(X) + other.outputs(X[:, ::-1])) / 2
    given_once: Any = iter((described_member(form="as-is"), one, other))
    ensemble = xpnet.Ensemble(given_once)
    assert [member.schema.columns for member in ensemble.members] == [(), tuple(names), tuple(names)]
    ensemble = xpnet.Ensemble([one, other])
    for rows in (table, table[names[::-1]], X):
        assert np.allclose(ensemble.outputs(rows), expected, rtol=1e-6)
        assert ensemble.explain(rows)[0].columns == tuple(names)
    own, its = (each.contributions.ravel() for each in (one.explain(X, of=0)[0], other.explain(X[:, ::-1], of=0)[0]))
    assert np.allclose(ensemble.explain(table, of=0)[0].contributions.ravel(), (own + its[::-1]) / 2, rtol=1e-5)


def test_members_that_take_different_columns_need_their_names() -> None:
    pandas = pytest.importorskip("pandas", reason="needs pandas: pip install 'xpnet[tables]'")
    names = tuple(f"c{i}" for i in range(36))
    one, other = (described_member(columns=columns, form="as-is") for columns in (names, (*names[:-1], "last")))
    X, ensemble = np.random.default_rng(0).random((5, 37)), xpnet.Ensemble([one, other])
    expected = (one.outputs(X[:, :36]) + other.outputs(X[:, [*range(35), 36]])) / 2
    table = pandas.DataFrame(X, columns=[*names, "last"])
    assert np.allclose(ensemble.outputs(table), expected)
    for refuses in (
        lambda: ensemble.outputs(X[:, :36]),
        lambda: ensemble.evaluate(X[:, :36], [0, 1, 2, 0, 1]),
        lambda: ensemble.explain(table),
        lambda: described(ensemble),
    ):
        with pytest.raises(ModelError, match="the members take different columns: pass a table"):
            refuses()


def test_an_ensemble_refuses_what_its_members_refuse() -> None:
    images, labels = drawn(5)
    with pytest.raises(ModelError, match="at least one member"):
        xpnet.Ensemble([])
    ensemble = xpnet.Ensemble([make_member(0), make_member(1)])
    with pytest.raises(ModelError, match="36 features"):
        ensemble.predict(images[0])
    with pytest.raises(ModelError, match="5 examples need as many labels"):
        ensemble.evaluate(images, labels[:4])
    with pytest.raises(DataError, match="label 3 of row 1 is not a class of the model; the classes are 0, 1, 2"):
        ensemble.evaluate(images, np.array([0, 3, 0, 0, 0]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_ensemble_s_loss_stays_finite_where_a_probability_rounds_to_0(dtype: str) -> None:
    image, label, arrays = np.ones((1, 36)), np.array([0]), [np.zeros((36, 3), dtype), np.array([0, 2000, 0], dtype)]
    sure = xpnet.Model(xpnet.MLP((36, 3)), arrays, [], select("cpu"))
    assert sure.evaluate(image, label) == (2000.0, 0.0)
    assert xpnet.Ensemble([sure, sure]).evaluate(image, label) == (pytest.approx(-math.log(1.1754944e-38)), 0.0)


@pytest.mark.parametrize(
    ("biases", "loss"),
    [((math.inf, math.inf), math.inf), ((math.inf, -math.inf), math.nan), ((1e200, 1e200), math.inf)],
)
def test_members_that_ran_away_show_in_the_loss(biases: tuple[float, float], loss: float) -> None:
    network = xpnet.MLP((36, 3), loss="mse")
    arrays = [[np.zeros((36, 3)), np.array([bias, 0.0, 0.0])] for bias in biases]
    members = [xpnet.Model(network, params, [], select("cpu")) for params in arrays]
    assert xpnet.Ensemble(members).evaluate(np.ones((1, 36)), np.array([0])).loss == pytest.approx(loss, nan_ok=True)


def saved(tmp_path: Path) -> bytes:
    make_model().save(tmp_path / "model.safetensors")
    return (tmp_path / "model.safetensors").read_bytes()


@pytest.mark.parametrize("library", ["numpy"])
def test_every_damaged_byte_is_noticed(library: str, tmp_path: Path) -> None:
    """Flip a bit of each of many bytes, header and arrays alike: refused, or (in a name's padding) read unchanged."""
    content = saved(tmp_path)
    path = tmp_path / "damaged.safetensors"
    good = xpnet.load(tmp_path / "model.safetensors", device="cpu")
    refused = 0
    for position in range(0, len(content), 5):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        try:
            model = xpnet.load(path, device="cpu")
        except ModelError:
            refused += 1
        else:
            assert (model.network, model.data, model.image_shape) == (good.network, good.data, good.image_shape)
            pairs = zip(model.params + model.running, good.params + good.running, strict=True)
            assert all(np.array_equal(a, b) for a, b in pairs)
    assert refused > 0.9 * len(content) / 5


@given(data=st.data())
def test_truncated_or_random_files(tmp_path: Path, data: st.DataObject) -> None:
    content = saved(tmp_path)
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content = data.draw(st.binary(max_size=200))
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        xpnet.load(path, device="cpu")


def _with_description(tmp_path: Path, change: object) -> Path:
    """A well-formed file whose description was changed by hand."""
    content = saved(tmp_path)
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    description = json.loads(header["__metadata__"]["xpnet"])
    header["__metadata__"]["xpnet"] = json.dumps(change(description))  # type: ignore[operator]
    text = json.dumps(header).encode()
    path = tmp_path / "changed.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: {**d, "format": "xpnet model 99"}, "xpnet model 99"),
        (lambda d: {**d, "network": {**d["network"], "sizes": [36, 8, 3]}}, "not those of a 36-8-3"),
        (lambda d: {**d, "network": {**d["network"], "activation": "rellu"}}, "did you mean 'relu'"),
        (lambda d: {**d, "network": {**d["network"], "activation": [1]}}, "activation must be a word"),
        (
            lambda d: {**d, "network": {**d["network"], "activation": "mine"}},
            "safetensors is a model with the activation 'mine', which is not registered in this process: one of your "
            "own must be put into xpnet.functional.ACTIVATIONS",
        ),
        (
            lambda d: {**d, "network": {**d["network"], "loss": "mine"}},
            "safetensors is a model with the loss 'mine', which is not registered in this process: one of your own "
            "must be put into xpnet.functional.LOSSES",
        ),
        (lambda d: {**d, "network": {**d["network"], "extra": 1}}, "cannot be read"),
        (lambda d: {**d, "network": {**d["network"], "sizes": [36, 10**12, 3]}}, "not those of"),
        (lambda d: {k: v for k, v in d.items() if k != "sha256"}, "cannot be read"),
        (lambda d: {**d, "sha256": "0" * 64}, "checksum"),
        (lambda d: [1, 2], "cannot be read"),
        (lambda d: {**d, "image_shape": "abc"}, "cannot be read"),
        (lambda d: {**d, "image_shape": [float("inf")]}, "cannot be read"),
        (lambda d: {**d, "image_shape": [6, 7]}, "checksum"),
        (lambda d: {**d, "data": "another"}, "checksum"),
        (lambda d: {**d, "network": {**d["network"], "dropout": 0.5}}, "checksum"),
        (lambda d: {**d, "network": {**d["network"], "sizes": [36, float("inf"), 3]}}, "cannot be read"),
        (lambda d: {**d, "network": {**d["network"], "batch_norm": "yes"}}, "true or false"),
        (lambda d: {**d, "classes": ["a", "b"]}, "unexpected classes"),
        (lambda d: {**d, "classes": ["a", "a", "b"]}, "unexpected classes"),
        (lambda d: {**d, "classes": [[1], 2, 3]}, "unexpected classes"),
        (lambda d: {**d, "classes": [5, 6, 7]}, "checksum"),
        (lambda d: {**d, "form": "square"}, "unexpected classes, form, columns or temp"),
        (lambda d: {**d, "temperature": 0.0}, "unexpected classes, form, columns or temp"),
        (lambda d: {**d, "temperature": float("nan")}, "unexpected classes, form, columns or temp"),
        (lambda d: {**d, "temperature": "1"}, "unexpected classes, form, columns or temp"),
        (lambda d: {**d, "features": {"kind": "log", "scale": None}}, "unexpected scaling of its features"),
        (lambda d: {**d, "features": {"kind": "pixels", "scale": -1.0}}, "unexpected scaling of its features"),
        (lambda d: {**d, "targets": {"kind": "standard", "scale": "1"}}, "unexpected scaling of its targets"),
        (lambda d: {**d, "targets": None}, "cannot be read"),
        (lambda d: {**d, "columns": ["a"]}, "unexpected classes, form, columns or temp"),
        (lambda d: {**d, "columns": [0] * 36}, "unexpected classes, form, columns or temp"),
    ],
)
def test_changed_descriptions(tmp_path: Path, change: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        xpnet.load(_with_description(tmp_path, change), device="cpu")


def test_models_of_the_first_format_are_read(tmp_path: Path) -> None:
    """They are of pictures, whose bytes are divided by 255 and whose classes are 0, 1, ..."""

    def older(description: dict[str, Any]) -> dict[str, Any]:
        names = ("network", "data", "image_shape")
        old = {"format": "xpnet model 1", **{name: description[name] for name in names}}
        return {**old, "sha256": storage._digest(old, arrays)}

    stored = storage.read(tmp_path / "model.safetensors") if saved(tmp_path) else None
    assert stored is not None
    arrays = [*stored.params, *stored.running]
    model = xpnet.load(_with_description(tmp_path, older), device="cpu")
    assert (model.schema.features.kind, model.schema.features.scale, model.classes) == ("pixels", 255.0, (0, 1, 2))
    images, _ = drawn(9)
    assert np.array_equal(model.outputs(images), make_model().outputs(images))


def test_headers_that_try_the_readers(tmp_path: Path) -> None:
    """A dtype that NumPy lacks, and a description nested beyond the parser's depth."""
    content = saved(tmp_path)
    length = struct.unpack("<Q", content[:8])[0]
    for old, new in (('"F32"', '"BF16"'), ('"xpnet":"', '"xpnet":"' + "[" * 100_000)):
        header = content[8 : 8 + length].decode().replace(old, new).encode()
        (tmp_path / "bad.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length :])
        with pytest.raises(ModelError):
            xpnet.load(tmp_path / "bad.safetensors", device="cpu")


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        xpnet.load(tmp_path / "nowhere.safetensors")
    with pytest.raises(ModelError, match=r"holds no model\.safetensors"):
        xpnet.load(tmp_path)
    (tmp_path / "other.safetensors").write_bytes(save({"w": np.ones(3)}))
    with pytest.raises(ModelError, match="not a model of xpnet"):
        xpnet.load(tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(ModelError, match="damaged or not a safetensors file"):
        xpnet.load(tmp_path / "text.safetensors")


def test_loading_needs_no_library_but_the_chosen_one(tmp_path: Path) -> None:
    make_model().save(tmp_path / "model.safetensors")
    assert xpnet.load(tmp_path / "model.safetensors", device="cpu").backend.name == select("cpu").name == "numpy"


WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
}


@pytest.mark.parametrize(("library", "device"), LIBRARIES)
@pytest.mark.parametrize("way", WAYS)
def test_a_model_is_copied_and_pickled(way: str, library: str, device: str) -> None:
    """What travels are host arrays and the description; the backend is selected again."""
    model = make_model(library, device)
    images = np.random.default_rng(0).random((6, 36), np.float32)
    for original in (model, xpnet.Ensemble([model, model])):
        assert np.array_equal(WAYS[way](original).outputs(images), original.outputs(images))
    twin = WAYS[way](model)
    assert (twin.network, twin.data, twin.image_shape) == (model.network, "patterns", (6, 6))
    assert (twin.backend.device, twin.backend.name) == (model.backend.device, model.backend.name)


def test_a_model_whose_device_is_gone_comes_back_on_the_cpu_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model()
    pickled = pickle.dumps(model).replace(b"cpu", b"gpu")

    def unavailable(device: str, *_: object, **__: object) -> Backend:
        if device != "cpu":
            raise xpnet.DeviceError("there is no such device here")
        return select("cpu")

    monkeypatch.setattr("xpnet.model.model.select", unavailable)
    twin = pickle.loads(pickled)
    assert twin.backend.device == "cpu"
    assert np.array_equal(twin.params[0], model.params[0])
    assert "the model was on gpu with numpy (there is no such device here); it is now on the CPU" in caplog.text


def test_a_model_is_kept_by_joblib(tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib", reason="needs joblib, which comes with scikit-learn")
    model = make_model()
    joblib.dump(model, tmp_path / "model")
    assert np.array_equal(joblib.load(tmp_path / "model").params[0], model.params[0])


# --- calibration -----------------------------------------------------------------------------------------------------


def test_the_calibration_error_of_outputs_made_by_hand() -> None:
    tops = np.array([0.95, 0.95, 0.95, 0.95, 0.6, 0.6, 1.0])
    outputs = np.stack([tops, 1 - tops], axis=1)
    labels = np.array([0, 0, 0, 1, 1, 0, 0])
    # 15 bins: four of 0.95 in one with the 1.0, of which 4 of 5 are right; two of 0.6, of which half are.
    expected = (abs(4.8 - 4) + abs(1.2 - 1)) / 7
    assert calibration_error(outputs, labels) == pytest.approx(expected)
    assert calibration_error(outputs, labels, bins=1) == pytest.approx(abs(6.0 - 5) / 7)
    assert calibration_error(np.eye(3), np.arange(3)) == 0.0
    assert math.isnan(calibration_error(np.array([[np.nan, 0.5]]), np.array([1])))


def test_the_calibration_error_of_labels_drawn_by_their_probabilities_is_small() -> None:
    rng = np.random.default_rng(0)
    outputs = rng.dirichlet(np.ones(4), 50_000)
    labels = (outputs.cumsum(axis=1) > rng.random((50_000, 1))).argmax(axis=1)
    assert calibration_error(outputs, labels) < 0.01
    sharper = outputs**2 / (outputs**2).sum(axis=1, keepdims=True)
    assert calibration_error(sharper, labels) > 0.1
