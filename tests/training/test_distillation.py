"""Learning from trained networks: the objective, what comes of it, and what is refused."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.team_of_threads import on_threads
from xpnet.data import Scaling, Schema
from xpnet.numerics.functional import softmax
from xpnet.training.config import TrainConfig
from xpnet.training.distillation import Distillation

SETTINGS: dict[str, Any] = {"epochs": 2, "device": "cpu", "batch_size": 30, "validation": 0.0, "progress": False}


@pytest.fixture
def teachers(small_data: xpnet.Dataset, tmp_path: Path) -> tuple[str, ...]:
    for seed, hidden in ((1, 12), (2, 9)):
        xpnet.fit(
            xpnet.MLP((36, hidden, 3), batch_norm=seed == 2),
            small_data,
            **{**SETTINGS, "epochs": 5},
            seed=seed,
            out=tmp_path / f"t{seed}",
        )
    return tuple(str(tmp_path / f"t{seed}") for seed in (1, 2))


def test_the_equation_and_its_gradient(teachers: tuple[str, ...]) -> None:
    """Against the docstring in plain NumPy, and finite differences, in float64 and of features scaled otherwise."""
    rng = np.random.default_rng(0)
    models = [xpnet.load(path, "cpu") for path in teachers]
    network = xpnet.MLP((36, 5, 3), activation="tanh", label_smoothing=0.1)
    config = TrainConfig(dtype="float64", teaching_share=0.7, teaching_temperature=3.0)
    shift, scale = rng.random(36), 0.5 + rng.random(36)
    objective = Distillation(network, models, Schema(features=Scaling("standard", shift, scale)), config)
    params = [rng.normal(size=shape) for shape in network.param_shapes().values()]
    pixels, labels, weights = 255 * rng.random((8, 36)), rng.integers(0, 3, 8), rng.random(8)
    x = (pixels - shift) / scale

    def value(params: list[np.ndarray]) -> float:
        return float(objective(params, x, labels, weights=weights, running=[], xp=np)[0])

    loss, grads, logits, _ = objective(params, x, labels, weights=weights, running=[], xp=np)
    q = np.mean([softmax(model.logits(pixels / 255).astype(np.float64) / 3.0)[0] for model in models], axis=0)
    taught = -(weights[:, None] * q * np.log(softmax(logits / 3.0)[0])).sum() / 8
    plain = network.loss_and_grads(params, x, labels, weights=weights)[0]
    assert loss == pytest.approx(0.3 * plain + 0.7 * 9.0 * taught, rel=1e-5)  # the models are of float32
    for i, gradient in enumerate(grads):
        direction = rng.normal(size=gradient.shape)
        ahead, behind = ([*params[:i], params[i] + h * direction, *params[i + 1 :]] for h in (1e-5, -1e-5))
        assert (value(ahead) - value(behind)) / 2e-5 == pytest.approx((gradient * direction).sum(), rel=1e-6)


def test_features_that_the_learner_has_in_another_form(tmp_path: Path) -> None:
    """Other units, another order of the columns, a constant column on either side, pixels in [0, 1]."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 4)) * [1, 10, 100, 1] + [0, 5, 1000, -1]
    y = (X[:, 0] > 0) + (X[:, 2] > 1000)
    constant = X.copy()
    constant[:, 3] = -1.0
    names = [(name, float) for name in "abcd"]
    taught: dict[str, Any] = {**SETTINGS, "epochs": 1, "lr": 1e-9, "teaching_share": 1.0}
    for i, (of_teacher, of_learner) in enumerate(((X, X), (constant, X), (X, constant))):
        table = of_teacher.copy().view(names)[:, 0]
        model = xpnet.fit(xpnet.MLP((4, 8, 3)), (table, y), **SETTINGS, out=tmp_path / f"t{i}").model
        order = list("dbac")
        learner = xpnet.fit(
            xpnet.MLP((4, 3)),
            (of_learner.copy().view(names)[:, 0][order], y),
            **taught,
            teacher=(str(tmp_path / f"t{i}"),),
        )
        logits = learner.model.logits(of_learner.copy().view(names)[:, 0][order])
        T = learner.config.teaching_temperature
        seen = of_learner if of_teacher is X else constant
        q = softmax(model.logits(seen) / np.float32(T))[0]
        expected = -T * T * (q * np.log(softmax(logits / np.float32(T))[0])).sum(axis=1).mean()
        assert learner.history[0].train_loss == pytest.approx(expected, rel=1e-4)
    pixels, digits = rng.integers(0, 256, (60, 8, 8)).astype(np.uint8), np.arange(60) % 3
    teacher = xpnet.fit(xpnet.MLP((64, 8, 3)), (pixels / 255, digits), **SETTINGS, out=tmp_path / "fractions").model
    learner = xpnet.fit(xpnet.MLP((64, 3)), (pixels, digits), **taught, teacher=(str(tmp_path / "fractions"),))
    q, p = (softmax(model.logits(pixels) / np.float32(T))[0] for model in (teacher, learner.model))
    assert learner.history[0].train_loss == pytest.approx(-T * T * (q * np.log(p)).sum(axis=1).mean(), rel=1e-4)
    table = X.copy().view([(name, float) for name in "acde"])[:, 0]
    with pytest.raises(xpnet.ConfigError, match=r"teacher .* was trained on a column 'b', which the data lacks"):
        xpnet.fit(xpnet.MLP((4, 3)), (table, y), **taught, teacher=(str(tmp_path / "t0"),))


