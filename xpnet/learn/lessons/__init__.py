"""The eight lessons: what each asks for, what is right, and the mistakes that it knows by their numbers.

A check is a generator: it calls one function of the learner's file and yields a finding for each of its results.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from xpnet.learn.exercise import Exercise, Finding
from xpnet.learn.lessons import activations, dense, gradient, network, neuron, optimizers, regularisation, softmax

__all__ = ["LESSONS", "Lesson"]


class Lesson(NamedTuple):
    """One lesson.

    title : in a few words.   checks : by the name of the function that each calls.
    solutions : the package's own functions that do the same, "module:name".
    reward : what the learner's code can do once it is right, as a sentence; None for nothing.
    """

    title: str
    checks: dict[str, Callable[[Exercise], Iterator[Finding]]]
    solutions: tuple[str, ...]
    reward: Callable[[Exercise], str] | None = None


FUNCTIONAL, NETWORK = "xpnet.numerics.functional", "xpnet.numerics.network:MLP"
INITIALIZERS, RULES = "xpnet.training.initializers", "xpnet.optim.rules"

LESSONS = {
    1: Lesson(
        "a neuron and its loss",
        {"neuron": neuron.check_neuron, "loss": neuron.check_loss},
        (f"{FUNCTIONAL}:dense", f"{FUNCTIONAL}:sigmoid", f"{FUNCTIONAL}:squared_error"),
    ),
    2: Lesson(
        "the gradient, by hand and by finite differences",
        {"gradient": gradient.check_gradient, "differences": gradient.check_differences},
        (f"{FUNCTIONAL}:sigmoid", f"{FUNCTIONAL}:squared_error", "xpnet.studies.gradcheck:central_differences"),
    ),
    3: Lesson("a dense layer, forward and back", {"dense": dense.check}, (f"{FUNCTIONAL}:dense",)),
    4: Lesson(
        "activations and their masks",
        {"relu": activations.check_relu, "tanh": activations.check_tanh},
        (f"{FUNCTIONAL}:relu", f"{FUNCTIONAL}:tanh"),
    ),
    5: Lesson(
        "softmax and cross-entropy",
        {"softmax_cross_entropy": softmax.check},
        (f"{FUNCTIONAL}:softmax_cross_entropy", f"{FUNCTIONAL}:_mean"),
    ),
    6: Lesson(
        "a network learns",
        {"train_step": network.check_step, "epoch": network.check_epoch},
        (f"{NETWORK}.loss_and_grads", f"{NETWORK}.forward", f"{NETWORK}._hidden_layer", f"{RULES}:sgd"),
        network.reward,
    ),
    7: Lesson(
        "where to start, and how to step",
        {"init": optimizers.check_init, "momentum": optimizers.check_momentum, "adam": optimizers.check_adam},
        (
            f"{INITIALIZERS}:he_normal",
            f"{INITIALIZERS}:_normal",
            f"{RULES}:momentum_sgd",
            f"{RULES}:adam",
            f"{RULES}:_adam",
        ),
        optimizers.reward,
    ),
    8: Lesson(
        "from 98 to 99 %, honestly",
        {
            "dropout": regularisation.check_dropout,
            "split": regularisation.check_split,
            "choose": regularisation.check_choose,
        },
        (f"{FUNCTIONAL}:dropout", "xpnet.training.prepare:held_out"),
    ),
}
