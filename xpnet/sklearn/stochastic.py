"""Training batch after batch, by sgd or adam, with scikit-learn's figures, rates and ways to stop."""

import contextlib
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, r2_score

from xpnet.backend.arrays import home_of
from xpnet.data import Scaling, Schema
from xpnet.model import scores_of, spread_of
from xpnet.numerics.functional import LOSSES
from xpnet.optim import SCHEDULES, adam_eps_hat, rescale_velocity
from xpnet.sklearn.examples import Rows, SparseExamples, logits_of
from xpnet.sklearn.objective import Problem
from xpnet.sklearn.parameters import warn
from xpnet.training.callbacks import Callback
from xpnet.training.config import TrainConfig
from xpnet.training.history import Epoch
from xpnet.training.loop import Loop, computing
from xpnet.training.run import Run

if TYPE_CHECKING:
    from xpnet.sklearn.base import BaseMLP

__all__ = ["OptimizerState", "Training"]

Arrays = list[Any]

# The rate at which learning_rate="adaptive" ends.
LEAST_RATE = 1e-6

_NO_ORDER = np.empty(0, np.uint32)


@dataclass
class OptimizerState:
    """What partial_fit and warm_start continue from, on the host, besides the parameters.

    name : of the update rule.   learning_rate_init : the parameter, as it was.   learning_rate : of the next step.
    rate : of the last step, to which a velocity belongs; None before there was one.
    seed : of dropout and distortions.   rng : of the order of the examples; None for random_state itself.
    epochs : done so far.   order : of the last one's examples, if training is to continue from there.
    arrays : all that a step changes, by name.   best : params and running of the best validation score, or None.
    """

    name: str
    learning_rate_init: float
    learning_rate: float
    seed: int
    rate: float | None = None
    rng: np.random.RandomState | None = None
    epochs: int = 0
    order: NDArray[np.uint32] = field(default_factory=lambda: _NO_ORDER)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    best: tuple[Arrays, Arrays] | None = None


