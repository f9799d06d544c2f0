"""TrainConfig and recipes: TOML and back, and one clear line for each bad value."""

import dataclasses
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnet.checks import required
from xpnet.errors import ConfigError, MissingPackageError
from xpnet.numerics.augment import STANDARD, Distortion
from xpnet.numerics.functional import ACTIVATIONS
from xpnet.numerics.network import MLP
from xpnet.recipes import read_recipe, recipe_names
from xpnet.training.config import SETTINGS, TrainConfig
from xpnet.training.setting import GROUPS

CONFIGS = st.builds(
    TrainConfig,
    hidden=st.lists(st.integers(1, 4000), max_size=4),
    activation=st.sampled_from(list(ACTIVATIONS)),
    dropout=st.floats(0, 1, exclude_max=True),
    lr=st.none() | st.floats(0, exclude_min=True, allow_infinity=False),
    batch_size=st.just("full") | st.integers(1, 10**6),
    batch_norm=st.booleans(),
    early_stopping=st.none() | st.integers(1, 99),
    data=st.text(),
    max_norm=st.none() | st.floats(0, exclude_min=True, allow_infinity=False),
    average=st.floats(0, 1, exclude_max=True),
    augment=st.none() | st.builds(Distortion, rotation=st.floats(0, 180), alpha=st.floats(0, 10_000)),
)


@given(config=CONFIGS)
def test_toml_and_back(config: TrainConfig) -> None:
    assert TrainConfig().replace(**tomllib.loads(config.to_toml())) == config


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("lr", math.nan, "lr must be more than 0, not nan"),
        ("lr", math.inf, "lr must be finite and more than 0, not inf"),
        ("lr", 0, "lr must be more than 0, not 0"),
        ("lr", "fast", "lr must be a number, not 'fast'"),
        ("momentum", 1.0, "momentum must be in [0, 1), not 1"),
        ("dropout", -0.1, "dropout must be in [0, 1), not -0.1"),
        ("hidden", [128, 0], "hidden must be at least 1, not 0"),
        ("hidden", [1.5], "hidden[0] must be a whole number, not 1.5"),
        ("hidden", 128, "hidden must be a list of whole numbers, not 128"),
        ("batch_size", 0, "batch_size must be at least 1, not 0"),
        ("batch_size", "fulll", "batch_size must be a whole number or full, not 'fulll'"),
        ("batch_norm", 1, "batch_norm must be true or false, not 1"),
        ("epochs", True, "epochs must be a whole number, not True"),
        ("epochs", 0, "epochs must be at least 1, not 0"),
        ("seed", -1, "seed must be at least 0, not -1"),
        ("seed", 2**63, "seed must be below 2^63, not 9.22e+18"),
        ("validation", -0.5, "validation must be at least 0, not -0.5"),
        ("validation", 1.5, "validation must be a share below 1 or a whole number, not 1.5"),
        ("clip_norm", 0.0, "clip_norm must be more than 0, not 0"),
        ("max_norm", 0.0, "max_norm must be more than 0, not 0"),
        ("average", 1.0, "average must be in [0, 1), not 1"),
        ("input_dropout", 1.0, "input_dropout must be in [0, 1), not 1"),
        ("augment", {"shear": 90.0}, "augment.shear must be in [0, 90), not 90"),
        ("augment", {"shear": "much"}, "augment.shear must be a number, not 'much'"),
        ("augment", True, "augment must be a table of amounts such as rotation = 15, not True"),
        ("warmup", 1.0, "warmup must be in [0, 1), not 1"),
        ("decay", 0.0, "decay must be in (0, 1], not 0"),
        ("decay_every", 0, "decay_every must be at least 1, not 0"),
        ("weight_decay", -1.0, "weight_decay must be at least 0, not -1"),
        ("early_stopping", 0, "early_stopping must be at least 1, not 0"),
        ("data", None, "data must be a word, not None"),
    ],
)
def test_bad_values(setting: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        TrainConfig(**{setting: value})
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("setting", "value", "near"),
    [
        ("activation", "rleu", "relu"),
        ("loss", "cross_entropy", "cross-entropy"),
        ("optimizer", "Adam", "adam"),
        ("schedule", "cosin", "cosine"),
        ("dtype", "float23", "float32"),
        ("initializer", "he_normal", "he-normal"),
    ],
)
def test_nearest_known_value_is_named(setting: str, value: Any, near: str) -> None:
    with pytest.raises(
        ConfigError, match=f"^{setting}: unknown value '{value}'; did you mean '{near}'\\? the choices are "
    ):
        TrainConfig(**{setting: value})


def test_each_setting_is_described_once() -> None:
    for name, setting in SETTINGS.items():
        assert setting.help[-1] not in ".:", name
        assert setting.group in GROUPS
        assert setting.default == getattr(TrainConfig(), name)
        assert setting.default is None or setting.default in (setting.known or [setting.default])
    assert SETTINGS["momentum"].optimizers == ("momentum", "nesterov")
    assert SETTINGS["eps"].optimizers == ("rmsprop", "adam", "adamw")
    assert SETTINGS["weight_decay"].optimizers == (), "all take it"
    assert SETTINGS["alpha"].explained() == "Decay of the average squared gradient, in [0, 1). Only with rmsprop."
    rmsprop = TrainConfig(optimizer="rmsprop", weight_decay=1e-4)
    assert rmsprop.hyperparameters == {"alpha": 0.99, "eps": 1e-8, "weight_decay": 1e-4}
    assert (TrainConfig(optimizer="adam").rate, TrainConfig(lr=0.5).rate) == (0.001, 0.5)


