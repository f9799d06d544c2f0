"""A .pt file read back: those of xpnet, and state_dicts of others; nothing in it is executed."""

import io
import json
import os
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.export.models import KINDS, made, rows_for
from xpnet.data import Scaling
from xpnet.data.schema import PIXELS
from xpnet.errors import ConfigError, ModelError
from xpnet.export.torch import content
from xpnet.export.torch_reader import from_state_dict, read

torch = pytest.importorskip("torch", reason="torch, of the extra [torch], is not installed")
nn = torch.nn


def saved(value: Any, folder: Path, **options: Any) -> Path:
    file = io.BytesIO()
    torch.save(value, file, **options)
    (folder / "model.pt").write_bytes(file.getvalue())
    return folder / "model.pt"


@pytest.mark.parametrize(("activation", "loss", "batch_norm", "dtype"), KINDS)
def test_the_way_back_gives_the_same_model(
    activation: str, loss: str, batch_norm: bool, dtype: str, tmp_path: Path
) -> None:
    model = made(activation, loss, batch_norm, dtype, classes=() if loss in ("huber", "poisson") else ("a", 3, 2.5))
    (tmp_path / "model.pt").write_bytes(content(model))
    found = read(tmp_path / "model.pt")
    assert (found.network, found.classes, found.data) == (model.network, model.classes, model.data)
    for ours, theirs in zip((*found.params, *found.running), (*model.params, *model.running), strict=True):
        assert np.array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    u = rows_for(model, 50)
    expected = model.outputs(u)
    tolerance = 2e-6 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(found.outputs(u), expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("features", [PIXELS, Scaling("pixels", None, 16.0), Scaling()])
def test_scaling_and_texts_are_kept(features: Scaling, tmp_path: Path) -> None:
    model = made(features=features, image_shape=(2, 3), columns=tuple("uvwxyz"), form="emnist")
    (tmp_path / "model.pt").write_bytes(content(model))
    found = read(tmp_path / "model.pt")
    u = rows_for(model, 20)
    np.testing.assert_allclose(found.outputs(u), model.outputs(u), rtol=0, atol=2e-6)
    schema = found.schema
    assert (schema.image_shape, schema.columns, schema.form) == ((2, 3), tuple("uvwxyz"), "emnist")


@pytest.mark.parametrize("whole", [False, True])
def test_a_state_dict_of_a_user_of_torch(whole: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Linear(6, 7), nn.BatchNorm1d(7), nn.Tanh(), nn.Linear(7, 5), nn.BatchNorm1d(5), nn.Tanh()),
        nn.Linear(5, 3, bias=False),
    )
    net(torch.randn(64, 6))
    state = net.eval().state_dict()
    path = saved({"epoch": 3, "state_dict": state} if whole else state, tmp_path)
    found = read(path, activation="tanh", loss="cross-entropy")
    u = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(u)).softmax(dim=1).numpy()
    np.testing.assert_allclose(found.outputs(u), expected, rtol=0, atol=2e-6)
    with pytest.raises(ConfigError, match="does not say what stands between its layers: name it, as activation='relu'"):
        read(path)
    with pytest.raises(ConfigError, match="did you mean 'tanh'"):
        read(path, activation="tahn")


@pytest.mark.parametrize("prefix", ["", "net."])
@pytest.mark.parametrize(
    ("between", "message"),
    [
        ((nn.ReLU(), nn.BatchNorm1d(7)), "something stands between {0} and the BatchNorm1d {2}, perhaps the activ"),
        ((nn.ReLU(), nn.BatchNorm1d(7), nn.Dropout()), "something stands between {0} and the BatchNorm1d {2}"),
        ((nn.BatchNorm1d(7),), "no activation stands between {1} and {2}"),
        ((nn.Linear(7, 7), nn.ReLU()), "no activation stands between {0} and {1}"),
    ],
)
def test_the_numbers_in_a_sequential_show_where_no_activation_stands(
    between: tuple[Any, ...], message: str, prefix: str, tmp_path: Path
) -> None:
    """A ReLU in another place would compute something else, without a word."""
    net = nn.Sequential(nn.Linear(6, 7), *between, nn.Linear(7, 3))
    state = {f"{prefix}{name}": tensor for name, tensor in net.state_dict().items()}
    with pytest.raises(ModelError, match=message.format(*(f"'{prefix}{i}'" for i in range(3)))):
        read(saved(state, tmp_path), activation="relu")