class Training:
    """A call of fit or partial_fit.

    estimator : whose fitted attributes grow with each epoch.   once : whether it is a single epoch.
    """

    def __init__(self, estimator: "BaseMLP", problem: Problem, *, once: bool) -> None:
        self._estimator, self._problem, self._once = estimator, problem, once
        self._state = estimator._optimizer
        if wrong := [each for each in estimator.callbacks or () if not isinstance(each, Callback)]:
            raise TypeError(f"callbacks must be instances of Callback, such as xpnet.CSVLog, not {wrong[0]!r}")
        self._observers = sorted(estimator.callbacks or (), key=lambda observer: observer.order)
        self._epochs = 1 if once else estimator.max_iter
        self._run = run = self._new_run()
        if any(observer.wants_state(run) for observer in self._observers):
            raise ValueError("callbacks that keep checkpoints need xpnet.fit: leave them out")

    def run(self) -> tuple[Arrays, Arrays]:
        """Train epoch after epoch, until the figures no longer improve.

        Returns host copies of the parameters and the running statistics.
        """
        estimator, state, run = self._estimator, self._state, self._run
        with contextlib.ExitStack() as ending:
            ending.enter_context(computing(run))
            self._start()
            for observer in self._observers:
                observer.on_start(run)
                ending.callback(observer.on_end, run)
            try:
                self._train()
            except KeyboardInterrupt:
                warn("Training interrupted by user.")
            params, running = self._loop.model_on_host()
            state.arrays = self._loop.arrays()
            state.rate = state.learning_rate if estimator.schedule else run.config.lr
            state.order = self._rows.order.astype(np.uint32) if estimator.warm_start else _NO_ORDER
        if self._observers:  # one of them may have restored the best epoch
            params, running = run.params, run.running
        if not estimator.early_stopping or state.best is None:
            return params, running
        if not self._once:
            for name, arrays in zip(("params", "running"), state.best, strict=True):
                state.arrays |= {f"{name}.{i}": a for i, a in enumerate(arrays)}
        return state.best

    def _new_run(self) -> Run:
        estimator, state, problem = self._estimator, self._state, self._problem
        network, n = problem.network, problem.train.n
        n_features = network.sizes[0]
        shape: tuple[int, ...] = (n_features,)
        if estimator.augment is not None:
            shape = (math.isqrt(n_features),) * 2
            if math.prod(shape) != n_features or n_features < 4:
                raise ValueError(f"augment needs square images, but X has {n_features} features: leave it out")
        config = TrainConfig(
            optimizer=state.name,
            lr=state.rate or state.learning_rate,
            weight_decay=0.0,
            momentum=estimator.momentum if state.name in ("momentum", "nesterov") else 0.0,
            beta1=estimator.beta_1,
            beta2=estimator.beta_2,
            eps=estimator.epsilon,
            clip_norm=estimator.clip_norm,
            average=estimator.average,
            augment=estimator.augment,
            schedule=estimator.schedule or "constant",
            epochs=estimator.max_iter,
            seed=state.seed,
            dtype=str(problem.params[0].dtype),
        )
        schema = Schema("", shape, estimator._names_of_outputs(), Scaling(), Scaling(), "as-is")
        size = estimator._batch_size(n)
        rates = np.array([config.lr])
        return Run(network, config, problem.backend, schema, n, size, rates, problem.params, problem.running)

    def _start(self) -> None:
        """Bring everything to the device, in the state that the last call left."""
        problem, state, run = self._problem, self._state, self._run
        rng = self._estimator._draws() if self._estimator.shuffle else None
        self._rows = Rows(problem.train, problem.backend, run.batch_size, rng)
        if len(state.order) == run.n_examples:
            self._rows.order = state.order.astype(np.intp)
        update = adam_eps_hat if state.name == "adam" else None
        self._loop = Loop(
            *(run, problem.train),
            objective=problem.objective,
            update=update,
            counting=bool(self._observers),
            loader=self._rows,
        )
        if state.epochs:
            known = self._loop.arrays()
            kept = {
                name: array
                for name, array in state.arrays.items()
                if name in known and array.shape == known[name].shape and (run.config.average or "optimizer" in name)
            }
            self._loop.resume(known | kept | {"step": np.array([state.epochs * run.n_steps])})
        self._held = None if problem.held is None else _Held(problem)

    def _train(self) -> None:
        estimator, state, run = self._estimator, self._state, self._run
        with estimator._told(self._problem, self._epochs, self._loop.model_on_host) as tell:
            for iteration in range(self._epochs):
                self._set_rates(state.epochs if self._once else iteration)
                started = time.perf_counter()
                for _ in self._loop.epoch(state.epochs + 1):
                    pass
                state.epochs += 1
                loss = np.float64(run.backend.to_host(self._loop.state.loss)[0] / run.n_examples)
                seconds = time.perf_counter() - started
                stopping = self._note(loss)
                if self._observers:
                    self._observe(loss, seconds)
                # No step leads back from a loss that is not a number.
                lost = math.isnan(loss) and not estimator.early_stopping
                if tell() or stopping or lost or run.stop_reason is not None:
                    return
        if not self._once:
            warn(
                f"Stochastic Optimizer: Maximum iterations ({self._epochs}) reached and the optimization hasn't "
                "converged yet.",
                ConvergenceWarning,
            )

    def _set_rates(self, epoch: int) -> None:
        """Set the rates of an epoch, where they are not those of the one before."""
        estimator, state, run, n = self._estimator, self._state, self._run, self._run.n_steps
        rates = np.array([state.learning_rate])
        if estimator.schedule is not None:
            steps = min(epoch, estimator.max_iter - 1) * n + np.arange(n)
            further = {"decay_steps": run.config.decay_every * n} if estimator.schedule == "step" else {}
            schedule = SCHEDULES[estimator.schedule]
            rates = schedule(steps, lr=estimator.learning_rate_init, n_steps=estimator.max_iter * n, **further)
            self._loop.set_rates(rates)
        elif state.learning_rate != run.config.lr:
            assert run.config.lr is not None
            if state.name in ("momentum", "nesterov"):
                rescale_velocity(self._loop.state.optimizer, run.config.lr / state.learning_rate)
            run.config = run.config.replace(lr=state.learning_rate)
            self._loop.set_rates(rates)
        if self._observers:  # who find the rates of all steps in the run
            run.rates = np.append(run.rates if run.history else [], np.broadcast_to(rates, n))

    def _note(self, loss: float) -> bool:
        """Note the figures of an epoch in the estimator.   Returns whether training is to stop by them."""
        estimator = self._estimator
        estimator.n_iter_ += 1
        estimator.loss_ = loss
        estimator.t_ += self._run.n_examples
        estimator.loss_curve_.append(loss)
        self._say(f"Iteration {estimator.n_iter_}, loss = {loss:.8f}")
        better = self._judge(loss)
        estimator._no_improvement_count = 0 if better else estimator._no_improvement_count + 1
        estimator.converged_ = estimator._no_improvement_count > estimator.n_iter_no_change
        if estimator.solver == "sgd" and estimator.learning_rate == "invscaling":
            self._state.learning_rate = estimator.learning_rate_init / (estimator.t_ + 1) ** estimator.power_t
        return estimator.converged_ and self._stops()

    def _judge(self, loss: float) -> bool:
        """Whether an epoch is better than the best one, by the validation score or the training loss."""
        estimator, held, score = self._estimator, self._held, math.nan
        if held is not None:
            held.judge(*self._loop.model)
            score = held.score
            estimator.validation_scores_.append(score)
            estimator.validation_loss_curve_.append(held.loss)
            self._say(f"Validation score: {score:f}")
        if estimator.early_stopping:
            better = not score < estimator.best_validation_score_ + estimator.tol
        else:
            best = estimator.best_loss_
            assert best is not None
            better = not loss > best - estimator.tol
            estimator.best_loss_ = min(best, loss)
        if held is not None and score > estimator.best_validation_score_:
            estimator.best_validation_score_ = score
            if estimator.early_stopping:
                self._state.best = self._loop.model_on_host()
        return better

    def _stops(self) -> bool:
        """Whether training stops now that nothing improves, or continues at a lower rate."""
        estimator, state = self._estimator, self._state
        what = "Validation score" if estimator.early_stopping else "Training loss"
        message = (
            f"{what} did not improve more than tol={estimator.tol:f} for {estimator.n_iter_no_change} consecutive "
            "epochs."
        )
        if estimator.solver != "sgd" or estimator.learning_rate != "adaptive":
            self._say(f"{message} Stopping.")
            return True
        if state.learning_rate <= LEAST_RATE:
            self._say(f"{message} Learning rate too small. Stopping.")
            return True
        state.learning_rate /= 5.0
        estimator._no_improvement_count, estimator.converged_ = 0, False
        self._say(f"{message} Setting learning rate to {state.learning_rate:f}")
        return False

    def _say(self, line: str) -> None:
        if self._estimator.verbose:
            print(line)

    def _observe(self, loss: float, seconds: float) -> None:
        """Show an epoch to xpnet's callbacks, as fit does."""
        run, held, n = self._run, self._held, self._run.n_examples
        metric, spread = "accuracy", None
        if LOSSES[run.network.loss].task == "regression":
            metric, spread = "r2", spread_of(self._problem.train.chosen_targets, run.schema)
        scores = scores_of(loss * n, run.backend.to_host(self._loop.state.hits), n, spread)
        figures: dict[str, Any] = {"train_loss": loss, f"train_{metric}": scores[1]}
        if held is not None:
            figures |= {"validation_loss": held.loss, f"validation_{metric}": held.score}
        run.params, run.running = self._loop.model_on_host()
        run.model_epoch = number = run.epoch
        rate, speed = float(run.rates[-1]), n / max(seconds, 1e-9)
        run.history.append(
            Epoch(epoch=number, learning_rate=rate, seconds=seconds, samples_per_second=speed, **figures)
        )
        run.note_best()
        for observer in self._observers:
            observer.on_epoch(run)


