"""The study: its trials, where they are kept, and their result."""

import dataclasses
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from xpnet.backend import Backend
from xpnet.checks import check_range, required
from xpnet.data import Dataset
from xpnet.errors import ConfigError, NonFiniteError, XpnetError
from xpnet.files import sha256_of
from xpnet.studies.tune.space import Dimension, default_space, parse
from xpnet.studies.tune.storage import masked, open_storage, reason
from xpnet.training.callbacks import Callback
from xpnet.training.config import TrainConfig
from xpnet.training.fit import fit
from xpnet.training.prepare import as_dataset, check_arguments, n_trained_on, prepare
from xpnet.training.run import Run

__all__ = ["Trial", "Tuned", "tune"]

# Share of the training examples that is held out where neither the settings nor the data say what to judge by.
VALIDATION = 0.1

# Finished trials after which proposals build on them.
RANDOM_TRIALS = 6

# Complete trials after which the others are measured against their median, from the first epoch on.
UNPRUNED_TRIALS = 4

# Attributes that a study keeps: the terms it was begun on, the trial with the settings it started from, and why a trial
# failed.
TERMS, START, FAILURE = "terms", "start", "failure"

BEGINNING = 50  # tenths of a second that another process may need to begin a study


class Trial(NamedTuple):
    """A finished trial.

    number : in the study, from 0.   settings : those that were searched for; {} for the start that the space lacks.
    state : done; pruned, which ended early because it was worse than most; or failed, which did not stay finite or has
        incompatible settings.
    score : on the validation split, the accuracy in [0, 1] or of a regression R2, after the last epoch or, with early
        stopping, the best; None where it failed.
    epochs : finished ones.   best : the highest score of a trial that is done, so far; None without one.
    failure : why it failed, or None.
    """

    number: int
    settings: dict[str, Any]
    state: Literal["done", "pruned", "failed"]
    score: float | None
    epochs: int
    best: float | None
    failure: str | None


class Tuned(NamedTuple):
    """The result of tune.

    config : the resolved settings of the best trial, which repeat it.   number : of that trial.
    score : of that trial, as in Trial.   start_score : of the start; None if it failed.
    trials : finished trials of the study.
    final : config with the held-out examples given back to the training set, unless early stopping needs them.
    """

    config: TrainConfig
    number: int
    score: float
    start_score: float | None
    trials: int
    final: TrainConfig


def tune(
    data: Dataset,
    space: Mapping[str, Any] | None = None,
    config: TrainConfig | None = None,
    *,
    trials: int = 20,
    storage: str | Path | None = None,
    study: str = "xpnet",
    backend: Backend | None = None,
    report: Callable[[Trial], None] | None = None,
) -> Tuned:
    """Search for the settings with the highest validation accuracy or, where numbers are predicted, R2.

    The first trial has the settings of config, the next few are random, and a tree-structured Parzen estimator proposes
    the others. A trial that falls below the median of the trials before it ends early.

    data : host arrays; its test split is set aside before anything else.
    space : the settings to search for, in the form of xpnet/studies/tune/space.toml; None for default_space(config).
    config : the settings to start from; those not searched for keep their values.   trials : to finish in all, >= 1.
    storage : where the study is kept: a file, a URL of Optuna's such as sqlite:///tune.db, or None for the memory.
        An existing study is continued; it must have been begun with the same data, space and config. Several
        processes may share one; each of them may finish one trial more than requested. Processes on several machines
        share a file (NFS 3 or later) or a server such as PostgreSQL, never SQLite, whose locks fail on NFS.
    study : its name in the storage.   backend : where to compute; None takes config.backend().
    report : called after each trial of this process.
    Returns a Tuned. One process repeats the trials of a seed exactly, at once or in parts that end between trials.
    Raises ConfigError, before any trial, for a bad space, settings that do not fit the data or a study begun on other
    terms; NonFiniteError if every trial failed; OSError where the storage fails; MissingPackageError without Optuna.
    Source: Bergstra et al. 2011, section 4; Akiba et al. 2019.
    """
    check_arguments(config, backend)
    data = as_dataset(data, None, None, (config or TrainConfig()).loss or "cross-entropy")
    optuna = required("optuna", "the search for settings", "tune")
    check_range("trials", trials, 1)
    data, config = dataclasses.replace(data, test=None), config or TrainConfig()
    if not config.validation and data.validation is None:
        config = config.replace(validation=VALIDATION)
    loss = config.network(data.n_features, data.n_outputs, data.task).loss
    config = config.resolved(n_trained_on(data, config), loss)  # the same for all trials
    dimensions = parse(default_space(config) if space is None else space, config)
    backend = backend or config.backend()
    terms = _terms(dimensions, _resolved(config, data, backend), data)
    with _silent(optuna), ExitStack() as closing:
        search = _Search(optuna, data, config, dimensions)
        search.begin(storage, study, terms, closing)
        try:
            while search.needs_more(trials):
                finished = search.run(backend)
                if report:
                    report(finished)
            return search.result(backend)
        except optuna.exceptions.StorageInternalError as error:
            raise OSError(f"cannot continue the study {study!r} in {masked(storage)}: {reason(error)}") from None


