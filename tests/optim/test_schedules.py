"""Learning-rate schedules: against torch's where they exist, by hand elsewhere."""

from typing import Any

import numpy as np
import pytest

from tests.conftest import ArrayLibrary, open_backend
from xpnet.optim import SCHEDULES, constant, cosine, linear, one_cycle, step_decay

N = 40


def torch_rates(scheduler: str, lr: float, **options: Any) -> np.ndarray:
    open_backend("torch")
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedule = getattr(torch.optim.lr_scheduler, scheduler)(optimizer, **options)
    rates = []
    for _ in range(N):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return np.array(rates)


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        (constant(np.arange(N), lr=0.3, n_steps=N), "ConstantLR", {"factor": 1.0, "total_iters": 1}),
        (
            step_decay(np.arange(N), lr=0.3, n_steps=N, decay_steps=7, decay=0.5),
            "StepLR",
            {"step_size": 7, "gamma": 0.5},
        ),
        (linear(np.arange(N), lr=0.3, n_steps=N), "LinearLR", {"start_factor": 1, "end_factor": 0, "total_iters": N}),
        (cosine(np.arange(N), lr=0.3, n_steps=N), "CosineAnnealingLR", {"T_max": N}),
        (one_cycle(np.arange(N), lr=0.3, n_steps=N), "OneCycleLR", {"max_lr": 0.3, "total_steps": N}),
    ],
    ids=["constant", "step", "linear", "cosine", "one-cycle"],
)
def test_against_torch(ours: np.ndarray, theirs: str, options: dict[str, Any]) -> None:
    assert np.allclose(ours, torch_rates(theirs, 0.3, **options), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "step"])
def test_warm_up_climbs_then_runs_the_schedule_over_the_rest(name: str) -> None:
    options = {"decay_steps": 10} if name == "step" else {}
    rates = SCHEDULES[name](np.arange(N), lr=0.5, n_steps=N, warmup=4, **options)
    assert np.allclose(rates[:5], [0.1, 0.2, 0.3, 0.4, 0.5])
    rest = SCHEDULES[name](np.arange(N - 4), lr=0.5, n_steps=N - 4, **options)
    assert np.allclose(rates[4:], rest)


def test_one_cycle_takes_its_climb_from_warmup() -> None:
    rates = one_cycle(np.arange(N), lr=0.5, n_steps=N, warmup=10)
    assert np.argmax(rates) == 9
    assert rates[9] == pytest.approx(0.5)
    assert rates[0] == pytest.approx(0.5 / 25)
    assert rates[-1] == pytest.approx(0.5 / 25e4)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_rate_is_usable(name: str) -> None:
    """Also for runs of one or two steps, and for one step as for a table."""
    options: dict[str, float] = {"decay_steps": 3} if name == "step" else {}
    for n in (1, 2, 3, N):
        for warmup in (0, 1, n):
            rates = SCHEDULES[name](np.arange(n), lr=0.5, n_steps=n, warmup=warmup, **options)
            assert rates.shape == (n,)
            assert np.all((rates > 0) & (rates <= 0.5)), (n, warmup, rates)
    assert (
        SCHEDULES[name](3, lr=0.5, n_steps=N, xp=np, **options)
        == SCHEDULES[name](np.arange(N), lr=0.5, n_steps=N, **options)[3]
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_library_has_the_same_rates(xp: ArrayLibrary, name: str) -> None:
    options: dict[str, float] = {"decay_steps": 3} if name == "step" else {}
    options |= {"lr": 0.5, "n_steps": N, "warmup": 4}
    rates = xp.run(lambda step: SCHEDULES[name](step, xp=xp.xp, **options), xp(np.arange(N)))
    assert np.allclose(xp.numpy(rates), SCHEDULES[name](np.arange(N), **options), rtol=1e-12)
    assert xp.numpy(rates).dtype == np.float64
