"""The state of a training run on the disk, from which it continues to the same end as if it had never stopped.

A run keeps its checkpoints in folders named after the number of steps done: step-000000938 and so on. Each holds

    arrays.safetensors   everything that a step changes and, with a validation split, the best epoch's parameters
    state.json           everything else
    manifest.json        the length and the SHA-256 of these two

and has another name until all of it is on the disk. Files that are read are assumed to be hostile: sizes are checked
before memory is requested, checksums before anything is parsed, and parsed values against those that a run can have.
"""

import functools
import hashlib
import json
import logging
import math
import platform
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import load as deserialize
from safetensors.numpy import save as serialize

from xpnet._version import __version__
from xpnet.backend import Backend
from xpnet.distributed import computes_with, differences
from xpnet.errors import ConfigError, ModelError
from xpnet.files import parse_toml, read_whole, remove, write_folder
from xpnet.platforms import usable_cpus
from xpnet.training.config import CLIP_NORM, TrainConfig
from xpnet.training.history import Epoch
from xpnet.training.loop import Loop, computing
from xpnet.training.run import Run

__all__ = [
    "Checkpoint",
    "checkpoints",
    "compose",
    "continue_from",
    "newest_checkpoint",
    "prune",
    "read_checkpoint",
    "restore",
    "rounding",
    "versions",
    "write_checkpoint",
]

Arrays = list[Any]

logger = logging.getLogger("xpnet")

FORMAT = "xpnet checkpoint 2"
ARRAYS, STATE, MANIFEST = "arrays.safetensors", "state.json", "manifest.json"

# Bytes; 64 MiB are the history of 200,000 epochs.
MOST_ARRAYS, MOST_HEADER, MOST_STATE, MOST_MANIFEST, MOST_SETTINGS = 1 << 33, 1 << 20, 1 << 26, 1 << 12, 1 << 16

# What a checkpoint holds besides the state of the loop: the best epoch's model, with a validation split, and the newest
# finished epoch's, within an epoch.
BEST, FINISHED = "best", "finished"


class Checkpoint(NamedTuple):
    """A run between two steps.

    settings : its resolved configuration, as TOML; the seed is one of them.
    data : name, sha256 (see prepare.fingerprint) and number of examples of its training data.
    streamed : whether the examples came to the device window by window, which decides their order.
    history : its finished epochs.   done : steps of the epoch after them.   seconds : that these took.
    rollbacks : the steps from which the learning rate was halved, one for each time.
    arrays : host copies of everything that a step changes, by name; its "step" is the position in the schedule and the
        counter of all random draws. With a validation split also the best epoch's parameters, best.0, best.1, ...;
        within an epoch those of the epoch before it, finished.0, finished.1, ...
    versions : of xpnet, Python and the libraries that it was trained with; in shards also what `rounding` names.
    """

    settings: str
    data: Mapping[str, Any]
    streamed: bool
    history: list[Epoch]
    done: int
    seconds: float
    rollbacks: list[int]
    arrays: Mapping[str, NDArray[Any]]
    versions: Mapping[str, str] = {}

    @property
    def step(self) -> int:
        """Steps done since the start of the run."""
        return int(self.arrays["step"][0])

    @property
    def where(self) -> str:
        """The place in the run, in words."""
        n = len(self.history)
        return f"epoch {n + 1}, step {self.done}" if self.done else f"epoch {n}" if n else "the start"


# --- composing -------------------------------------------------------------------------------------------------------


def compose(run: Run, loop: Loop, done: int, seconds: float) -> Checkpoint:
    """The state of a run after some steps of an epoch, which took so many seconds."""
    arrays = loop.arrays()
    if done:
        params, others = (
            [a for name, a in arrays.items() if name.partition(".")[0] in names]
            for names in (("params",), ("running", "average"))
        )
        run.check_finite(done, int(arrays["healthy"][0]), params, others)
        arrays |= _numbered(FINISHED, [*run.params, *run.running])
    if run.best is not None:
        arrays |= _numbered(BEST, [*run.best[0], *run.best[1]])
    return Checkpoint(
        settings=_settings(run.config),
        data={"name": run.config.data, "sha256": run.fingerprint(), "examples": run.n_examples},
        streamed=loop.streamed,
        history=list(run.history),
        done=done,
        seconds=seconds,
        rollbacks=list(run.rollbacks),
        arrays=arrays,
        versions=versions(run.backend) | (rounding(run.backend) if run.shards > 1 else {}),
    )


def _numbered(name: str, arrays: list[Any]) -> dict[str, Any]:
    return {f"{name}.{i}": array for i, array in enumerate(arrays)}


@functools.lru_cache(1)
def _settings(config: TrainConfig) -> str:
    return config.to_toml()  # takes as long as a step


def versions(backend: Backend) -> dict[str, str]:
    """The versions of all that decides a result, as a checkpoint keeps them."""
    own = {"xpnet": __version__, "python": platform.python_version(), "numpy": np.__version__}
    return {**own, "safetensors": safetensors.__version__, backend.name: backend.version}


