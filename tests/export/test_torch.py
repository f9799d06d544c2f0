"""PyTorch: the same outputs there, a file that torch alone loads safely, and the way back."""

import copy
import io
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.export.models import KINDS, made, rows_for
from xpnet.data import Scaling
from xpnet.data.schema import PIXELS
from xpnet.errors import ConfigError, ModelError
from xpnet.export.torch import construction, content, from_torch, to_torch

torch = pytest.importorskip("torch", reason="torch, of the extra [torch], is not installed")
nn = torch.nn


def outputs(net: Any, u: np.ndarray) -> Any:
    with torch.no_grad():
        return net(torch.from_numpy(u)).numpy()


@pytest.mark.parametrize(("activation", "loss", "batch_norm", "dtype"), KINDS)
def test_torch_gives_the_same_outputs_and_the_way_back_the_same_model(
    activation: str, loss: str, batch_norm: bool, dtype: str
) -> None:
    model = made(activation, loss, batch_norm, dtype)
    u = rows_for(model, 50)
    net, expected = to_torch(model), model.outputs(u)
    found = outputs(net, u)
    assert found.dtype == dtype
    tolerance = 2e-6 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(1.0, np.abs(expected).max()))
    back = from_torch(net, loss=loss, data=model.data)
    assert back.network == model.network
    assert back.schema.temperature == pytest.approx(model.schema.temperature, rel=1e-7)
    for ours, theirs in zip((*back.params, *back.running), (*model.params, *model.running), strict=True):
        assert np.array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(back.outputs(u), expected, rtol=0, atol=tolerance * max(1.0, np.abs(expected).max()))
    again = to_torch(back)
    assert str(again) == str(net)
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), net.state_dict().values(), strict=True))


def test_digits_far_from_zero_are_kept() -> None:
    """A year has four digits before those that matter: its shift is in float64, and so is the network."""
    shift = Scaling("standard", np.full(6, 2e7), np.full(6, 3.0))
    model = made(features=shift)
    u = 2e7 + np.random.default_rng(0).normal(size=(20, 6))
    np.testing.assert_allclose(outputs(to_torch(model), u), model.outputs(u), atol=2e-6)


def test_every_image_of_mnist_has_the_same_class(mnist: xpnet.Dataset) -> None:
    assert mnist.test is not None
    images = mnist.test.images
    for batch_norm in (False, True):
        model = made("gelu", batch_norm=batch_norm, sizes=(784, 32, 10), image_shape=(28, 28), features=PIXELS)
        found, expected = outputs(to_torch(model), images), model.outputs(images)
        assert np.abs(found - expected).max() <= 2e-6
        assert np.array_equal(found.argmax(axis=1), expected.argmax(axis=1))


def test_dropout_and_normalisation_are_there_to_train_further() -> None:
    model = made(batch_norm=True)
    dropping = xpnet.MLP(model.network.sizes, batch_norm=True, dropout=0.4, input_dropout=0.2)
    model = xpnet.Model(dropping, model.params, model.running, model.backend, model.schema)
    net, u = to_torch(model), rows_for(model, 50)
    assert from_torch(net).network == dropping
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net.train()
    assert not np.allclose(outputs(net, u), outputs(net, u))
    net(torch.from_numpy(u)).sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    changed = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {"linear1.weight", "norm1.running_mean"} <= changed
    assert not {"scale.shift", "scale.scale", "temperature.scale"} & changed


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_alone_loads_the_file(dtype: str, tmp_path: Path) -> None:
    """Without xpnet, by the lines that stand in the file, with weights_only=True."""
    model = made("scaled-tanh", "squared-error", True, dtype, data="*/ ''' \\ </script>")
    u = rows_for(model, 50)
    np.save(tmp_path / "u.npy", u)
    (tmp_path / "model.pt").write_bytes(content(model, about={"r2": 0.5}))
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    assert saved["construction"] == construction(model)
    assert json.loads(saved["description"])["data"] == model.data
    assert json.loads(saved["description"])["r2"] == 0.5
    assert "script" not in saved["construction"]
    script = (
        "import sys; sys.modules['xpnet'] = None\n"
        + saved["construction"]
        + "import numpy\n"
        + "with torch.no_grad(): numpy.save('y.npy', net(torch.from_numpy(numpy.load('u.npy'))).numpy())\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=tmp_path, check=True)
    expected = model.outputs(u)
    tolerance = 2e-6 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=0, atol=tolerance * np.abs(expected).max())


