"""The errors that xpnet raises on purpose: one class catches all, each is one line, and each can travel."""

import copy
import pickle

import pytest

import xpnet
from xpnet import errors
from xpnet.backend import select
from xpnet.checks import check_one_of, check_range, typed
from xpnet.errors import ConfigError, DeviceError, XpnetError
from xpnet.numerics.augment import Distortion

CLASSES = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]


@pytest.mark.parametrize("kind", CLASSES)
def test_one_class_catches_all(kind: type[XpnetError]) -> None:
    assert issubclass(kind, xpnet.XpnetError)
    with pytest.raises(xpnet.XpnetError, match=r"^a  b: é\\x1b\[2J\\n\\udc80$"):
        raise kind("a  b: é\x1b[2J\n\udc80")


@pytest.mark.parametrize("kind", CLASSES)
def test_errors_are_pickled_and_copied(kind: type[XpnetError]) -> None:
    """As they are when a process of a pool raises one."""
    error = kind("two\nlines")
    error.add_note("kept")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert (type(twin), str(twin), vars(twin)) == (kind, "two\\nlines", vars(error))


def test_errors_with_more_than_a_message_keep_it() -> None:
    device = pickle.loads(pickle.dumps(DeviceError("no\nGPU", "buy one")))
    assert (str(device), device.what, device.remedy) == ("no\\nGPU: buy one", "no\\nGPU", "buy one")
    config = pickle.loads(pickle.dumps(ConfigError("lr must be small", setting="lr")))
    assert (str(config), config.setting) == ("lr must be small", "lr")


@pytest.mark.parametrize(
    ("cause", "setting"),
    [
        (lambda: typed("hidden", [1, "x"], "tuple[int, ...]"), "hidden"),
        (lambda: typed("seed", 2**63, "int"), "seed"),
        (lambda: typed("seed", 2**2000, "int"), "seed"),
        (lambda: check_one_of("loss", "mes", ["mse"]), "loss"),
        (lambda: check_range("epochs", 0, 1), "epochs"),
        (lambda: Distortion(rotation=200.0), "augment"),
        (lambda: xpnet.MLP((4, 2), dropout=2.0), "dropout"),
        (lambda: xpnet.TrainConfig(validation=1.5), "validation"),
        (lambda: xpnet.TrainConfig(tf32=True, dtype="float64"), "tf32"),
        (lambda: xpnet.TrainConfig(checkpoint_every="now"), "checkpoint_every"),
        (lambda: xpnet.TrainConfig(augment=3), "augment"),  # type: ignore[arg-type]
        (lambda: xpnet.TrainConfig(augment={"rotate": 3}), "augment"),  # type: ignore[arg-type]
        (lambda: xpnet.TrainConfig().replace(lrr=1), ""),
        (lambda: xpnet.MLP((4,)), ""),
    ],
)  # fmt: skip
def test_an_error_knows_the_setting_that_it_names(cause: object, setting: str) -> None:
    with pytest.raises(ConfigError) as error:
        cause()  # type: ignore[operator]
    assert error.value.setting == setting
    assert str(error.value).startswith(setting)


def test_devices_and_settings_have_the_same_hint() -> None:
    with pytest.raises(
        DeviceError, match=r"^unknown library 'nunpy': did you mean 'numpy'\? the choices are numpy, cupy"
    ):
        select("cpu", "nunpy")