class _Search:
    """A study of Optuna's with what its trials need."""

    study: Any

    def __init__(self, optuna: Any, data: Dataset, config: TrainConfig, space: dict[str, Dimension]) -> None:
        self.optuna, self.data, self.config, self.space = optuna, data, config, space

    def begin(
        self, storage: str | Path | None, name: str, terms: dict[str, dict[str, Any]], closing: ExitStack
    ) -> None:
        """Begin a study, or continue one that was begun on the same terms; closing learns what is to be closed."""
        optuna, new = self.optuna, False
        options = {"study_name": name, "pruner": optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED_TRIALS)}
        try:
            options["storage"] = open_storage(optuna, storage, closing)
            try:  # first of all, since beginning a study that is there leaves a trace in a journal
                self.study = optuna.load_study(**options)
            except KeyError:
                try:
                    self.study, new = optuna.create_study(direction="maximize", **options), True
                except optuna.exceptions.DuplicatedStudyError:
                    self.study = optuna.load_study(**options)
            known = self._begun(new, terms)
        except XpnetError:
            raise
        except Exception as error:  # every storage has errors of its own
            raise ConfigError(
                f"cannot store the study {name!r} in {masked(storage)} ({reason(error)}): name another storage"
            ) from None
        _compare(name, masked(storage), known, terms)

    def _begun(self, new: bool, terms: dict[str, dict[str, Any]]) -> Mapping[str, Any]:
        """The terms on which the study was begun, by this process if it is new or if whoever created it was killed."""
        for _ in range(0 if new else BEGINNING):
            known: Mapping[str, Any] | None = self.study.user_attrs.get(TERMS)
            if known is not None or any(START not in trial.user_attrs for trial in self.study.trials):
                return known or {}
            time.sleep(0.1)
        # The start comes before the terms: who finds those will not propose it once more.
        if not self.study.trials:
            self.study.enqueue_trial(self._start_params(), user_attrs={START: True})
        self.study.set_user_attr(TERMS, terms)
        return terms

    def needs_more(self, trials: int) -> bool:
        """Whether there is a trial to be run; sees to it that the start is among them.

        Trials that are running do not count: one that continues elsewhere looks like one that was killed.
        """
        finished = self._finished()
        enough = len(finished) >= trials
        if enough and any(START in trial.user_attrs for trial in finished):
            return False
        known = finished if enough else self._trials("COMPLETE", "PRUNED", "RUNNING", "WAITING")
        if not any(START in trial.user_attrs for trial in known):
            self.study.enqueue_trial(self._start_params(), user_attrs={START: True})
        return True

    def run(self, backend: Backend) -> Trial:
        """Run the next trial."""
        trial = self.study.ask()
        # Seeded by the trial's number, so that neither a study's parts nor its processes repeat each other's draws.
        seed = np.random.SeedSequence([self.config.seed, trial.number]).generate_state(1)
        self.study.sampler = self.optuna.samplers.TPESampler(n_startup_trials=RANDOM_TRIALS, seed=int(seed[0]))
        pruning, score = _Pruning(trial), 0.0
        try:
            config = self.config.replace(**self._settings(trial))
            network = config.network(self.data.n_features, self.data.n_outputs, self.data.task)
            result = fit(network, self.data, config, backend=backend, callbacks=[pruning], progress=False)
            score = result.history[result.model_epoch - 1].score("validation") or 0.0
        except (ConfigError, NonFiniteError) as error:
            trial.set_user_attr(FAILURE, str(error))
        except BaseException:
            self.study.tell(trial, state=self._state("FAIL"))
            raise
        outcome = {"state": self._state("PRUNED")} if pruning.pruned else {"values": score}
        return self._described(self.study.tell(trial, **outcome))

    def result(self, backend: Backend) -> Tuned:
        """The best trial, the first one if there are several."""
        finished, best = self._finished(), self._best()
        if best is None:
            first = next(trial for trial in finished if FAILURE in trial.user_attrs)
            failure = f"trial {first.number} failed: {first.user_attrs[FAILURE]}"
            raise NonFiniteError(f"none of the {len(finished)} trials succeeded; {failure}")
        start = next(trial for trial in finished if START in trial.user_attrs)
        config = _resolved(self.config.replace(**self._settings(best)), self.data, backend)
        final = config if config.early_stopping else config.replace(validation=0.0)
        return Tuned(config, best.number, best.value, self._described(start).score, len(finished), final)

    def _settings(self, trial: Any) -> dict[str, Any]:
        """A trial's settings: proposed for one that begins, remembered for one that is finished."""
        if START in trial.user_attrs and not self._start_params():
            return {}
        return {name: dimension.suggest(trial, name) for name, dimension in self.space.items()}

    def _start_params(self) -> dict[str, Any]:
        """The start as Optuna's parameters, so that it learns from that trial; {} where the space lacks it."""
        start = dataclasses.asdict(self.config) | {"lr": self.config.rate, "hidden": list(self.config.hidden)}
        params = [dimension.params(name, start[name]) for name, dimension in self.space.items()]
        return {} if None in params else {key: value for each in params if each for key, value in each.items()}

    def _described(self, trial: Any) -> Trial:
        best, failure = self._best(), trial.user_attrs.get(FAILURE)
        return Trial(
            trial.number,
            self._settings(trial),
            "failed" if failure else "pruned" if trial.state == self._state("PRUNED") else "done",
            None if failure else trial.value,
            len(trial.intermediate_values),
            best and best.value,
            failure,
        )

    def _best(self) -> Any:
        done = [trial for trial in self._trials("COMPLETE") if FAILURE not in trial.user_attrs]
        return max(done, key=lambda trial: (trial.value, -trial.number), default=None)

    def _finished(self) -> list[Any]:
        return self._trials("COMPLETE", "PRUNED")

    def _trials(self, *states: str) -> list[Any]:
        return list(self.study.get_trials(deepcopy=False, states=[self._state(name) for name in states]))

    def _state(self, name: str) -> Any:
        return self.optuna.trial.TrialState[name]


