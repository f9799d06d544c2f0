"""NumPy's .npz and JSON: who follows the formula in the file gets the model's outputs, and the way back the model."""

import io
import json
import math
import subprocess
import sys
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import xpnet
from tests.export.models import KINDS, made, rows_for
from xpnet.data import Scaling
from xpnet.data.schema import PIXELS
from xpnet.errors import ModelError
from xpnet.export.arrays import content, read

SUFFIXES = [".npz", ".json"]

# What a reader of the file may write, who has NumPy alone; of JSON the same, since its lists are arrays to NumPy.
READER = """
import json, sys, numpy as np
file, u = sys.argv[1], np.load("u.npy").astype(float)
if file.endswith(".npz"):
    a = np.load(file)
    net = json.loads(a["description"].tobytes())
else:
    net = a = json.load(open(file))
f = {"relu": lambda z: np.maximum(z, 0), "leaky-relu": lambda z: np.where(z > 0, z, 0.01 * z), "tanh": np.tanh,
     "sigmoid": lambda z: 1 / (1 + np.exp(-z)), "scaled-tanh": lambda z: 1.7159 * np.tanh(2 / 3 * z),
     "exponential": np.exp,
     "gelu": lambda z: z / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))), "identity": lambda z: z,
     "softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)}
ys = []
for m, member in enumerate(net["members"]):
    part = lambda name, i=None: np.asarray(
        a[f"member_{m}_" * (net["models"] > 1) + name + ("" if i is None else f"_{i}")] if file.endswith(".npz")
        else member[name] if i is None else member[name][i])
    h, last = (u - part("shift")) / part("scale"), len(member["sizes"]) - 2
    for i in range(last):
        h = f[member["activation"]](h @ part("weights", i) + part("biases", i))
    z = (h @ part("weights", last) + part("biases", last)) / member["temperature"]
    ys.append(f[member["output"]](z) * part("target_scale") + part("target_shift"))
np.save("y.npy", np.mean(ys, axis=0))
assert "xpnet" not in sys.modules
"""


def by_formula(file: str, u: np.ndarray, folder: Path) -> Any:
    """The outputs that a reader of the file computes, in a process of its own."""
    np.save(folder / "u.npy", u)
    subprocess.run([sys.executable, "-I", "-c", READER, file], cwd=folder, check=True)
    return np.load(folder / "y.npy")


def written(model: Any, suffix: str, folder: Path, **options: Any) -> Path:
    path = folder / f"model{suffix}"
    path.write_bytes(content(model, suffix=suffix, **options))
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("activation", "loss", "batch_norm", "dtype"), KINDS)
def test_the_way_back_gives_the_same_outputs(
    activation: str, loss: str, batch_norm: bool, dtype: str, suffix: str, tmp_path: Path
) -> None:
    model = made(activation, loss, batch_norm, dtype, classes=() if loss in ("huber", "poisson") else ("a", 3, 2.5))
    back = read(written(model, suffix, tmp_path))
    u = rows_for(model, 50)
    expected, found = model.outputs(u), back.outputs(u)
    assert found.dtype == expected.dtype
    tolerance = 2e-6 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    assert (back.classes, back.data, back.task) == (model.classes, model.data, model.task)
    assert content(back, suffix=suffix) == content(model, suffix=suffix)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_targets_keep_the_digits_that_float32_lacks(suffix: str, tmp_path: Path) -> None:
    """Those of Unix times, of which float32 has every 128th."""
    targets = Scaling("standard", 1.7e9 + np.arange(3) / 7, np.array([1000.0, 1 / 3, 7.0]))
    model = made(loss="squared-error", targets=targets)
    path = written(model, suffix, tmp_path)
    back = read(path)
    assert np.array_equal(back.schema.targets.shift, targets.shift)
    assert np.array_equal(back.schema.targets.scale, targets.scale)
    assert back.params[0].dtype == np.float32
    u = rows_for(model, 20)
    np.testing.assert_allclose(back.outputs(u), model.outputs(u), rtol=0, atol=0.01)
    np.testing.assert_allclose(by_formula(path.name, u, tmp_path), model.outputs(u), rtol=0, atol=0.01)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("loss", ["cross-entropy", "mse-sigmoid", "squared-error", "poisson"])
