"""xpnet export, as a user meets it."""

import importlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import xpnet
from tests.export.models import made
from tests.export.pages import model_of
from xpnet.cli import main

onnx = pytest.importorskip("onnx", reason="needs onnx, of the extra onnx")

pytestmark = pytest.mark.usefixtures("own_directory")

QUICK = ["--device", "cpu", "--epochs", "2", "--hidden", "16", "--lr", "0.05", "--batch-size", "64"]


@pytest.fixture
def trained(patterns: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The run directory of a network trained on patterns."""
    assert main(["train", "--data", patterns, *QUICK, "--out", "runs/first"]) == 0
    capsys.readouterr()
    return "runs/first"


def metadata(path: str) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def test_it_says_what_it_wrote_and_how_to_use_it(trained: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", trained, "model.onnx"]) == 0
    out = capsys.readouterr().out
    size = f"{Path('model.onnx').stat().st_size:,}"
    said, accuracy, use = out.splitlines()
    assert said == f"model.onnx: 36-16-3 relu, {size} bytes, ONNX, for onnxruntime and most other engines (extra onnx)"
    assert re.fullmatch(r"test accuracy \d+\.\d\d % on 60 examples", accuracy)
    assert use == "onnxruntime.InferenceSession('model.onnx').run(None, {'input': rows})"
    found = metadata("model.onnx")
    assert f"{100 * float(found['test_accuracy']):.2f} %" in accuracy
    assert found["data"].endswith("patterns.npz")


@pytest.mark.parametrize("suffix", xpnet.export.FORMATS)
def test_the_line_that_says_how_to_use_it_is_true(
    suffix: str, trained: str, small_data: xpnet.Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    if suffix in (".h", ".html", ".keras"):
        pytest.skip("its own tests use it")
    for package in {".onnx": ["onnxruntime"], ".pt": ["torch"]}.get(suffix, []):
        pytest.importorskip(package, reason=f"needs {package}, of the extra for {suffix}")
    name = "it's a model"
    assert main(["export", trained, name + suffix]) == 0
    use = capsys.readouterr().out.splitlines()[-1]
    assert small_data.test is not None
    assert isinstance(small_data.test.images, np.ndarray)
    modules = {
        package: importlib.import_module(package)
        for package in re.findall(r"\b(onnxruntime|torch|json|numpy|pathlib)\.", use)
    }
    given = {**modules, "rows": small_data.test.images}
    found = eval(use, given)
    if suffix == ".onnx":
        expected = xpnet.load(trained).outputs(small_data.test.images)
        np.testing.assert_allclose(found[0], expected, rtol=0, atol=2e-6)
    else:
        assert "(" in capsys.readouterr().out  # formulas, or lines of Python


@pytest.mark.parametrize("suffix", [".h", ".html"])
def test_a_file_that_is_given_away_does_not_name_folders(suffix: str, trained: str, tmp_path: Path) -> None:
    model = xpnet.load(trained)
    assert Path(model.data).is_absolute()
    assert main(["export", trained, f"model{suffix}"]) == 0
    content = Path(f"model{suffix}").read_bytes()
    assert b"patterns.npz" in content
    assert os.fsencode(Path(model.data).parent) not in content


def test_without_a_model_it_takes_the_newest_run(trained: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "model.onnx"]) == 0
    assert "using runs/first" in capsys.readouterr().err.replace("\\", "/")


def test_several_models_become_one(trained: str, patterns: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", patterns, *QUICK, "--seed", "1", "--out", "runs/second"]) == 0
    assert main(["export", trained, "runs/second", "both.onnx", "--input", "float32"]) == 0
    assert metadata("both.onnx")["models"] == "2"
    (given,) = onnx.load("both.onnx").graph.input
    assert given.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_it_says_what_bytes_for_weights_cost(trained: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", trained, "model.onnx", "--quantize", "int8"]) == 0
    share = r"accuracy \d+\.\d\d %"
    line = capsys.readouterr().out.splitlines()[1]
    assert re.fullmatch(f"test {share} on 60 examples, {share} with the weights as they were", line), line
    Path("patterns.npz").unlink()
    assert main(["export", trained, "model.onnx", "--quantize", "int8", "--force"]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.startswith("what int8 costs was not measured: the model was trained on ")
    assert "test_accuracy" not in metadata("model.onnx")


def test_a_regression_is_measured_by_r2(capsys: pytest.CaptureFixture[str]) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 3))
    np.savetxt("rows.csv", np.c_[rows, rows.sum(axis=1)], delimiter=",", header="a,b,c,y", comments="")
    arguments = ["train", "--data", "rows.csv", "--test", "rows.csv", "--label", "y", "--loss", "squared-error"]
    assert main([*arguments, *QUICK, "--out", "run"]) == 0
    capsys.readouterr()
    assert main(["export", "run", "model.onnx"]) == 0
    assert re.search(r"^test R2 -?\d\.\d{4} on 60 examples$", capsys.readouterr().out, re.MULTILINE)
    assert "test_r2" in metadata("model.onnx")


def test_a_page_begins_with_training_examples_where_there_are_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 2))
    table = np.c_[rows, rows[:, 0] > 0, rows.sum(axis=1)]
    np.savetxt("rows.csv", table, delimiter=",", header="a,b,flag,y", comments="")
    arguments = ["train", "--data", "rows.csv", "--label", "y", "--loss", "squared-error", "--validation", "10"]
    assert main([*arguments, *QUICK, "--out", "run"]) == 0
    capsys.readouterr()
    assert main(["export", "run", "page.html"]) == 0
    out, err = capsys.readouterr()
    assert "R2" not in out  # which only the test split can tell
    assert "train: the 50 of 60 training examples that the run trained on" in err
    assert err.count("reading ") == 1
    page = model_of(Path("page.html").read_bytes())
    assert (page["split"], page["example"]) == ("Training", "Training example")
    flag = page["features"][2]
    assert (flag["name"], flag["low"], flag["high"], flag["step"]) == ("flag", 0, 1, 1)
    first = np.array(page["examples"]["rows"][0], np.float32)
    assert (first == table[:, :3].astype(np.float32)).all(axis=1).any()
    Path("rows.csv").unlink()
    assert main(["export", "run", "page.html", "--force"]) == 0
    assert model_of(Path("page.html").read_bytes())["examples"] is None


def test_what_it_refuses(fails: Callable[..., str]) -> None:
    made().save("model.safetensors")
    made(sizes=(6, 8, 4)).save("other.safetensors")
    assert fails(2, "export", "model.safetensors", "model.onx").startswith(
        "model.onx: a model's file ends in one of .onnx, "
    )
    assert "did you mean '.onnx'" in fails(2, "export", "model.safetensors", "model.onx")
    assert "ends in one of .onnx" in fails(2, "export", "model.safetensors", "model")
    Path("there.onnx").write_bytes(b"mine")
    assert fails(2, "export", "model.safetensors", "there.onnx") == (
        "there.onnx exists: choose another name, or replace it with force (--force)"
    )
    assert Path("there.onnx").read_bytes() == b"mine"
    Path("folder.onnx").mkdir()
    assert "is a folder" in fails(2, "export", "model.safetensors", "folder.onnx", "--force")
    assert "members of an ensemble must agree" in fails(
        1, "export", "model.safetensors", "other.safetensors", "both.onnx"
    )
    assert "choose float32" in fails(2, "export", "model.safetensors", "model.onnx", "--input", "uint8")
    assert "no such file" in fails(1, "export", "missing.safetensors", "model.onnx")
    assert "no run is named" in fails(2, "export", "model.onnx")
    assert fails(2, "export", "missing.safetensors", "nowhere/model.onnx") == (
        "nowhere/model.onnx: no such directory nowhere; create it, or name another file"
    )
    assert sorted(path.name for path in Path().glob("*.onnx")) == ["folder.onnx", "there.onnx"]


def test_a_folder_or_file_in_the_way_is_told_in_python_too() -> None:
    model = made()
    xpnet.export.export(model, "model.onnx")
    with pytest.raises(xpnet.ConfigError, match="exists"):
        xpnet.export.export(model, "model.onnx")
    xpnet.export.export(model, "model.onnx", force=True)