def rounding(backend: Backend) -> dict[str, str]:
    """What decides the last bits of what is computed, besides versions, while it computes."""
    found = computes_with() | {"device": backend.device if backend.device == "cpu" else backend.description}
    if backend.name == "jax":  # which splits its work by them
        found["number of cores"] = usable_cpus()
    return {name: str(value) for name, value in found.items()}


# --- writing ---------------------------------------------------------------------------------------------------------


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint into the folder of a run's checkpoints, completely or not at all.   Raises OSError."""
    state = {"format": FORMAT, "step": checkpoint.step, **checkpoint._asdict()}
    del state["arrays"]
    state["history"] = [vars(epoch) for epoch in checkpoint.history]
    contents = {
        ARRAYS: serialize(dict(checkpoint.arrays)),
        STATE: json.dumps(state, indent=1).encode(),
    }
    sums = {name: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in contents.items()}
    contents[MANIFEST] = json.dumps({"format": FORMAT, "files": sums}, indent=1).encode()
    folder.mkdir(parents=True, exist_ok=True)
    write_folder(folder / f"step-{checkpoint.step:09d}", contents)


def prune(folder: Path, step: int, newest: int, best: int | None) -> None:
    """Remove the checkpoints before a step except the newest few, its own among them, and the best.

    Later ones, from which the run did not continue because they are damaged, stay until it gets there.
    Raises OSError.
    """
    found = {each: path for each, path in checkpoints(folder).items() if each <= step}
    for each in sorted(found)[:-newest]:
        if each != best:
            remove(found[each])


def checkpoints(folder: Path) -> dict[int, Path]:
    """The folders of a run's checkpoints, intact or not, by the number of steps done.   Raises OSError."""
    if not folder.is_dir():
        return {}
    named = ((re.fullmatch(r"step-(\d{1,18})", path.name), path) for path in folder.iterdir())
    return {int(match[1]): path for match, path in named if match}


# --- reading ---------------------------------------------------------------------------------------------------------


