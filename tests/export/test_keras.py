"""Keras: a file of built-in layers that gives the same outputs there, and the way back without Keras."""

import contextlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpnet
from tests.export.models import KINDS, made, rows_for
from xpnet.data import Scaling
from xpnet.data.schema import PIXELS
from xpnet.errors import ConfigError, MissingPackageError, ModelError
from xpnet.export import FORMATS
from xpnet.export.hdf5 import read_hdf5
from xpnet.export.keras import BACKENDS, _is_installed, content, library
from xpnet.export.keras_reader import read
from xpnet.numerics.functional import ACTIVATIONS, LOSSES

h5py = pytest.importorskip("h5py", reason="needs h5py, which comes with keras, of the extra keras")
if not _is_installed("keras"):
    pytest.skip("needs keras, of the extra keras", allow_module_level=True)

pytestmark = [
    pytest.mark.skipif(not any(map(_is_installed, BACKENDS)), reason="Keras needs torch, jax or tensorflow"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Keras, by NumPy
]


def in_keras(path: Path, u: Any) -> Any:
    keras = library()
    return keras.ops.convert_to_numpy(keras.saving.load_model(path)(u))


def written(model: Any, folder: Path) -> Path:
    (folder / "model.keras").write_bytes(content(model))
    return folder / "model.keras"


def assert_close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize(("activation", "loss", "batch_norm", "dtype"), KINDS[:: max(1, len(KINDS) // 16 - 1)])
def test_keras_gives_the_same_outputs(activation: str, loss: str, batch_norm: bool, dtype: str, tmp_path: Path) -> None:
    model = made(activation, loss, batch_norm, dtype)
    u = rows_for(model, 50)
    assert_close(in_keras(written(model, tmp_path), u), model.outputs(u))


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "loss", "batch_norm", "dtype"), KINDS)
def test_keras_gives_the_same_outputs_of_every_kind(
    activation: str, loss: str, batch_norm: bool, dtype: str, tmp_path: Path
) -> None:
    model = made(activation, loss, batch_norm, dtype)
    u = rows_for(model, 50)
    path = written(model, tmp_path)
    assert_close(in_keras(path, u), model.outputs(u))
    assert_close(read(path).outputs(u), model.outputs(u))


@pytest.mark.parametrize("loss", LOSSES)
def test_the_way_back_gives_the_same_outputs(loss: str, tmp_path: Path) -> None:
    for i, activation in enumerate(ACTIVATIONS):
        classes = () if loss in ("huber", "poisson") else ("a", 3, 2.5)
        model = made(activation, loss, i % 2 == 0, columns=tuple("uvwxyz"), form="emnist", classes=classes)
        back = read(written(model, tmp_path))
        u = rows_for(model, 50)
        assert_close(back.outputs(u), model.outputs(u))
        assert (back.network.activation, back.network.loss, back.classes) == (activation, loss, classes)
        assert (back.data, back.schema.columns, back.schema.form) == (model.data, tuple("uvwxyz"), "emnist")


@pytest.mark.parametrize("features", [PIXELS, Scaling("pixels", None, 16.0), Scaling(), Scaling("minmax", None, 3.0)])
def test_pictures_go_in_as_they_are(features: Scaling, tmp_path: Path) -> None:
    model = made(features=features, image_shape=(2, 3))
    u = rows_for(model, 20).reshape(20, 2, 3)
    path = written(model, tmp_path)
    assert_close(in_keras(path, u), model.outputs(u))
    back = read(path)
    assert_close(back.outputs(u), model.outputs(u))
    assert (back.image_shape, back.schema.features.kind == "pixels") == ((2, 3), features.kind == "pixels")


def test_digits_that_matter_are_kept(tmp_path: Path) -> None:
    """Far from zero, or so close to it that Keras would take a scale for 1e-7."""
    rng = np.random.default_rng(0)
    for shift, scale, dtype in ((2000.123456789, 3e-4, np.float64), (2e-9, 3e-10, np.float32)):
        model = made(features=Scaling("standard", np.full(6, shift, dtype), np.full(6, scale, dtype)))
        u = (shift + scale * rng.normal(size=(20, 6))).astype(dtype)
        path = written(model, tmp_path)
        assert_close(in_keras(path, u), model.outputs(u))
        assert_close(read(path).outputs(u), model.outputs(u))


def test_the_line_that_says_how_to_use_it_is_true(tmp_path: Path) -> None:
    model = made(features=PIXELS)
    rows = rows_for(model, 20)
    use = FORMATS[".keras"].use.format(file=str(written(model, tmp_path)))
    assert_close(eval(use, {"keras": library(), "rows": rows}), model.outputs(rows))


def test_several_models_are_averaged(tmp_path: Path) -> None:
    both = xpnet.Ensemble([made("tanh", seed=1), made("gelu", "cross-entropy", True, "float64", seed=2)])
    u = rows_for(both.members[0], 20)
    path = written(both, tmp_path)
    assert_close(in_keras(path, u), both.outputs(u))
    with pytest.raises(ModelError, match="holds 2 models whose outputs are averaged"):
        read(path)


def test_weights_that_float32_has_not_are_refused() -> None:
    model = made(dtype="float64", features=Scaling("standard", None, np.full(6, 1e-300)))
    with pytest.raises(ModelError, match="weights are not finite float32"):
        content(model)


def test_the_backend_is_the_user_s_or_one_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os; from xpnet.export.keras import library\n"
        "print(library().backend.backend(), 'KERAS_BACKEND' in os.environ)"
    )
    there = next(name for name in BACKENDS if _is_installed(name))
    if not _is_installed("tensorflow"):
        monkeypatch.delenv("KERAS_BACKEND", raising=False)
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert ran.stdout.split() == [there, "False"]
    if _is_installed("jax"):
        monkeypatch.setenv("KERAS_BACKEND", "jax")
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert ran.stdout.split() == ["jax", "True"]


def test_without_any_backend_a_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setattr("xpnet.export.keras._is_installed", lambda name: name == "keras")
    with pytest.raises(MissingPackageError, match=r"needs a backend of Keras, one of torch, jax, tensorflow"):
        library()


def test_a_network_of_a_user_of_keras(tmp_path: Path) -> None:
    keras = library()
    layers, rng = keras.layers, np.random.default_rng(0)
    x = rng.integers(0, 256, (40, 3, 4, 1)).astype(np.float32)
    scaling = layers.Normalization(mean=[0.5], variance=[0.09], axis=-1)
    networks = [
        [layers.Flatten(), layers.Rescaling(1 / 255), layers.Dense(7, "relu"), layers.Dropout(0.2), layers.Dense(3)],
        [layers.Flatten(), layers.Dense(7, "tanh"), layers.BatchNormalization(), layers.Dense(3, "softmax")],
        [layers.Rescaling(1 / 255, -0.5), layers.Flatten(), layers.Dense(7), layers.BatchNormalization(scale=False),
         layers.ReLU(), layers.Dense(5, use_bias=False), layers.Activation("relu"), layers.Dense(1, "sigmoid")],
        [layers.Flatten(), scaling, layers.Dense(7), layers.LeakyReLU(negative_slope=0.01), layers.Dense(3),
         layers.Softmax()],
    ]  # fmt: skip
    for network in networks:
        net = keras.Sequential([keras.Input((3, 4, 1)), *network])
        for layer in net.layers:
            layer.set_weights([rng.uniform(0.1, 1, w.shape) for w in layer.get_weights()])
        net.save(tmp_path / "theirs.keras")
        found = read(tmp_path / "theirs.keras")
        expected = keras.ops.convert_to_numpy(net(x))
        np.testing.assert_allclose(found.outputs(x), expected, rtol=0, atol=4e-6 * max(1.0, np.abs(expected).max()))
        assert found.image_shape == (3, 4)


def test_layers_that_a_plain_mlp_has_not_are_refused_by_name(tmp_path: Path) -> None:
    keras = library()
    layers = keras.layers
    for network, message in (
        ([layers.Dense(4, "gelu"), layers.Dense(2)], "Dense 'one' with the activation 'gelu'"),
        (
            [layers.Dense(4), layers.LeakyReLU(negative_slope=0.2, name="leak"), layers.Dense(2)],
            "'leak' of the slope 0.2",
        ),
        (
            [layers.Dense(4), layers.LayerNormalization(name="norm"), layers.Dense(2)],
            "has no LayerNormalization 'norm'",
        ),
        ([layers.Dense(4, "relu"), layers.ReLU(max_value=6, name="six"), layers.Dense(2)], "has no ReLU 'six'"),
        ([layers.Dense(4), layers.Reshape((2, 2), name="shape"), layers.Dense(2)], "has no Reshape 'shape'"),
    ):
        network[0].name = "one"
        keras.Sequential([keras.Input((6,)), *network]).save(tmp_path / "theirs.keras")
        with pytest.raises(ModelError, match=message):
            read(tmp_path / "theirs.keras")


def rewritten(path: Path, change: Callable[[dict[str, bytes]], Any], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)


def of_weights(change: Callable[[Any], Any]) -> Callable[[dict[str, bytes]], None]:
    """A change of the file of weights."""

    def changed(parts: dict[str, bytes]) -> None:
        file = io.BytesIO(parts["model.weights.h5"])
        with h5py.File(file, "r+") as weights:
            change(weights["layers/dense/vars"])
        parts["model.weights.h5"] = file.getvalue()

    return changed


def replaced(**options: Any) -> Callable[[Any], None]:
    def change(group: Any) -> None:
        del group["0"]
        group.create_dataset("0", **options)

    return change


def linked(link: Any) -> Callable[[Any], None]:
    def change(group: Any) -> None:
        del group["0"]
        group["0"] = link

    return change


def of_config(**entries: Any) -> Callable[[dict[str, bytes]], None]:
    def changed(parts: dict[str, bytes]) -> None:
        config = json.loads(parts["config.json"])
        next(layer for layer in config["config"]["layers"] if layer["class_name"] == "Dense")["config"].update(entries)
        parts["config.json"] = json.dumps(config).encode()

    return changed


HOSTILE: list[tuple[Any, str]] = [
    (lambda parts: parts.pop("config.json"), "damaged, or not what Keras 3 saves"),
    (lambda parts: parts.update({"config.json": b"[" * 100_000}), "damaged, or not what Keras 3 saves"),
    (lambda parts: parts.update({"config.json": b"[]"}), "damaged, or beyond what is read here"),
    (lambda parts: parts.update({"config.json": b'{"config": {"layers": []}}'}), "has 0 layers"),
    (lambda parts: parts.update({"xpnet.json": b"[" * 100_000}), "damaged, or not what Keras 3 saves"),
    (lambda parts: parts.update({"xpnet.json": json.dumps({"labels": [1, 1, 1]}).encode()}), "cannot be one of"),
    (lambda parts: parts.update({"model.weights.h5": b"no HDF5"}), "damaged, or not in an HDF5 file"),
    (of_config(activation={"class_name": "__lambda__"}), "with the activation 'dict'"),
    (of_weights(replaced(shape=(6, 8), dtype="f4", compression="gzip")), "are packed, or do not lie in the file"),
    (of_weights(replaced(shape=(10**6, 10**6), dtype="f4")), "damaged, or not in an HDF5 file|are packed"),
    (of_weights(replaced(shape=(10**6, 10**6), dtype="f4", chunks=(10, 10))), "are packed, or do not lie in the file"),
    (of_weights(replaced(shape=(6, 8), dtype=h5py.string_dtype())), "it has no weights of Dense 'dense'"),
    (of_weights(replaced(shape=(6, 8), dtype=">f4")), "it has no weights of Dense 'dense'"),
    (of_weights(replaced(shape=(6, 8), dtype="f4", external=[("/etc/passwd", 0, 192)])), "are packed, or do not lie"),
    (of_weights(linked(h5py.ExternalLink("/etc/passwd", "/x"))), "it has no weights of Dense 'dense'"),
    (of_weights(linked(h5py.SoftLink("/layers/dense_1/vars/0"))), "refer to another place by '0'"),
    (of_weights(lambda group: group.pop("0")), "it has no weights of Dense 'dense'"),
    (of_weights(lambda group: group.file.__setitem__("loop", group.file)), "damaged, or not in an HDF5 file"),
    (lambda parts: parts.update({"model.weights.h5": parts["model.weights.h5"][:900]}), "damaged, or not in an HDF5"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), HOSTILE)
def test_a_hostile_file_is_refused_in_a_line(change: Any, message: str, tmp_path: Path) -> None:
    path = written(made(), tmp_path)
    rewritten(path, change)
    with pytest.raises(ModelError, match=message) as error:
        read(path)
    assert str(error.value).isprintable()


@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_weights_are_read_or_refused(changes: list[tuple[float, int]]) -> None:
    """HDF5's own library crashes at some of them."""
    file = io.BytesIO()
    with h5py.File(file, "w") as weights:
        weights["layers/dense/vars/0"] = np.arange(12, dtype=np.float32).reshape(3, 4)
    whole = file.getvalue()
    (array,) = read_hdf5(whole).values()
    assert np.array_equal(array, np.arange(12).reshape(3, 4))
    damaged = bytearray(whole)
    for where, byte in changes:
        damaged[int(where * len(damaged))] = byte
    with contextlib.suppress(ModelError):
        assert sum(each.nbytes for each in read_hdf5(bytes(damaged)).values()) <= len(damaged)


def test_arrays_of_every_shape_and_float_are_read() -> None:
    file, rng = io.BytesIO(), np.random.default_rng(0)
    arrays = {
        f"group{i}/{dtype}/{'x'.join(map(str, shape)) or 'number'}": rng.normal(size=shape).astype(dtype)
        for i, shape in enumerate([(), (1,), (7,), (3, 5), (2, 3, 4), *[(n,) for n in range(2, 60)]])
        for dtype in ("f2", "f4", "f8")
    }
    with h5py.File(file, "w") as weights:
        for name, array in arrays.items():
            weights[name] = array
        weights["text"], weights["count"] = "text", 3
    found = read_hdf5(file.getvalue())
    assert found.keys() == arrays.keys()
    assert all(
        np.array_equal(found[name], array) and found[name].dtype == array.dtype for name, array in arrays.items()
    )


def test_what_is_compressed_or_cut_is_refused(tmp_path: Path) -> None:
    path = written(made(), tmp_path)
    whole = path.read_bytes()
    rewritten(path, lambda parts: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelError, match="unpacks to more than its own size"):
        read(path)
    for content_now in (b"", whole[:-40]):
        path.write_bytes(content_now)
        with pytest.raises(ModelError, match="damaged, or not what Keras 3 saves"):
            read(path)


def test_a_loss_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    path = written(made(), tmp_path)
    with pytest.raises(ModelError, match="ends with softmax, but the loss mse with identity"):
        read(path, loss="mse")
    with pytest.raises((ModelError, ConfigError), match="did you mean 'mse'"):
        read(path, loss="mes")


def test_every_image_of_mnist_has_the_same_class(mnist: xpnet.Dataset, tmp_path: Path) -> None:
    assert mnist.test is not None
    images = np.asarray(mnist.test.images)
    model = xpnet.fit(xpnet.MLP((784, 32, 10)), mnist, epochs=1, device="cpu", progress=False).model
    path, expected = written(model, tmp_path), model.outputs(images)
    for found in (in_keras(path, images), read(path).outputs(images)):
        assert np.abs(found - expected).max() <= 2e-6
        assert np.array_equal(found.argmax(axis=1), expected.argmax(axis=1))