@pytest.mark.parametrize(
    ("n", "loss", "epochs", "weight_decay", "clip_norm"),
    [
        (60_000, "cross-entropy", 6, 1e-4, None),  # as MNIST is, with and without 10,000 held out
        (50_000, "cross-entropy", 6, 1e-4, None),
        (5_000, "mse", 6, 1e-3, 0.3),
        (5_000, "mse-sigmoid", 6, 1e-3, None),
        (1_000, "binary-cross-entropy", 25, 5e-3, None),
        (1_000, "squared-error", 25, 5e-3, 0.3),
        (120, "poisson", 100, 0.042, 0.3),
        (2, "huber", 100, 0.3, 0.3),
    ],
)
def test_what_the_data_decide(n: int, loss: str, epochs: int, weight_decay: float, clip_norm: float | None) -> None:
    config = TrainConfig().resolved(n, loss)
    assert (config.epochs, config.weight_decay, config.clip_norm) == (epochs, pytest.approx(weight_decay), clip_norm)
    assert config.resolved(3, "squared-error").epochs == epochs, "settled once"
    given = TrainConfig(epochs=7, weight_decay=0.0, clip_norm=2.0, lr=0.4)
    assert given.resolved(n, loss) == given.resolved(n, loss, trained=True) == given
    trained = TrainConfig().resolved(n, loss, trained=True)
    assert (trained.rate, trained.weight_decay, trained.epochs) == (pytest.approx(0.015), 1e-4, epochs)
    assert TrainConfig(optimizer="adam").resolved(n, loss).rate == 0.001


def test_unknown_setting() -> None:
    with pytest.raises(ConfigError, match="unknown setting 'learning_rate'"):
        TrainConfig().replace(learning_rate=0.1)
    with pytest.raises(ConfigError, match="did you mean 'momentum'"):
        TrainConfig().replace(momentun=0.1)


def test_unknown_distortion() -> None:
    message = "^augment: unknown amount 'rotate'; did you mean 'rotation'\\? the choices are rotation, scaling, "
    with pytest.raises(ConfigError, match=message):
        TrainConfig(augment={"rotate": 15.0})  # type: ignore[arg-type]


def test_network_takes_every_setting_that_describes_it() -> None:
    changed: dict[str, Any] = {
        "activation": "gelu", "loss": "mse", "label_smoothing": 0.1, "dropout": 0.2,
        "input_dropout": 0.1, "batch_norm": True, "initializer": "zeros",
    }  # fmt: skip
    assert {f.name for f in dataclasses.fields(MLP)} == {"sizes", *changed}
    network = TrainConfig(hidden=(5, 6), **changed).network(784, 10)
    assert network == MLP((784, 5, 6, 10), **changed)


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_that_come_with_xpnet(name: str) -> None:
    assert TrainConfig().replace(**read_recipe(name).settings) != TrainConfig()


def test_recipes_say_what_they_are() -> None:
    recipe = read_recipe("sgd-onehot")
    assert recipe.reported == 90.83
    assert recipe.measured is not None
    assert "SGD" in recipe.what
    assert recipe.source
    assert "about" not in recipe.settings


def test_recipe_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('hidden = [300, 100]\nbatch_size = "full"\n')
    assert TrainConfig().replace(**read_recipe(path).settings).hidden == (300, 100)
    path.write_text("epochs = 3\n[augment]\nrotation = 15\nalpha = 36.0\nsigma = 6.0\n")
    assert read_recipe(path).settings == {"epochs": 3, "augment": {"rotation": 15, "alpha": 36.0, "sigma": 6.0}}
    assert TrainConfig(**read_recipe(path).settings).augment == Distortion(rotation=15.0, alpha=36.0, sigma=6.0)
    path.write_text(TrainConfig(augment=STANDARD).to_toml())
    assert TrainConfig(**read_recipe(path).settings) == TrainConfig(augment=STANDARD)
    for text, message in [
        ("[augment]\nrotaton = 15", "augment: unknown amount 'rotaton'; did you mean 'rotation'"),
        ("augment = 15", "augment must be a table of amounts"),
        ("[augment]\nsigma = 0", "augment.sigma must be in"),
        ("hiden = [3]", "unknown setting 'hiden'; did you mean 'hidden'"),
        ("lr = -1.0", "lr must be more than 0"),
        ("lr = ", "not valid TOML"),
        ("[lr]\nx = 1", "lr must be a number"),
        ("about = 1", "about must be a table, not 1"),
        ("[about]\nreportd = 97.0", r"unknown key 'reportd' in \[about\]; did you mean 'reported'"),
        ("[about]\nreported = 'high'", "reported must be a number, not 'high'"),
    ]:
        path.write_text(text)
        with pytest.raises(ConfigError, match=message) as error:
            read_recipe(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="cannot read the recipe"):
        read_recipe(tmp_path / "nowhere.toml")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot read the recipe"):
        read_recipe(path)
    with pytest.raises(ConfigError, match="unknown recipe 'nowhere'"):
        read_recipe("nowhere")


def test_a_package_that_is_broken_is_told_from_one_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "brokenpackage.py").write_text("import nowhere_to_be_found\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        MissingPackageError, match=r"a picture needs brokenpackage, which cannot be imported \(No module"
    ):
        required("brokenpackage", "a picture", "plot")
    with pytest.raises(MissingPackageError, match=r'nowhere, which is not installed: pip install "xpnet\[plot\]"$'):
        required("nowhere.at_all", "a picture", "plot")
