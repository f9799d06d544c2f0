"""How results look at a prompt and in a notebook: short texts, and tables whose names cannot be markup."""

import copy
import pickle
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import xpnet

X = np.random.default_rng(0).integers(0, 256, (40, 6, 6)).astype(np.uint8)
Y = np.array(["<b>", "dog"])[np.arange(40) % 2]
QUICK: Any = {"epochs": 2, "progress": False}


def result() -> xpnet.Result:
    return xpnet.fit(xpnet.MLP((36, 5, 2)), (X, Y), test=(X, Y), **QUICK)


def test_tables_of_a_notebook_escape_names() -> None:
    found = result()
    data = xpnet.Dataset.from_arrays(X, Y, name="<i>own</i>")
    for shown in (data, data.train, found, found.model, found.model.backend, found.model.summary()):
        table = shown._repr_html_()
        assert table.startswith("<table>")
        assert table.endswith("</table>")
        assert "<i>" not in table
        assert "<td style='text-align:left'><b>" not in table
    assert "&lt;b&gt;, dog" in data._repr_html_()
    assert "test_accuracy" in found._repr_html_()


def test_short_texts() -> None:
    found = result()
    assert repr(found.model) == "<Model 36-5-2 relu, cross-entropy, trained on arrays, on cpu with numpy>"
    accuracy = found.history[-1].test_accuracy
    assert repr(found) == f"<Result of 2 epochs, test accuracy {accuracy:.4f}: {found.model!r}>"
    assert repr(found._replace(history=found.history[:1], model_epoch=0)) == f"<Result of 1 epoch: {found.model!r}>"


def test_a_summary_adds_up() -> None:
    summary = result().model.summary()
    assert (summary.parameters, summary.flops, summary.bytes) == (36 * 5 + 5 + 12, 2 * (180 + 10), 4 * 197)
    lines = str(summary).splitlines()
    assert lines[0] == "36-5-2 relu, float32, trained on arrays"
    assert lines[-1].split() == ["total", "788", "bytes", "197", "380"]


def test_the_curves_of_a_result() -> None:
    plots = pytest.importorskip("matplotlib", reason="plots need matplotlib") and xpnet.plots
    found = result()
    labels = [axes.get_ylabel() for axes in found.plot().axes]
    assert labels == [axes.get_ylabel() for axes in plots.curves(found, loss="cross-entropy").axes]
    assert "accuracy (%)" in labels
    numbers = xpnet.fit(xpnet.MLP((36, 5, 1), loss="huber"), (X, X[:, 0, 0] / 2.0), **QUICK)
    assert "R²" in [axes.get_ylabel() for axes in numbers.plot().axes]


def test_confusions() -> None:
    model = result().model
    matrix = model.confusion_matrix(X, Y)
    assert matrix.sum() == 40
    assert np.trace(matrix) / 40 == model.evaluate(X, Y).accuracy
    numbers = xpnet.fit(xpnet.MLP((36, 5, 1), loss="huber"), (X, X[:, 0, 0] / 2.0), **QUICK).model
    with pytest.raises(xpnet.ModelError, match="needs classes, but the model was trained for regression"):
        numbers.confusion_matrix(X, Y)


def test_another_device_and_back() -> None:
    model = result().model
    there = model.to("device1")
    assert (there.backend.device, there.backend.name) == ("device1", "array-api-strict")
    assert np.allclose(there.outputs(X), model.outputs(X), rtol=1e-5)
    assert np.array_equal(there.to("cpu").outputs(X), model.outputs(X))


def test_a_model_its_result_and_its_backend_are_copied() -> None:
    found = result()
    for copied in (copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert np.array_equal(copied.model.outputs(X), found.model.outputs(X))
        assert copied.model.classes == ("<b>", "dog")
        assert copied.history == found.history
    backend = xpnet.select("device1")
    copied = pickle.loads(pickle.dumps(backend))
    assert (copied.device, copied.name, copied.graph) == (backend.device, backend.name, backend.graph)
    assert np.array_equal(copied.to_host(copied.to_device(X)), X)


def test_progress_in_a_notebook_is_one_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []

    def show(text: str, display_id: bool) -> SimpleNamespace:
        shown.append(text)
        return SimpleNamespace(update=shown.append)

    display = SimpleNamespace(HTML=str, display=show)
    kernel = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()), display=display)
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    xpnet.fit(xpnet.MLP((36, 5, 2)), (X, Y), epochs=3)
    assert capsys.readouterr() == ("", "")
    assert shown[-1].startswith("<pre>epoch  train loss  train acc")
    assert shown[-1].count("\n") == 3
    lines = len(shown)
    monkeypatch.setattr("xpnet.training.progress.time.monotonic", lambda: 0.0)
    xpnet.fit(xpnet.MLP((36, 5, 2)), (X, Y), epochs=60)
    assert shown[-1].count("\n") == 60
    assert len(shown) - lines < 5, "epochs that are short share an update"