def test_the_numbers_in_a_module_list_show_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its forward applies the activation, which has no number there."""
    torch.manual_seed(0)
    layers = nn.ModuleList([nn.Linear(6, 7), nn.Linear(7, 5), nn.Linear(5, 3)])
    state = {f"layers.{name}": tensor for name, tensor in layers.state_dict().items()}
    found = read(saved(state, tmp_path), activation="relu")
    assert caplog.messages == [
        f"'layers.{i}' and 'layers.{i + 1}' are taken for those of a ModuleList, between which the network has relu: "
        "in a Sequential there would be nothing between them"
        for i in range(2)
    ]
    u = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    with torch.no_grad():
        expected = layers[2](layers[1](layers[0](torch.from_numpy(u)).relu()).relu()).numpy()
    np.testing.assert_allclose(found.outputs(u), expected, rtol=0, atol=2e-6)
    with pytest.raises(ModelError, match="no activation stands between '0' and '1'"):  # a Sequential
        read(saved(layers.state_dict(), tmp_path), activation="relu")


def test_what_is_assumed_of_a_state_dict_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "xpnet")
    state = nn.Sequential(nn.Linear(6, 7), nn.BatchNorm1d(7), nn.GELU(), nn.Linear(7, 3)).state_dict()
    names = {"0": "first", "1": "norm", "3": "last"}
    named = {f"{names[name[0]]}{name[1:]}": tensor for name, tensor in state.items()}
    path = saved({"model_state_dict": named, "epoch": 3}, tmp_path)
    read(path, activation="gelu")
    assert caplog.messages == [
        f"{path}: taken as if each hidden layer were followed by BatchNorm1d and gelu, in its tanh form, which torch "
        "calls GELU(approximate='tanh')"
    ]


def test_one_layer_needs_no_activation() -> None:
    found = from_state_dict({"weight": torch.ones(2, 3), "bias": torch.zeros(2, dtype=torch.float16)})
    assert found.outputs(np.ones((1, 3), np.float32)).tolist() == [[3.0, 3.0]]


class Harmful:
    """Executes a command when it is unpickled, as any pickle may."""

    def __reduce__(self) -> Any:
        return os.system, ("touch harmed",)


def compressed(path: Path) -> None:
    """The same archive, compressed: a bomb is one."""
    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)


def test_what_is_no_state_dict_of_ours_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    W = torch.ones(4, 4)
    whose = "damaged, or not a network that xpnet wrote"
    cases: list[tuple[Any, str]] = [
        (Harmful(), "holds more than tensors"),
        ({"state_dict": Harmful()}, "holds more than tensors"),
        (nn.Sequential(nn.Linear(2, 2)), r"from_torch\(network\)"),
        ([W], "holds a list, not a state_dict"),
        ({}, "expected a Linear, but found the end"),
        ({"a.weight": 3.0}, "'a.weight' is no plain tensor"),
        ({"a.weight": W.expand(4, 4).to_sparse()}, "'a.weight' is no plain tensor"),
        ({"a.weight": torch.ones(1).expand(10**7, 10**7)}, "'a.weight' is no plain tensor"),
        ({"a.weight": torch.empty(4, 4, device="meta")}, "'a.weight' is no plain tensor"),
        ({"conv.weight": torch.ones(3, 1, 3, 3)}, r"'conv' is neither a Linear nor a BatchNorm1d: .*\(3, 1, 3, 3\)"),
        ({"norm.weight": torch.ones(3), "norm.bias": torch.ones(3)}, "'norm' is neither a Linear"),
        ({"a.weight": W, "a.bias": torch.ones(5)}, "the tensors of 'a' do not fit together"),
        ({"a.weight": W, "\x1b[31m.weight": torch.ones(3, 1, 3)}, "is neither a Linear"),
        ({"state_dict": {"a.weight": W}, "description": "[" * 100_000}, whose),
        ({"state_dict": {"a.weight": W}, "description": "[]"}, whose),
        (
            {"state_dict": {"a.weight": W}, "description": json.dumps({"labels": [1, 1]})},
            "description cannot be one of",
        ),
        (
            OrderedDict([("a.weight", W), ("b.weight", torch.ones(3, 5))]),
            "do not fit together|needs? activation|name it",
        ),
    ]
    for value, message in cases:
        with pytest.raises((ModelError, ConfigError), match=message) as error:
            read(saved(value, tmp_path))
        assert str(error.value).isprintable()
    assert not Path("harmed").exists()
    path = saved({"a.weight": torch.zeros(1000, 1000)}, tmp_path)
    compressed(path)
    with pytest.raises(ModelError, match=r"it is compressed, as torch.save never does"):
        read(path)
    for whole in (b"", b"PK\x03\x04", path.read_bytes()[:-50]):
        path.write_bytes(whole)
        with pytest.raises(ModelError, match=r"damaged, or not what torch.save writes since torch 1.6"):
            read(path)
    saved({"a.weight": W}, tmp_path, _use_new_zipfile_serialization=False)
    with pytest.raises(ModelError, match=r"not what torch.save writes since"):
        read(path)


def test_every_image_of_mnist_has_the_same_outputs(mnist: xpnet.Dataset, tmp_path: Path) -> None:
    assert mnist.test is not None
    images = np.asarray(mnist.test.images)
    network = xpnet.MLP((784, 32, 10), "scaled-tanh")
    model = xpnet.fit(network, mnist, epochs=1, device="cpu", progress=False).model
    (tmp_path / "model.pt").write_bytes(content(model))
    assert np.array_equal(read(tmp_path / "model.pt").outputs(images), model.outputs(images))