def test_a_network_is_copied_and_pickled() -> None:
    model = made("scaled-tanh", "poisson")
    u, net = rows_for(model, 5), to_torch(model)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), torch.load(file, weights_only=False)):
        assert np.array_equal(outputs(twin, u), outputs(net, u))


def test_a_network_of_a_user_of_torch() -> None:
    """Nested, with biases before the normalisation, which here has no scale and no shift of its own."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(),
        nn.Sequential(nn.Linear(12, 7), nn.BatchNorm1d(7, affine=False), nn.Tanh(), nn.Dropout(0.1)),
        nn.Sequential(nn.Linear(7, 6), nn.BatchNorm1d(6, affine=False), nn.Tanh(), nn.Dropout(0.1)),
        nn.Linear(6, 3, bias=False),
    )
    net(torch.randn(64, 3, 4))
    u = np.random.default_rng(0).normal(size=(20, 3, 4)).astype(np.float32)
    expected = outputs(net.eval(), u)
    np.testing.assert_allclose(from_torch(net).outputs(u), expected, atol=1e-6)
    classifier = from_torch(net, loss="cross-entropy", classes=("a", "b", "c"))
    assert list(classifier.predict(u)) == ["abc"[k] for k in expected.argmax(axis=1)]


REFUSED: list[tuple[Any, str]] = [
    (lambda: nn.Linear(2, 2), "must be a torch.nn.Sequential, not Linear"),
    (lambda: nn.Sequential(nn.Conv1d(1, 1, 1)), "has no Conv1d"),
    (lambda: nn.Sequential(type("Linear2", (nn.Linear,), {})(2, 2)), "has no Linear2"),
    (nn.Sequential, "expected a Linear, but found the end"),
    (lambda: nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), "expected a Linear, but found ReLU"),
    (lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "after the last Linear .* no ReLU"),
    (lambda: nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.Linear(2, 2)), "GELU of xpnet has approximate='tanh'"),
    (lambda: nn.Sequential(nn.Linear(2, 2), nn.LeakyReLU(0.2), nn.Linear(2, 2)), "negative_slope=0.01, not 0.2"),
    (lambda: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, eps=1e-3), nn.Linear(2, 2)), "eps=1e-05, not 0.001"),
    (lambda: nn.Sequential(nn.Linear(2, 2), nn.Softmax(dim=0)), "Softmax of xpnet has dim=1, not 0"),
    (lambda: nn.Sequential(nn.Linear(2, 3), nn.Linear(2, 3)), "widths of the layers do not fit together: 2, 3, 3"),
    (lambda: nn.Sequential(nn.Linear(2, 3).half()), "not float16"),
    (
        lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)),
        "must all have the same BatchNorm1d or none, activation and Dropout",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_is_no_network_of_ours_is_refused_by_name(make: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        from_torch(make())


def test_what_contradicts_the_network_is_refused() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Softmax(dim=1))
    with pytest.raises(ModelError, match="ends with Softmax, but the loss mse-sigmoid with Sigmoid"):
        from_torch(net, loss="mse-sigmoid")
    with pytest.raises(ConfigError, match="did you mean 'cross-entropy'"):
        from_torch(net, loss="crossentropy")
    with pytest.raises(ModelError, match="2 classes are named, but the network has 3 outputs"):
        from_torch(net, classes="ab")
    with pytest.raises(ModelError, match=r"\.pt .*one model.*\.onnx"):
        content(xpnet.Ensemble([made(), made(seed=2)]))
