"""ONNX files give the model's outputs, in onnx's own checker and in onnxruntime."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.export.models import KINDS, made, rows_for
from xpnet.data import Scaling
from xpnet.errors import ConfigError
from xpnet.export import export
from xpnet.export.layers import rounded

onnx = pytest.importorskip("onnx", reason="needs onnx, of the extra onnx")


def session(path: Path) -> Any:
    ort = pytest.importorskip("onnxruntime", reason="needs onnxruntime, beside the extra onnx")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(path: Path, rows: Any) -> list[Any]:
    found: list[Any] = session(path).run(None, {"input": rows})
    return found


def assert_equal(model: Any, path: Path, dtype: str = "float32") -> None:
    first = model.members[0] if isinstance(model, xpnet.Ensemble) else model
    engine = session(path)
    for n in (0, 1, 7):
        rows = rows_for(first, n)
        expected = model.outputs(rows)
        found = engine.run(None, {"input": rows.reshape(n, *engine.get_inputs()[0].shape[1:])})
        assert found[0].shape == expected.shape
        assert found[0].dtype == dtype
        scale = np.abs(expected).max(initial=1e-30)
        np.testing.assert_allclose(found[0], expected, rtol=0, atol=scale * (2e-6 if dtype == "float32" else 1e-12))
        if first.task == "classification":
            assert found[1].dtype == np.int64
            assert (found[1] == expected.argmax(axis=1)).all()
        else:
            assert len(found) == 1


@pytest.mark.parametrize(("activation", "loss", "batch_norm", "dtype"), KINDS)
def test_every_network_gives_its_outputs(
    activation: str, loss: str, batch_norm: bool, dtype: str, tmp_path: Path
) -> None:
    model = made(activation, loss, batch_norm, dtype)
    export(model, tmp_path / "model.onnx")
    assert_equal(model, tmp_path / "model.onnx", dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scaling", [Scaling(), Scaling("pixels"), Scaling("pixels", None, 16.0), "float32", "float64"])
def test_scaling_is_inside(scaling: Any, dtype: str, tmp_path: Path) -> None:
    if isinstance(scaling, str):  # of the data, whatever the network's dtype
        shift, scale = np.linspace(-9, 9, 6), np.asarray([1.0, np.inf, 3.0, 1e-3, 7.0, 1e4])
        scaling = Scaling("standard", shift.astype(scaling), scale.astype(scaling))
    model = made(dtype=dtype, features=scaling)
    export(model, tmp_path / "model.onnx")
    assert_equal(model, tmp_path / "model.onnx", dtype)


@pytest.mark.parametrize(("unit", "dtype"), [(1000.0, "float64"), (1e7, "float32")])
@pytest.mark.parametrize("quantize", [None, "int8"])
def test_outputs_are_doubles_where_targets_need_their_digits(
    unit: float, dtype: str, quantize: Any, tmp_path: Path
) -> None:
    """Those of Unix times within a day, of which float32 has every 128th."""
    model = made(loss="squared-error", targets=Scaling("standard", np.full(3, 1.7e9), np.full(3, unit)))
    export(model, tmp_path / "model.onnx", quantize=quantize)
    rows = rows_for(model, 7)
    (found,) = run(tmp_path / "model.onnx", rows)
    assert found.dtype == dtype
    expected = (rounded(model) if quantize else model).outputs(rows)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * unit)
    both = xpnet.Ensemble([model, made(loss="squared-error")])
    export(both, tmp_path / "both.onnx", quantize=quantize)
    assert run(tmp_path / "both.onnx", rows)[0].dtype == dtype


def test_pixels_as_floats_have_the_same_range_as_bytes(tmp_path: Path) -> None:
    model = made(features=Scaling("pixels", None, 255.0), image_shape=(2, 3))
    for input in ("uint8", "float32"):
        export(model, tmp_path / "model.onnx", input=input, force=True)
        (given,) = session(tmp_path / "model.onnx").get_inputs()
        assert given.shape == ["n", 2, 3]
        rows = rows_for(model, 7).reshape(7, 2, 3).astype(input)
        np.testing.assert_allclose(run(tmp_path / "model.onnx", rows)[0], model.outputs(rows), rtol=0, atol=2e-6)


def test_bytes_are_for_pixels_that_fit_in_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"takes features that need not be bytes, .*: choose float32"):
        export(made(), tmp_path / "model.onnx", input="uint8")
    deep = made(features=Scaling("pixels", None, 65535.0))
    with pytest.raises(ConfigError, match="has pixels up to 65535, which uint8 cannot hold"):
        export(deep, tmp_path / "model.onnx", input="uint8")
    export(deep, tmp_path / "model.onnx")
    rows = (65535 * np.random.default_rng(0).random((7, 6))).astype(np.float32)
    np.testing.assert_allclose(run(tmp_path / "model.onnx", rows)[0], deep.outputs(rows), rtol=0, atol=2e-6)


@pytest.mark.parametrize("loss", ["cross-entropy", "mse", "binary-cross-entropy", "squared-error"])
@pytest.mark.parametrize("dtypes", [("float32", "float32", "float32"), ("float32", "float64")])
def test_several_models_are_one_graph(loss: str, dtypes: tuple[str, ...], tmp_path: Path) -> None:
    kinds = zip(("relu", "gelu", "tanh"), dtypes, strict=False)
    both = xpnet.Ensemble([made(kind, loss, dtype=dtype, seed=i) for i, (kind, dtype) in enumerate(kinds)])
    export(both, tmp_path / "model.onnx")
    if "float64" in dtypes:
        rows = rows_for(both.members[0], 7)
        found, expected = run(tmp_path / "model.onnx", rows)[0], both.outputs(rows)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    else:
        assert_equal(both, tmp_path / "model.onnx")


def test_the_file_describes_itself(tmp_path: Path) -> None:
    hostile = "</script>\u202e\x1b[31m"
    model = made(classes=("a", "ü", hostile), columns=tuple("uvwxyz"), form="as-is", data=hostile)
    export(model, tmp_path / "model.onnx", about={"accuracy": 0.5})
    file = onnx.load(tmp_path / "model.onnx")
    said = {entry.key: entry.value for entry in file.metadata_props}
    assert json.loads(said["classes"]) == ["a", "ü", hostile]
    assert json.loads(said["columns"]) == list("uvwxyz")
    assert json.loads(said["image_shape"]) == [6]
    assert (said["network"], said["form"], said["accuracy"]) == ("6-8-5-3 relu", "as-is", "0.5")
    assert (said["xpnet"], said["loss"], said["data"]) == (xpnet.__version__, "cross-entropy", hostile)
    assert (file.ir_version, [entry.version for entry in file.opset_import]) == (7, [13])


def test_bytes_for_weights_compute_what_rounded_weights_do(tmp_path: Path) -> None:
    for dtype in ("float32", "float64"):
        model = made("gelu", batch_norm=True, dtype=dtype, sizes=(6, 200, 100, 3))
        sizes = {}
        for quantize in (None, "int8"):
            export(model, tmp_path / "model.onnx", quantize=quantize, force=True)
            sizes[quantize] = (tmp_path / "model.onnx").stat().st_size
        assert sizes["int8"] < 0.35 * sizes[None]
        rows = rows_for(model, 50)
        found, expected = run(tmp_path / "model.onnx", rows)[0], rounded(model).outputs(rows)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
        np.testing.assert_allclose(found, model.outputs(rows), rtol=0, atol=0.05)


def test_no_engine_needs_xpnet(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs onnxruntime, beside the extra onnx")
    model = made("scaled-tanh")
    export(model, tmp_path / "model.onnx")
    rows = rows_for(model, 7)
    np.save(tmp_path / "rows.npy", rows)
    code = (
        "import sys, numpy, onnxruntime\n"
        "engine = onnxruntime.InferenceSession('model.onnx')\n"
        "numpy.save('found.npy', engine.run(None, {'input': numpy.load('rows.npy')})[0])\n"
        "assert 'xpnet' not in sys.modules"
    )
    subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), model.outputs(rows), rtol=0, atol=2e-6)


def test_no_class_of_mnist_differs(mnist: xpnet.Dataset, tmp_path: Path) -> None:
    assert mnist.test is not None
    network = xpnet.MLP((784, 128, 10))
    model = xpnet.fit(network, mnist, epochs=1, device="cpu", progress=False).model
    export(model, tmp_path / "mnist.onnx")
    images = np.asarray(mnist.test.images)
    outputs, classes = run(tmp_path / "mnist.onnx", images)
    expected = model.outputs(images)
    assert np.abs(outputs - expected).max() <= 2e-6
    assert (classes != expected.argmax(axis=1)).sum() == 0
    export(model, tmp_path / "bytes.onnx", quantize="int8")
    _, classes = run(tmp_path / "bytes.onnx", images)
    assert (classes != expected.argmax(axis=1)).sum() <= 10
    assert (tmp_path / "bytes.onnx").stat().st_size < 110_000