def test_without_a_share_nothing_is_learned_from_teachers(small_data: xpnet.Dataset, teachers: tuple[str, ...]) -> None:
    network, alone = xpnet.MLP((36, 8, 3)), dict[str, Any]()
    plain, none, taught = (
        xpnet.fit(network, small_data, **SETTINGS, **further).model.params
        for further in (alone, {"teacher": teachers, "teaching_share": 0.0}, {"teacher": teachers})
    )
    assert all(np.array_equal(a, b) for a, b in zip(plain, none, strict=True))
    assert not np.array_equal(plain[0], taught[0])


def test_a_learner_believes_its_teachers(small_data: xpnet.Dataset, teachers: tuple[str, ...]) -> None:
    """And not the labels, which are of other images here, as far as its settings say so."""
    assert small_data.test is not None
    train = xpnet.Split(small_data.train.images, np.roll(small_data.train.labels, 100))
    data = dataclasses.replace(small_data, train=train)
    accuracies = [
        xpnet.fit(xpnet.MLP((36, 8, 3)), data, **{**SETTINGS, "epochs": 20}, teacher=teachers, teaching_share=share)
        .model.evaluate(*small_data.test)
        .accuracy
        for share in (0.0, 1.0)
    ]
    assert accuracies[0] < 0.6
    assert accuracies[1] > 0.95


@pytest.mark.parametrize("library", ["torch", "jax", "array-api-strict"])
def test_libraries_agree(small_data: xpnet.Dataset, teachers: tuple[str, ...], library: str) -> None:
    pytest.importorskip(library.replace("-", "_"), reason=f"{library} is not installed")
    settings = {**SETTINGS, "dtype": "float64", "teacher": teachers}
    network = xpnet.MLP((36, 8, 3), dropout=0.2)
    ours, theirs = (xpnet.fit(network, small_data, library=name, **settings).model for name in ("numpy", library))
    for a, b in zip(ours.params, theirs.params, strict=True):
        np.testing.assert_allclose(theirs.backend.to_host(b), a, rtol=1e-9, atol=1e-12)


def test_processes_learn_the_same_bits(small_data: xpnet.Dataset, teachers: tuple[str, ...]) -> None:
    def learn(team: Any) -> list[np.ndarray]:
        network = xpnet.MLP((36, 8, 3), dropout=0.2)
        params: list[np.ndarray] = xpnet.fit(
            network, small_data, shards=4, teacher=teachers, team=team, **SETTINGS
        ).model.params
        return params

    alone = learn(None)
    for params in on_threads(2, learn):
        assert all(np.array_equal(a, b) for a, b in zip(alone, params, strict=True))


def test_a_run_continues_with_its_own_teachers(
    small_data: xpnet.Dataset, teachers: tuple[str, ...], tmp_path: Path
) -> None:
    network = xpnet.MLP((36, 8, 3))
    settings = {**SETTINGS, "teacher": teachers, "schedule": "constant"}
    whole = xpnet.fit(network, small_data, **{**settings, "epochs": 4}).model
    xpnet.fit(network, small_data, **settings, out=tmp_path / "run")
    resumed = xpnet.fit(network, small_data, **{**settings, "epochs": 4}, out=tmp_path / "run", resume=True).model
    assert all(np.array_equal(a, b) for a, b in zip(whole.params, resumed.params, strict=True))
    with pytest.raises(xpnet.ConfigError, match="trained on other data or by other teachers"):
        xpnet.fit(network, small_data, **{**settings, "teacher": teachers[:1]}, out=tmp_path / "run", resume=True)
    # Another model in the place of a teacher.
    model = xpnet.load(teachers[0], "cpu")
    dataclasses.replace(model, params=[1.5 * p for p in model.params]).save(Path(teachers[0]) / "model.safetensors")
    with pytest.raises(xpnet.ConfigError, match="trained on other data or by other teachers"):
        xpnet.fit(network, small_data, **{**settings, "epochs": 5}, out=tmp_path / "run", resume=True)


def test_what_is_refused(small_data: xpnet.Dataset, teachers: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(
        xpnet.ConfigError, match=r"takes 36 features and knows 3 classes \(0, 1, 2\); the data has 4 and 2"
    ):
        xpnet.fit(xpnet.MLP((4, 2)), (rng.random((40, 4)), rng.integers(0, 2, 40)), teacher=teachers, **SETTINGS)
    with pytest.raises(xpnet.ConfigError, match="teacher is for classes"):
        xpnet.fit(
            xpnet.MLP((4, 1), loss="squared-error"), (rng.random((40, 4)), rng.random(40)), teacher=teachers, **SETTINGS
        )
    with pytest.raises(xpnet.ModelError, match="no such file"):
        xpnet.fit(xpnet.MLP((36, 3)), small_data, teacher=("nothing",), **SETTINGS)
    with pytest.raises(xpnet.ConfigError, match="teacher must be a list of words"):
        xpnet.fit(xpnet.MLP((36, 3)), small_data, **{**SETTINGS, "teacher": "nothing"})