def newest_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest intact checkpoint of a run, or None, and a message about each newer one."""
    faults: list[str] = []
    try:
        found = checkpoints(folder)
    except OSError as error:
        return None, [f"cannot read {folder}: {error.strerror or error}"]
    for step in sorted(found, reverse=True):
        try:
            checkpoint = read_checkpoint(found[step])
            if checkpoint.step != step:
                raise ModelError(f"{found[step]} is damaged: it is the state after {checkpoint.step} steps")
            return checkpoint, faults
        except ModelError as error:
            faults.append(str(error))
    return None, faults


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint.

    folder : of the one checkpoint.
    Raises ModelError if it is missing, damaged or not a checkpoint.
    """
    try:
        # Decoded here, since json would take UTF-16 and UTF-32 as well.
        manifest = json.loads(read_whole(folder / MANIFEST, MOST_MANIFEST).decode())
        if manifest["format"] != FORMAT:
            raise ValueError(f"{MANIFEST} has another format than {FORMAT!r}, which this xpnet reads")
        state = json.loads(_proven(folder / STATE, manifest, MOST_STATE).decode())
        arrays = _proven(folder / ARRAYS, manifest, MOST_ARRAYS)
        if int.from_bytes(arrays[:8], "little") > MOST_HEADER:
            raise ValueError(f"the header of {ARRAYS} is too long")
        return _checkpoint(state, deserialize(arrays))
    except OSError as error:
        raise ModelError(f"{error.filename or folder} cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise
    except Exception as error:  # among others, of safetensors, and of a dtype that NumPy lacks
        raise ModelError(f"{folder} is damaged: {error}") from None


def _proven(path: Path, manifest: dict[str, Any], most: int) -> bytes:
    """The content of a file, if it matches the manifest."""
    declared = manifest["files"][path.name]
    content = read_whole(path, most)
    if len(content) != declared["bytes"]:
        raise ValueError(f"{path.name} has {len(content)} bytes, but the manifest says {declared['bytes']}")
    if hashlib.sha256(content).hexdigest() != declared["sha256"]:
        raise ValueError(f"the SHA-256 of {path.name} differs from the manifest's")
    return content


def _checkpoint(state: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Checkpoint:
    """A checkpoint from the contents of its files.   Raises any exception if it cannot be one."""
    history = [Epoch(**_figures(epoch)) for epoch in state["history"]]
    whole = (state["format"], *(type(state[name]) for name in ("settings", "data", "streamed", "done", "rollbacks")))
    data = tuple(type(state["data"][name]) for name in ("name", "sha256", "examples"))
    step = arrays["step"]
    fine = (
        (whole, data) == ((FORMAT, str, dict, bool, int, list), (str, str, int))
        and [epoch.epoch for epoch in history] == list(range(1, len(history) + 1))
        and step.shape == (1,)
        and step.dtype == np.int64
        and 0 <= state["done"] <= step[0] == state["step"]
        and all(type(step) is int and step >= 0 for step in state["rollbacks"])
        and math.isfinite(state["seconds"])
        and state["seconds"] >= 0
        and all(isinstance(text, str) for text in state["versions"].values())
        and len(state["settings"]) <= MOST_SETTINGS
    )
    if not fine:
        raise ValueError(f"{STATE} describes an impossible state")
    parse_toml(state["settings"], "its table of settings")
    names = (name for name in Checkpoint._fields if name not in ("history", "arrays"))
    return Checkpoint(**{name: state[name] for name in names}, history=history, arrays=arrays)


def _figures(epoch: Any) -> dict[str, Any]:
    """The figures of an epoch, all of them numbers.   Raises TypeError."""
    for name, value in epoch.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise TypeError(f"{name} of an epoch is {value!r}, not a number")
        if name == "epoch" and not isinstance(value, int):
            raise TypeError(f"{name} is {value!r}, not a whole number")
    return dict(epoch)


# --- continuing ------------------------------------------------------------------------------------------------------


def continue_from(run: Run, checkpoint: Checkpoint) -> None:
    """Bring a run that has not begun to where a checkpoint was made.

    Raises ConfigError, with the differences, if the checkpoint is of another run; ModelError if it is damaged.
    """
    # Before the settings, some of which the data decide.
    if checkpoint.data["sha256"] != run.fingerprint():
        raise ConfigError(
            f"the run was trained on other data{' or by other teachers' * bool(run.teachers)}: "
            f"{checkpoint.data['name']}, {checkpoint.data['examples']} training examples, SHA-256 "
            f"{checkpoint.data['sha256'][:12]}; this is {run.config.data}, {run.n_examples} examples, "
            f"{run.fingerprint()[:12]}: resume with the same, or start a new run"
        )
    own, theirs = (
        tomllib.loads(c.located().deciding().to_toml())
        for c in (run.config, TrainConfig().replace(**tomllib.loads(checkpoint.settings)))
    )
    # The loss mse was not clipped unless one asked for it; a run that began so ends so.
    if run.network.loss == "mse" and "clip_norm" not in theirs and own.get("clip_norm") == CLIP_NORM:
        logger.info("gradients are not clipped, since the run began without")
        run.config = run.config.replace(clip_norm=None)
        del own["clip_norm"]
    # Of data, the content counts; more epochs may be added, and what is to be done when they fail.
    different = sorted(n for n in {*own, *theirs} - {"data", "epochs", "on_nonfinite"} if own.get(n) != theirs.get(n))
    if different:
        pairs = ", and ".join(f"{name} {theirs.get(name, 'unset')}, not {own.get(name, 'unset')}" for name in different)
        raise ConfigError(f"resumed runs keep their settings, and this one has {pairs}; start a new run to change them")
    if run.epochs < len(checkpoint.history):
        message = f"epochs must be at least {len(checkpoint.history)}, the number already finished"
        raise ConfigError(message, setting="epochs")
    if divmod(checkpoint.step, run.n_steps) != (len(checkpoint.history), checkpoint.done):
        raise ModelError(f"the checkpoint after {checkpoint.step} steps is damaged: it does not fit this run")
    run.checkpoint, run.history[:] = checkpoint, checkpoint.history
    for step in checkpoint.rollbacks:
        run.halve_rates(step)
    if run.shards > 1 and run.team.rank == 0:
        _warn_of_other_bits(run, checkpoint)


def _warn_of_other_bits(run: Run, checkpoint: Checkpoint) -> None:
    """What a run in shards promises, whichever processes train it, needs machines of one kind."""
    with computing(run):
        here = {name: value for name, value in rounding(run.backend).items() if name in checkpoint.versions}
    there = {name: checkpoint.versions[name] for name in here}
    if other := differences([("the checkpoint", there), ("this process", here)]):
        logger.warning("%s: the bits of the result may differ from those of a run never stopped", "; ".join(other))


def restore(run: Run, loop: Loop, checkpoint: Checkpoint) -> None:
    """Bring a run to where a checkpoint of it was made.   Raises ModelError if the checkpoint does not fit it."""

    def model(name: str) -> tuple[Arrays, Arrays] | None:
        if f"{name}.0" not in checkpoint.arrays:
            return None
        arrays = [checkpoint.arrays[each] for each in _numbered(name, own)]
        if [a.shape for a in arrays] != [a.shape for a in own]:
            raise ValueError(f"its arrays {name} do not fit this run")
        return arrays[: len(run.params)], arrays[len(run.params) :]

    own = [*run.params, *run.running]
    try:
        loop.resume(checkpoint.arrays)
        run.params, run.running = model(FINISHED) or loop.model_on_host()
        best = model(BEST)
    except (KeyError, ValueError) as error:
        raise ModelError(f"the checkpoint of {checkpoint.where} is damaged: {error}") from None
    del run.history[len(checkpoint.history) :]
    run.model_epoch, run.done, run.best = len(run.history), checkpoint.done, None
    run.best = None if best is None or run.best_epoch is None else (*best, run.best_epoch)
