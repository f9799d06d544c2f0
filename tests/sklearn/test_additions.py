"""What the estimators have beyond scikit-learn's: regularisation, schedules, validation, callbacks, models, devices."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn, of the extra sklearn")

from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import log_loss

import xpnet
from tests.conftest import open_backend
from xpnet.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IRIS = load_iris()
X, Y = (IRIS.data - IRIS.data.mean(axis=0)) / IRIS.data.std(axis=0), IRIS.target
DIGITS, OF_DIGITS = load_digits(n_class=4, return_X_y=True)
DIGITS, OF_DIGITS = DIGITS[:200] / 16, OF_DIGITS[:200]
HELD = X[::5], Y[::5]
QUICK: dict[str, Any] = {"hidden_layer_sizes": (8,), "max_iter": 12, "random_state": 0, "learning_rate_init": 0.02}


def weights(estimator: Any) -> list[np.ndarray]:
    return [np.asarray(array) for array in [*estimator.coefs_, *estimator.intercepts_]]


def same_bits(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


# Training otherwise.


@pytest.mark.parametrize(
    "addition",
    [
        {"dropout": 0.3},
        {"input_dropout": 0.2},
        {"batch_norm": True},
        {"label_smoothing": 0.2},
        {"schedule": "cosine"},
        {"schedule": "step", "solver": "sgd"},
        {"average": 0.9},
        {"clip_norm": 0.01},
    ],
    ids=str,
)
def test_an_addition_changes_the_result_and_repeats(addition: dict[str, Any]) -> None:
    settings = {**QUICK, "solver": "adam", **addition}
    first, second = (MLPClassifier(**settings).fit(X, Y) for _ in range(2))
    assert same_bits(first, second)
    plain = MLPClassifier(**QUICK, solver=settings["solver"]).fit(X, Y)
    assert not same_bits(first, plain)
    assert first.score(X, Y) > 0.5
    assert same_bits(first, clone(first).fit(X, Y))


@pytest.mark.parametrize("name", ["dropout", "input_dropout", "schedule", "average", "clip_norm", "batch_norm"])
def test_a_regressor_has_it_too(name: str) -> None:
    values = {"schedule": "linear", "clip_norm": 0.05, "batch_norm": True}
    fitted = MLPRegressor(**QUICK | {"max_iter": 60, name: values.get(name, 0.1)}).fit(X, X[:, 0] + X[:, 2])
    assert fitted.score(X, X[:, 0] + X[:, 2]) > 0.5


def test_nothing_is_dropped_when_predicting() -> None:
    fitted = MLPClassifier(**QUICK, dropout=0.5, input_dropout=0.5).fit(X, Y)
    assert np.array_equal(fitted.predict_proba(X), fitted.predict_proba(X))
    hidden = np.maximum(X @ fitted.coefs_[0] + fitted.intercepts_[0], 0)
    logits = hidden @ fitted.coefs_[1] + fitted.intercepts_[1]
    by_hand = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(fitted.predict_proba(X), by_hand, rtol=1e-10)


def test_a_last_batch_of_one_is_not_normalised_alone() -> None:
    fitted = MLPClassifier(**QUICK | {"max_iter": 60}, batch_norm=True, batch_size=50).fit(X[:101], Y[:101])
    assert np.isfinite(fitted.predict_proba(X)).all()
    assert fitted.score(X[:101], Y[:101]) > 0.9
    fitted.partial_fit(X[:51], Y[:51])
    one = fitted.predict_proba(X[:1])
    np.testing.assert_allclose(one, fitted.predict_proba(X)[:1], rtol=1e-10)


@pytest.mark.parametrize("y", [Y, (Y > 0).astype(int)], ids=["three classes", "two classes"])
def test_label_smoothing_holds_probabilities_back(y: np.ndarray) -> None:
    settings = QUICK | {"max_iter": 300, "alpha": 0.0, "tol": 0.0}
    sure = MLPClassifier(**settings).fit(X, y).predict_proba(X).max(axis=1)
    smooth = MLPClassifier(**settings, label_smoothing=0.3).fit(X, y).predict_proba(X).max(axis=1)
    n = len(np.unique(y))
    assert np.median(smooth) == pytest.approx(1 - 0.3 * (n - 1) / n, abs=0.04)
    assert np.median(sure) > 0.97


def test_a_schedule_ends_at_nothing() -> None:
    """With the linear one, the last steps hardly change the weights; with none they do."""
    short, whole = (MLPClassifier(**QUICK | {"max_iter": n}, schedule="linear").fit(X, Y) for n in (11, 12))
    assert not same_bits(short, whole)
    rates = Rates()
    MLPClassifier(**QUICK, schedule="linear", callbacks=[rates]).fit(X, Y)
    assert rates.seen[0] == pytest.approx(0.02, rel=0.1)
    assert rates.seen == sorted(rates.seen, reverse=True)
    assert rates.seen[-1] < 0.004


def test_augmentation_of_square_images() -> None:
    settings = QUICK | {"hidden_layer_sizes": (24,), "max_iter": 25}
    plain = MLPClassifier(**settings).fit(DIGITS, OF_DIGITS)
    for augment in (xpnet.Distortion(shift=1.0), {"shift": 1.0}):
        fitted = MLPClassifier(**settings, augment=augment).fit(DIGITS, OF_DIGITS)
        assert not same_bits(plain, fitted)
        assert fitted.score(DIGITS, OF_DIGITS) > 0.8
    with pytest.raises(ValueError, match="augment needs square images, but X has 3 features"):
        MLPClassifier(**QUICK, augment={"shift": 1.0}).fit(X[:, :3], Y)


# Validation.


def test_validation_data_is_judged_after_each_iteration() -> None:
    fitted = MLPClassifier(**QUICK, validation_data=HELD).fit(X, Y)
    assert len(fitted.validation_loss_curve_) == len(fitted.validation_scores_) == fitted.n_iter_ == 12
    assert fitted.validation_scores_[-1] == fitted.score(*HELD)
    assert fitted.validation_loss_curve_[-1] == pytest.approx(log_loss(HELD[1], fitted.predict_proba(HELD[0])))
    assert same_bits(fitted, MLPClassifier(**QUICK).fit(X, Y))  # to look changes nothing


def test_validation_data_of_a_fit_comes_first() -> None:
    fitted = MLPClassifier(**QUICK, validation_data=(X[:3], Y[:3])).fit(X, Y, validation_data=HELD)
    assert fitted.validation_scores_[-1] == fitted.score(*HELD)
    regressor = MLPRegressor(**QUICK).fit(X, X[:, 0], validation_data=(HELD[0], HELD[0][:, 0]))
    assert regressor.validation_scores_[-1] == pytest.approx(regressor.score(HELD[0], HELD[0][:, 0]))
    error = (regressor.predict(HELD[0]) - HELD[0][:, 0]) ** 2
    assert regressor.validation_loss_curve_[-1] == pytest.approx(error.mean() / 2)


def test_validation_data_may_have_names_and_be_sparse() -> None:
    names = IRIS.target_names
    fitted = MLPClassifier(**QUICK).fit(X, names[Y], validation_data=(sparse.csr_matrix(HELD[0]), names[HELD[1]]))
    assert fitted.validation_scores_[-1] == fitted.score(HELD[0], names[HELD[1]])


@pytest.mark.parametrize(
    ("validation_data", "message"),
    [
        (HELD[0], "validation_data must be a pair"),
        ((HELD[0], HELD[1], HELD[1]), "validation_data must be a pair"),
        ((HELD[0][:, :2], HELD[1]), "X has 2 features, but MLPClassifier is expecting 4 features as input"),
        ((HELD[0], HELD[1][:-1]), "Found input variables with inconsistent numbers of samples"),
        ((HELD[0], np.eye(3, dtype=int)[HELD[1]]), "^validation_data: `y` has several labels for each example, but"),
        ((HELD[0], HELD[1] + 7), "`y` has classes not in `self.classes_`"),
        ((np.full_like(HELD[0], np.nan), HELD[1]), "Input X contains NaN"),
    ],
)
def test_validation_data_that_does_not_fit(validation_data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLPClassifier(**QUICK).fit(X, Y, validation_data=validation_data)


def test_validation_data_of_other_outputs() -> None:
    with pytest.raises(ValueError, match=r"^validation_data: `y` has 3 outputs, not 2\.$"):
        MLPRegressor(**QUICK).fit(X, X[:, :2], validation_data=(X, X[:, :3]))


def test_validation_data_may_lack_a_class_where_training_continues() -> None:
    without = X[Y > 0], Y[Y > 0]
    found = MLPClassifier(**QUICK, warm_start=True, validation_data=without).fit(X, Y).fit(X, Y)
    assert len(found.validation_scores_) == 2 * QUICK["max_iter"]


def test_a_part_of_the_examples_is_not_balanced() -> None:
    with pytest.raises(ValueError, match="class_weight='balanced' needs all examples"):
        MLPClassifier(class_weight="balanced").partial_fit(X, Y, classes=[0, 1, 2])
    weights = {0: 1.0, 1: 2.0, 2: 0.5}
    ours = MLPClassifier(class_weight=weights, **QUICK).partial_fit(X, Y, classes=[0, 1, 2])
    same = MLPClassifier(**QUICK).partial_fit(X, Y, np.array([weights[y] for y in Y]), classes=[0, 1, 2])
    assert same_bits(ours, same)


def test_early_stopping_with_validation_data_trains_on_all() -> None:
    fitted = MLPClassifier(**QUICK | {"max_iter": 30}, early_stopping=True, validation_data=HELD).fit(X, Y)
    assert fitted.t_ == fitted.n_iter_ * len(X)
    assert fitted.best_validation_score_ == max(fitted.validation_scores_) == fitted.score(*HELD)


# Callbacks: xpnet's, and those that scikit-learn has since 1.9.


class Rates(xpnet.Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []
        self.events: list[str] = []

    def on_start(self, run: xpnet.Run) -> None:
        self.events.append("start")

    def on_epoch(self, run: xpnet.Run) -> None:
        self.seen.append(float(run.rates[-1]))
        self.events.append("epoch")

    def on_end(self, run: xpnet.Run) -> None:
        self.events.append("end")


class Stop(xpnet.Callback):
    def on_epoch(self, run: xpnet.Run) -> None:
        if len(run.history) == 3:
            run.stop("seen enough")


def test_xpnet_s_callbacks() -> None:
    rates = Rates()
    fitted = MLPClassifier(**QUICK, callbacks=[rates, Stop()]).fit(X, Y)
    assert rates.events == ["start", "epoch", "epoch", "epoch", "end"]
    assert rates.seen == [0.02] * 3
    assert fitted.n_iter_ == 3
    assert same_bits(fitted, MLPClassifier(**QUICK | {"max_iter": 3}).fit(X, Y))


def test_ctrl_c_keeps_what_was_learnt() -> None:
    class Interrupt(xpnet.Callback):
        def on_epoch(self, run: xpnet.Run) -> None:
            if len(run.history) == 3:
                raise KeyboardInterrupt

    with pytest.warns(UserWarning, match=r"^Training interrupted by user\.$"):
        fitted = MLPClassifier(**QUICK, callbacks=[Interrupt()]).fit(X, Y)
    assert fitted.n_iter_ == len(fitted.loss_curve_) == 3
    assert same_bits(fitted, MLPClassifier(**QUICK | {"max_iter": 3}).fit(X, Y))


def test_a_callback_of_another_kind_is_refused() -> None:
    with pytest.raises((TypeError, ValueError), match="callback") as caught:
        MLPClassifier(**QUICK, callbacks=[print]).fit(X, Y)
    assert len(str(caught.value).splitlines()) == 1


def test_scikit_learn_s_scoring_monitor() -> None:
    callback = pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks since 1.9")
    monitor = callback.ScoringMonitor(scoring="accuracy")
    fitted = MLPClassifier(**QUICK).set_callbacks(monitor).fit(X, Y)
    scores = [row["accuracy"] for row in monitor.get_logs().data if row["parent_task_id_path"]]
    assert scores == [MLPClassifier(**QUICK | {"max_iter": n}).fit(X, Y).score(X, Y) for n in range(1, 13)]
    assert scores[-1] == fitted.score(X, Y)
    assert same_bits(fitted, MLPClassifier(**QUICK).fit(X, Y))
    names = MLPClassifier(**QUICK).set_callbacks(monitor).fit(X, IRIS.target_names[Y])
    assert monitor.get_logs().data[-1]["accuracy"] == names.score(X, IRIS.target_names[Y])


def test_scikit_learn_s_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    callback = pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks since 1.9")
    MLPRegressor(**QUICK).set_callbacks(callback.ProgressBar()).fit(X, X[:, 0])
    assert "MLPRegressor" in capsys.readouterr().out


def test_a_callback_of_scikit_learn_s_stops_a_fit() -> None:
    pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks since 1.9")

    class StopAtThree:
        def setup(self, estimator: Any, context: Any) -> None: ...

        def teardown(self, estimator: Any, context: Any) -> None: ...

        def on_fit_task_begin(self, estimator: Any, context: Any, **_: Any) -> None: ...

        def on_fit_task_end(self, estimator: Any, context: Any, **_: Any) -> bool:
            return bool(context.parent is not None and context.task_id == 2)

    assert MLPClassifier(**QUICK).set_callbacks(StopAtThree()).fit(X, Y).n_iter_ == 3


# Models.


@pytest.mark.parametrize("settings", [{}, {"batch_norm": True}, {"dropout": 0.2, "activation": "tanh"}], ids=str)
@pytest.mark.parametrize("task", ["two classes", "three classes", "labels", "numbers", "counts"])
def test_a_model_predicts_the_same(tmp_path: Path, task: str, settings: dict[str, Any]) -> None:
    targets = {"two classes": Y > 0, "labels": np.stack([Y > 0, X[:, 0] > 0], axis=1).astype(int), "numbers": X[:, :2]}
    kind = MLPRegressor if task in ("numbers", "counts") else MLPClassifier
    fitted = kind(**QUICK, **settings)
    if task == "counts":
        fitted.set_params(loss="poisson")
    fitted.fit(X, targets.get(task, Y))
    fitted.model_.save(tmp_path / "model.safetensors")
    wrapped = kind.from_model(xpnet.load(tmp_path / "model.safetensors"))
    np.testing.assert_allclose(wrapped.predict(X), fitted.predict(X), rtol=1e-6, atol=1e-9)
    if kind is MLPClassifier:
        np.testing.assert_allclose(wrapped.predict_proba(X), fitted.predict_proba(X), rtol=1e-6, atol=1e-9)
    assert wrapped.n_features_in_ == 4
    assert clone(wrapped).fit(X, targets.get(task, Y)).model_.network.loss == fitted.model_.network.loss


def test_a_model_of_one_class_predicts_it() -> None:
    names = np.full(len(X), "iris")
    model = MLPClassifier(**QUICK).fit(X, names).model_
    assert (model.task, model.classes) == ("classification", ("iris",))
    assert model.evaluate(X, names).accuracy == 1.0
    wrapped = MLPClassifier.from_model(model)
    assert (wrapped.predict(X) == names).all()
    assert np.array_equal(wrapped.predict_proba(X), np.ones((len(X), 1)))
    assert np.array_equal(wrapped.predict_log_proba(X), np.zeros((len(X), 1)))


def test_a_model_of_one_label_has_one_probability() -> None:
    network = xpnet.MLP((4, 8, 1), loss="binary-cross-entropy")
    model = xpnet.fit(network, (X, (Y > 0)[:, None].astype(int)), epochs=2, device="cpu", progress=False).model
    wrapped = MLPClassifier.from_model(model)
    assert np.array_equal(wrapped.predict(X), model.predict(X))
    np.testing.assert_allclose(wrapped.predict_proba(X), model.outputs(X), rtol=1e-6)
    np.testing.assert_allclose(np.exp(wrapped.predict_log_proba(X)), model.outputs(X), rtol=1e-6)


def test_names_go_into_the_model() -> None:
    pandas = pytest.importorskip("pandas", reason="names of features are a DataFrame's")
    frame = pandas.DataFrame(X, columns=IRIS.feature_names)
    model = MLPClassifier(**QUICK).fit(frame, IRIS.target_names[Y]).model_
    assert list(model.classes) == IRIS.target_names.tolist()
    wrapped = MLPClassifier.from_model(model)
    assert wrapped.classes_.tolist() == IRIS.target_names.tolist()
    assert wrapped.feature_names_in_.tolist() == IRIS.feature_names
    assert set(wrapped.predict(frame)) <= set(IRIS.target_names)


def test_a_model_of_another_task_is_refused() -> None:
    numbers, classes = MLPRegressor(**QUICK).fit(X, X[:, 0]).model_, MLPClassifier(**QUICK).fit(X, Y).model_
    for kind, model in ((MLPClassifier, numbers), (MLPRegressor, classes)):
        with pytest.raises(ValueError, match="from_model") as caught:
            kind.from_model(model)
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(NotFittedError):
        _ = MLPClassifier().model_


# Where it is computed.


@pytest.mark.parametrize("library", ["numpy", "torch", "jax", "array-api-strict"])
def test_a_library_that_is_asked_for(library: str) -> None:
    open_backend(library)
    expected = MLPClassifier(**QUICK).fit(X, Y)
    fitted = MLPClassifier(**QUICK, library=library, device="cpu").fit(X, Y)
    assert {type(array) for array in (*fitted.coefs_, *fitted.intercepts_, fitted.predict_proba(X))} == {np.ndarray}
    np.testing.assert_allclose(fitted.predict_proba(X), expected.predict_proba(X), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_jax_s_arrays_which_scikit_learn_s_checks_leave_out(kind: Any) -> None:
    asarray = open_backend("jax").to_device
    host = kind(**QUICK).fit(X, Y)
    with config_context(array_api_dispatch=True):
        found = kind(**QUICK).fit(asarray(X), asarray(Y))
        predicted, score = found.predict(asarray(X)), found.score(asarray(X), asarray(Y))
    assert type(predicted) is type(found.coefs_[0]) is type(asarray(X))
    assert np.allclose(np.asarray(predicted), host.predict(X), rtol=1e-9)
    assert score == pytest.approx(host.score(X, Y), abs=1e-6)


@pytest.mark.cuda
def test_a_gpu_that_is_asked_for() -> None:
    expected = MLPClassifier(**QUICK, dropout=0.2).fit(X, Y)
    fitted = MLPClassifier(**QUICK, dropout=0.2, device="cuda").fit(X, Y)
    assert type(fitted.coefs_[0]) is np.ndarray
    np.testing.assert_allclose(fitted.predict_proba(X), expected.predict_proba(X), rtol=1e-6, atol=1e-6)
    regressor = MLPRegressor(**QUICK, device="cuda", solver="lbfgs").fit(X, X[:, 0])
    assert regressor.score(X, X[:, 0]) > 0.9


def test_a_library_that_is_asked_for_predicts_what_another_has() -> None:
    """Results are in the library of the features that they are for."""
    torch, strict = open_backend("torch"), open_backend("array-api-strict", "device1")
    expected = MLPClassifier(**QUICK).fit(X, Y).predict(X)
    with config_context(array_api_dispatch=True):
        fitted = MLPClassifier(**QUICK, library="torch", device="cpu").fit(strict.to_device(X), strict.to_device(Y))
        assert np.array_equal(strict.to_host(fitted.predict(strict.to_device(X))), expected)
        assert np.array_equal(torch.to_host(fitted.predict(torch.to_device(X))), expected)
        assert np.array_equal(fitted.predict(X), expected)


def test_probabilities_that_are_nothing_have_a_logarithm() -> None:
    """Of the logits, so that float32 has no warning of a division by zero, and no infinity."""
    far = 1e4 * X.astype(np.float32)
    for y in (Y, Y > 0):
        fitted = MLPClassifier(**QUICK).fit(X.astype(np.float32), y)
        assert fitted.predict_proba(far).min() == 0
        logarithms = fitted.predict_log_proba(far)
        assert logarithms.min() < -100
        assert np.isfinite(logarithms).all()


# What is refused, in one line.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dropout": 1.0}, "The 'dropout' parameter of MLPClassifier must be a float in the range"),
        ({"input_dropout": -0.1}, "The 'input_dropout' parameter of MLPClassifier must be a float in the range"),
        ({"batch_norm": "yes"}, "The 'batch_norm' parameter of MLPClassifier must be"),
        ({"class_weight": "even"}, "The 'class_weight' parameter of MLPClassifier must be"),
        ({"schedule": "cosinus"}, "The 'schedule' parameter of MLPClassifier must be"),
        ({"label_smoothing": 1.0}, "The 'label_smoothing' parameter of MLPClassifier must be"),
        ({"average": 1.0}, "The 'average' parameter of MLPClassifier must be"),
        ({"clip_norm": 0}, "The 'clip_norm' parameter of MLPClassifier must be"),
        ({"validation_data": 3}, "The 'validation_data' parameter of MLPClassifier must be"),
        ({"callbacks": 3}, "The 'callbacks' parameter of MLPClassifier must be"),
        ({"device": 0}, "The 'device' parameter of MLPClassifier must be"),
        ({"augment": {"rotate": 3}}, "rotat"),
        ({"augment": {"rotation": 999}}, "rotation"),
        ({"device": "cudo"}, "cudo"),
        ({"library": "nunpy"}, "did you mean 'numpy'"),
        ({"dropout": 0.1, "solver": "lbfgs"}, "dropout needs solver='adam' or 'sgd'"),
        ({"schedule": "cosine", "solver": "sgd", "learning_rate": "adaptive"}, "schedule takes the place of"),
        ({"class_weight": {7: 2.0}}, "are not in class_weight"),
    ],
    ids=str,
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=message) as caught:
        MLPClassifier(**QUICK, **settings).fit(X, Y)
    assert len(str(caught.value).splitlines()) == 1


# What scripts rely on.


def test_a_batch_whose_weights_are_all_zero_has_no_say() -> None:
    weights = np.ones(len(X))
    weights[:10] = 0
    settings = {**QUICK, "shuffle": False, "batch_size": 10, "max_iter": 3, "alpha": 0.0, "solver": "sgd"}
    found = MLPClassifier(**settings, momentum=0.0).fit(X, Y, weights)
    expected = MLPClassifier(**settings, momentum=0.0).fit(X[10:], Y[10:])
    for a, b in zip(found.coefs_, expected.coefs_, strict=True):
        assert np.allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize(
    ("weights", "of_classes"), [(-1.0, None), (1.0, {0: -5}), (1.0, {0: np.nan}), (1.0, {0: np.inf})], ids=str
)
def test_weights_below_zero_or_not_finite_are_refused(weights: float, of_classes: dict[int, float] | None) -> None:
    with pytest.raises(ValueError, match=r"^sample_weight and class_weight must be finite and >= 0\.$"):
        MLPClassifier(**QUICK, class_weight=of_classes).fit(X, Y, np.full(len(X), weights))


def test_examples_held_out_with_no_weight_are_refused() -> None:
    weights = np.zeros(len(X))
    weights[0] = 1
    with pytest.raises(ValueError, match="those held out for early stopping, all have a weight of 0"):
        MLPClassifier(early_stopping=True, random_state=0).fit(X, Y, weights)


@pytest.mark.filterwarnings("error")
def test_warnings_are_scikit_learn_s_by_their_module() -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ConvergenceWarning, module="sklearn")
        MLPClassifier(max_iter=1).fit(X, Y)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_losses_are_numpy_s_numbers(solver: str) -> None:
    fitted = MLPClassifier(**{**QUICK, "solver": solver}).fit(X, Y)
    assert fitted.loss_.round(3) == round(float(fitted.loss_), 3)


def test_sparse_labels_are_predicted_sparse() -> None:
    labels = sparse.csr_matrix(np.stack([Y == 0, Y > 1], axis=1).astype(int))
    predicted = MLPClassifier(**QUICK).fit(X, labels).predict(X)
    assert sparse.issparse(predicted)
    assert np.array_equal(predicted.toarray(), MLPClassifier(**QUICK).fit(X, labels.toarray()).predict(X))