def test_the_formula_gives_the_outputs(loss: str, suffix: str, tmp_path: Path) -> None:
    model = made("gelu", loss, True)
    u = rows_for(model, 20)
    expected = model.outputs(u)
    found = by_formula(written(model, suffix, tmp_path).name, u, tmp_path)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_several_models_are_averaged(suffix: str, tmp_path: Path) -> None:
    members = [made(activation, seed=i, features=PIXELS) for i, activation in enumerate(("tanh", "leaky-relu"))]
    both = xpnet.Ensemble(members)
    u = rows_for(members[0], 20)
    path = written(both, suffix, tmp_path)
    np.testing.assert_allclose(by_formula(path.name, u, tmp_path), both.outputs(u), rtol=0, atol=2e-6)
    with pytest.raises(ModelError, match="holds 2 models whose outputs are averaged: export and import them one by"):
        read(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("features", [PIXELS, Scaling("pixels", None, 16.0), Scaling(), Scaling("minmax", None, 3.0)])
def test_scaling_is_kept(features: Scaling, suffix: str, tmp_path: Path) -> None:
    model = made(features=features, image_shape=(2, 3), columns=tuple("uvwxyz"), form="emnist")
    back = read(written(model, suffix, tmp_path))
    u = rows_for(model, 20)
    assert np.array_equal(back.outputs(u), model.outputs(u))
    assert (back.image_shape, back.schema.columns, back.schema.form) == ((2, 3), tuple("uvwxyz"), "emnist")
    assert back.schema.features.kind == "pixels" if features.kind == "pixels" else True


@given(arrays.arrays(np.float32, 6 * 3, elements=st.floats(allow_nan=False, allow_infinity=False, width=32)))
def test_json_keeps_every_bit_in_the_fewest_digits(W: np.ndarray) -> None:
    model = made(sizes=(6, 3), features=PIXELS)
    model.params[0] = W.reshape(6, 3)
    text = json.loads(content(model, suffix=".json"))
    assert np.array_equal(np.array(text["members"][0]["weights"][0], np.float32), W.reshape(6, 3))
    digits = [Decimal(repr(w)).normalize().as_tuple().digits for row in text["members"][0]["weights"][0] for w in row]
    assert max(map(len, digits)) <= 9


def test_json_has_no_number_that_is_not_finite() -> None:
    model = made()
    model.params[2][0, 0] = math.nan
    with pytest.raises(ModelError, match="cannot be written as JSON: it has numbers that are not finite"):
        content(model, suffix=".json")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_model_makes_the_same_bytes_and_hostile_texts_stay_texts(suffix: str, tmp_path: Path) -> None:
    hostile = '</script>"\\\u2028\u202e\x1b[31m\ud800'
    model = made(classes=("a", "ü", hostile), data=hostile, columns=(*"abcde", hostile))
    made_now = content(model, suffix=suffix, about={"test_accuracy": 0.5, hostile: hostile})
    assert made_now == content(model, suffix=suffix, about={"test_accuracy": 0.5, hostile: hostile})
    back = read(written(model, suffix, tmp_path))
    assert back.data.isprintable()
    assert (back.classes, back.schema.columns) == (model.classes, model.schema.columns)
    if suffix == ".json":
        assert made_now.decode("ascii").replace("\n", "").isprintable()


def changed(**entries: Any) -> Any:
    """A .json file of a model in which some entries are others, also of its member, by their names."""
    text = json.loads(content(made(), suffix=".json"))
    for name, value in entries.items():
        (text if name in text else text["members"][0])[name] = value
    return json.dumps(text).encode()


HOSTILE: list[tuple[Any, str]] = [
    (b"", "damaged, or not a network that xpnet wrote"),
    (b"[" * 100_000, "damaged, or not a network that xpnet wrote"),
    (b"[1, 2]", "damaged, or not a network that xpnet wrote"),
    (b"{}", "no entry 'format'"),
    (b"\xff\xfe", "damaged, or not a network that xpnet wrote"),
    (lambda: changed(format="xpnet network 9"), "in the format 'xpnet network 9'; this xpnet reads 'xpnet network 1'"),
    (lambda: changed(members=[]), "holds 0 models"),
    (lambda: changed(sizes=[6, 8, 5, 4]), "not those of a 6-8-5-4 relu network"),
    (lambda: changed(sizes=[10**12, 10**12]), "are not those of a"),
    (lambda: changed(sizes="abc"), "sizes must be a list of whole numbers"),
    (lambda: changed(activation="elu"), "activation: unknown value 'elu'"),
    (lambda: changed(loss=3), "loss must be a word"),
    (lambda: changed(output="sigmoid"), "ends with 'sigmoid', but the loss cross-entropy with 'softmax'"),
    (lambda: changed(weights=[[["1", "2"]]] * 3), "weights_0 are not numbers"),
    (lambda: changed(weights=[[[10**400]]] * 3), "weights_0 are not numbers"),
    (lambda: changed(weights=[[[1, 2], [3]]] * 3), "damaged, or not a network that xpnet wrote"),
    (lambda: changed(scale=-1.0), "description cannot be one of"),
    (lambda: changed(temperature=0.0), "description cannot be one of"),
    (lambda: changed(temperature="hot"), "description cannot be one of"),
    (lambda: changed(white={}), "damaged, or not a network that xpnet wrote"),
    (lambda: changed(labels=["a", "a", "b"]), "description cannot be one of"),
    (lambda: changed(image_shape=[2**62] * 5), "description cannot be one of"),
    (lambda: changed(dtype="object"), "are not numbers of float32 or float64"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "message"), HOSTILE)
def test_a_json_file_that_is_none_of_ours_is_refused(file: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_bytes(file if isinstance(file, bytes) else file())
    with pytest.raises(ModelError, match=message) as error:
        read(tmp_path / "model.json")
    assert str(error.value).isprintable()


def npz(**parts: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **parts)
    return file.getvalue()


def test_an_npz_file_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    path, whole = tmp_path / "model.npz", content(made(), suffix=".npz")
    own = dict(np.load(io.BytesIO(whole)))
    objects = np.array([print], object)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("description.npy", b"\x93NUMPY\x01\x00" + bytes(1 << 28))
    for file, message in (
        (b"", "not a zip"),
        (whole[:-40], "zip"),
        (npz(x=own["biases_0"]), "no array description; description is needed"),
        (npz(**{name: a for name, a in own.items() if name != "biases_1"}), "no array biases_1"),
        (npz(**own | {"biases_1": own["biases_1"][:2]}), "not those of a 6-8-5-3 relu network"),
        (npz(**own | {"biases_1": objects}), "refused"),
        (npz(**own | {"biases_1": own["biases_1"].astype("f2")}), "float16"),
        (npz(**own | {"scale": -own["scale"]}), "description cannot be one of"),
        (npz(description=objects), "refused"),
        (npz(description=own["biases_0"]), "damaged, or not a network"),
        (bomb.getvalue(), "decompression bomb"),
    ):
        path.write_bytes(file)
        with pytest.raises(ModelError, match=f"model.npz: .*{message}"):
            read(path)


def test_every_image_of_mnist_has_the_same_outputs(mnist: xpnet.Dataset, tmp_path: Path) -> None:
    assert mnist.test is not None
    images = np.asarray(mnist.test.images)
    model = xpnet.fit(xpnet.MLP((784, 32, 10)), mnist, epochs=1, device="cpu", progress=False).model
    for suffix in SUFFIXES:
        path = written(model, suffix, tmp_path)
        assert np.array_equal(read(path).outputs(images), model.outputs(images))
        found = by_formula(path.name, images.reshape(-1, 784), tmp_path)
        assert np.abs(found - model.outputs(images)).max() <= 2e-6
