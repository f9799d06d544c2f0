"""The state of a training run in a file, from which it goes on to the same end as if it had never stopped."""

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

from xpnet.errors import ModelError
from xpnet.files import write_atomically
from xpnet.history import Epoch

__all__ = ["Checkpoint", "read_checkpoint", "write_checkpoint"]

FORMAT = "xpnet checkpoint 1"


class Checkpoint(NamedTuple):
    """A run after an epoch.

    settings : those of its configuration that decide its numbers, as TOML.   n_examples : that it trains on.
    history : its epochs so far.
    arrays : the host copies of all that a step changes, by name.
    """

    settings: str
    n_examples: int
    history: list[Epoch]
    arrays: Mapping[str, NDArray[Any]]

    def differences(self, settings: str) -> list[str]:
        """Names of the settings in which another run's differ from these."""
        own, other = tomllib.loads(self.settings), tomllib.loads(settings)
        return sorted(name for name in own.keys() | other.keys() if own.get(name) != other.get(name))


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all.   Raises OSError."""
    description = {
        "format": FORMAT,
        "settings": checkpoint.settings,
        "n_examples": checkpoint.n_examples,
        "history": [dataclasses.asdict(epoch) for epoch in checkpoint.history],
    }
    write_atomically(path, serialize(dict(checkpoint.arrays), {"xpnet": json.dumps(description)}))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.   Raises ModelError, one line, for a file that is missing, damaged or no checkpoint."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        description = json.loads(metadata.get("xpnet", "{}"))
        if description.get("format") != FORMAT:
            raise ModelError(f"{path} is no checkpoint of this xpnet; name another file")
        history = [Epoch(**epoch) for epoch in description["history"]]
        checkpoint = Checkpoint(description["settings"], int(description["n_examples"]), history, arrays)
        checkpoint.differences(checkpoint.settings)
    except ModelError:
        raise
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path} is damaged or no checkpoint ({error}); name another file, or delete it to train from the start"
        ) from None
    return checkpoint
