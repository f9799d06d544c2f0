"""Update rules for the parameters and schedules for their learning rate: the only room that writes into arrays."""

from .rules import (
    OPTIMIZERS,
    Update,
    accumulate,
    adam,
    adam_eps_hat,
    adamw,
    init_state,
    limit_norms,
    momentum_sgd,
    moving_average,
    nesterov_sgd,
    rescale_velocity,
    rmsprop,
    sgd,
)
from .schedules import SCHEDULES, constant, cosine, linear, one_cycle, step_decay

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "Update",
    "accumulate",
    "adam",
    "adam_eps_hat",
    "adamw",
    "constant",
    "cosine",
    "init_state",
    "limit_norms",
    "linear",
    "momentum_sgd",
    "moving_average",
    "nesterov_sgd",
    "one_cycle",
    "rescale_velocity",
    "rmsprop",
    "sgd",
    "step_decay",
]