class _Pruning(Callback):
    """Tells a trial its score after each epoch, and ends it when it is not worth continuing; never the start."""

    def __init__(self, trial: Any) -> None:
        self.trial, self.pruned = trial, False

    def on_epoch(self, run: Run) -> None:
        last = run.history[-1]
        self.trial.report(last.score("validation"), last.epoch)
        unfinished = run.stop_reason is None and last.epoch < run.epochs
        if unfinished and START not in self.trial.user_attrs and self.trial.should_prune():
            self.pruned = True
            run.stop("worse than most trials")


def _resolved(config: TrainConfig, data: Dataset, backend: Backend) -> TrainConfig:
    run, _ = prepare(config.network(data.n_features, data.n_outputs, data.task), data, config, backend)
    return run.config


def _terms(space: dict[str, Dimension], start: TrainConfig, data: Dataset) -> dict[str, dict[str, Any]]:
    """What all trials of a study must have in common, to be compared; as JSON gives it back."""
    # The data are known by their content: on another machine they may have another path.
    elsewhere = ("data", "device", "library", "graph")
    settings = {name: value for name, value in dataclasses.asdict(start).items() if name not in elsewhere}
    digests = {"train": sha256_of(data.train), "validation": sha256_of(data.validation or ())}
    terms = {"search space": space, "settings": settings, "data": digests}
    plain: dict[str, dict[str, Any]] = json.loads(json.dumps(terms))
    return plain


def _compare(name: str, storage: str, theirs: Mapping[str, Any], ours: dict[str, dict[str, Any]]) -> None:
    """Raise ConfigError unless a study was begun on these terms."""
    for kind, terms in ours.items():
        known = theirs.get(kind, {})
        if kind == "settings":  # a study that is older than a setting has its default
            usual = dataclasses.asdict(TrainConfig().deciding())
            known = {name: usual[name] for name in terms} | known
        other = [key for key in {**known, **terms} if known.get(key) != terms.get(key)]
        if other:
            raise ConfigError(
                f"the study {name!r} in {storage} differs in its {kind} ({', '.join(other)}): continue it with "
                "the same ones, or start a study under another name"
            )


@contextmanager
def _silent(optuna: Any) -> Iterator[None]:
    """Without Optuna's log and its warnings of what may change in its next version."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
