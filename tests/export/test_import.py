"""xpnet import, as a user meets it, and xpnet.export.read behind it."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.export.models import made, rows_for
from xpnet.cli import main
from xpnet.data import Scaling, Schema
from xpnet.data.schema import PIXELS
from xpnet.errors import ConfigError, ModelError
from xpnet.export import export, read
from xpnet.export.keras import BACKENDS, _is_installed

pytestmark = pytest.mark.usefixtures("own_directory")

QUICK = ["--device", "cpu", "--epochs", "2", "--hidden", "16", "--lr", "0.05", "--batch-size", "64"]
PACKAGES = {".onnx": "onnx", ".pt": "torch"}
SUFFIXES = [".onnx", ".pt", ".keras", ".npz", ".json"]


def needs(suffix: str) -> None:
    if suffix == ".keras" and not (_is_installed("keras") and any(map(_is_installed, BACKENDS))):
        pytest.skip("needs keras, of the extra keras, and a backend of it")
    if package := PACKAGES.get(suffix):
        pytest.importorskip(package, reason=f"needs {package}, of the extra {package}")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("setting", ["--batch-norm", "--activation=gelu", "--loss=mse-sigmoid", "--dtype=float64"])
def test_there_and_back_and_there_again(
    setting: str, suffix: str, patterns: str, small_data: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    needs(suffix)
    assert main(["train", "--data", patterns, *QUICK, setting, "--out", "runs/first"]) == 0
    assert main(["export", "runs/first", f"model{suffix}"]) == 0
    capsys.readouterr()
    assert main(["import", f"model{suffix}", "--out", "runs/second"]) == 0
    said, measured, saved = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"test accuracy \d+\.\d\d % on 60 examples", measured)
    assert re.fullmatch(rf"model\{suffix}: 36-16-3 (relu|gelu), [\w-]+, 3 classes, \d+ parameters", said)
    assert saved == "saved in runs/second"
    assert main(["export", "runs/second", f"again{suffix}"]) == 0
    first, second, third = (xpnet.load(path) for path in ("runs/first", "runs/second", "runs/second"))
    images = small_data.test.images
    expected = first.outputs(images)
    for model in (second, third, read(f"again{suffix}")):
        np.testing.assert_allclose(model.outputs(images), expected, rtol=0, atol=2e-6)
    assert (second.image_shape, second.data, second.classes) == (first.image_shape, first.data, first.classes)
    capsys.readouterr()
    assert main(["evaluate", "runs/first", "--json"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["accuracy"]
    assert main(["evaluate", "runs/second", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == accuracy
    assert main(["predict", "runs/second", "--index", "3"]) == 0


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tables_and_numbers(suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    needs(suffix)
    rows = np.random.default_rng(0).normal(size=(60, 3)) * [1, 100, 1e-3] + [0, 5, 2]
    np.savetxt("rows.csv", np.c_[rows, rows.sum(axis=1)], delimiter=",", header="a,b,c,y", comments="")
    arguments = ["train", "--data", "rows.csv", "--test", "rows.csv", "--label", "y", "--loss", "squared-error"]
    assert main([*arguments, *QUICK, "--out", "runs/first"]) == 0
    assert main(["export", "runs/first", f"model{suffix}"]) == 0
    assert main(["import", f"model{suffix}"]) == 0
    (found,) = Path("runs").glob("*-model")
    model, expected = xpnet.load(found), xpnet.load("runs/first").outputs(rows)
    assert model.schema.columns == ("a", "b", "c")
    np.testing.assert_allclose(model.outputs(rows), expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_a_network_that_takes_pixels_up_to_one(tmp_path: Path) -> None:
    shift, scale = np.float32([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), np.full(6, 0.3, np.float32)  # type: ignore[arg-type]
    for features in (Scaling(), Scaling("standard", shift, scale), Scaling("standard", shift, None)):
        model = made(features=features)
        export(model, "model.npz", force=True)
        found = read("model.npz", white=255, data="mnist", classes=("a", "b", "c"))
        u = rows_for(made(features=PIXELS), 20)
        u[0] = 255  # so that no row of them looks like pixels up to 1
        expected = model.outputs(u.astype(np.float32) / 255)
        np.testing.assert_allclose(found.outputs(u), expected, rtol=0, atol=2e-6)
        assert (found.data, found.classes) == ("mnist", ("a", "b", "c"))
        found = read("model.npz", white=255, mean=0.1307, std=0.3081)
        expected = model.outputs((u.astype(np.float32) / 255 - np.float32(0.1307)) / np.float32(0.3081))
        np.testing.assert_allclose(found.outputs(u), expected, rtol=0, atol=4e-6)
        found.save("scaled.safetensors")
        np.testing.assert_array_equal(xpnet.load("scaled.safetensors").outputs(u), found.outputs(u))
    export(made(features=PIXELS), "pixels.npz")
    with pytest.raises(ModelError, match="the file itself says that its pixels are divided by 255: leave"):
        read("pixels.npz", white=255)
    with pytest.raises(ConfigError, match="white must be more than 0, not -1"):
        read("model.npz", white=-1)
    with pytest.raises(ConfigError, match="2 names for 3 outputs"):
        read("model.npz", classes=("a", "b"))


def test_the_data_shows_whether_the_scaling_is_right(
    patterns: str, small_data: Any, fails: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A network that took pixels in [0, 1] and ends with logits, of a program that says neither."""
    model = xpnet.fit(xpnet.MLP((36, 16, 3)), small_data, epochs=8, device="cpu", progress=False).model
    accuracy = f"accuracy {100 * model.evaluate(*small_data.test).accuracy:.2f} %"
    logits = dataclasses.replace(model.network, loss="squared-error")
    schema = Schema("", (36,), (), Scaling(), form="as-is")
    export(xpnet.Model(logits, model.params, [], model.backend, schema), "model.json")
    text = json.loads(Path("model.json").read_text())
    Path("model.json").write_text(json.dumps(text | {"loss": "cross-entropy"}).replace('"identity"', '"softmax"'))
    capsys.readouterr()
    assert main(["import", "model.json", "--white", "255", "--data", patterns, "--out", "right"]) == 0
    assert f"test {accuracy} on 60 examples" in capsys.readouterr().out
    assert xpnet.load("right").image_shape == (6, 6)
    assert main(["evaluate", "right"]) == 0
    capsys.readouterr()
    assert "it is neither a file nor" in fails(1, "import", "model.json", "--data", "nothing", "--out", "third")
    Path("model.json").write_text(json.dumps(text))
    message = fails(2, "import", "model.json", "--data", patterns, "--out", "third")
    assert "those of a classifier need --loss cross-entropy" in message
    assert not Path("third").exists()