class _Held:
    """Examples to judge by after each epoch."""

    def __init__(self, problem: Problem) -> None:
        assert problem.held is not None
        self._problem, held = problem, problem.held
        if isinstance(held, SparseExamples):
            self._X = held.images if held.rows is None else held.images[held.rows]
        else:
            self._X = held.take(None)[0]
            if home_of(self._X) != (problem.backend.name, problem.backend.device):
                self._X = problem.backend.adopt(self._X)
        self._targets = held.chosen_targets
        self._weights = held.weights
        self.loss = self.score = math.nan

    def judge(self, params: Arrays, running: Arrays) -> None:
        """Find the loss and the score of a network."""
        problem, targets, weights = self._problem, self._targets, self._weights
        backend, loss = problem.backend, LOSSES[problem.network.loss]
        logits = backend.to_host(logits_of(problem.network, params, running, self._X, backend))
        with np.errstate(over="ignore", invalid="ignore"):
            self.loss = problem.objective.loss(logits, targets, weights, xp=np)
            if not np.isfinite(logits).all():
                self.score = math.nan
            elif loss.task == "classification":
                self.score = float(accuracy_score(targets, logits.argmax(axis=1), sample_weight=weights))
            elif loss.task == "multilabel":
                right = ((logits > 0) == (targets > 0.5)).all(axis=1)
                self.score = float(np.average(right, weights=weights))
            else:
                predicted, _ = loss.output(logits, xp=np)
                self.score = float(r2_score(targets, predicted, sample_weight=weights))