def test_what_the_outputs_are_is_asked_for_where_nobody_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    export(made(loss="squared-error", data=""), "model.json")
    assert main(["import", "model.json", "--out", "runs/first"]) == 0
    assert "those of a classifier need --loss cross-entropy" in capsys.readouterr().out


def test_what_it_refuses(fails: Callable[..., str]) -> None:
    export(made(), "model.json")
    assert fails(1, "import", "missing.json") == "cannot read missing.json: No such file or directory"
    assert "ends in one of .onnx, .pt, " in fails(2, "import", "model.jsn")
    assert "did you mean '.json'" in fails(2, "import", "model.jsn")
    for name in ("mine.h", "page.html"):
        message = fails(2, "import", name)
        assert message.startswith(f"{name}: {Path(name).suffix} files cannot be read back, only .onnx, .pt, ")
    assert "is a model already" in fails(2, "import", "model.safetensors")
    assert "loss is not for .json files" in fails(2, "import", "model.json", "--loss", "mse")
    assert "activation is not for .json files" in fails(2, "import", "model.json", "--activation", "relu")
    for name in ("a.pkl", "a.joblib"):
        message = fails(2, "import", name)
        assert f"estimator = joblib.load('{name}'); xpnet.export.from_sklearn(estimator).save(" in message
    Path("broken.json").write_text("{")
    assert fails(1, "import", "broken.json").startswith("broken.json: damaged, or not a network that xpnet wrote")
    assert not Path("runs").exists()


def test_nothing_that_is_there_is_replaced(fails: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    export(made(), "model.json")
    export(made(seed=3), "other.json")
    assert main(["import", "model.json", "--out", "runs/first"]) == 0
    before = Path("runs/first/model.safetensors").read_bytes()
    capsys.readouterr()
    assert fails(2, "import", "other.json", "--out", "runs/first") == (
        "runs/first already holds a model, which is left unchanged: name another directory"
    )
    assert Path("runs/first/model.safetensors").read_bytes() == before
    Path("file").write_text("mine")
    assert "file" in fails(1, "import", "model.json", "--out", "file")
    assert Path("file").read_text() == "mine"


def test_a_pipe_is_not_waited_for(fails: Callable[..., str]) -> None:
    import os

    for suffix in SUFFIXES:
        needs(suffix)
        os.mkfifo(f"pipe{suffix}")
        assert "neither a regular file nor a folder" in fails(1, "import", f"pipe{suffix}")
