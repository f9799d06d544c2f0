"""What pyproject.toml states of versions, and the files that pin them."""

import re
import tomllib
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS, GROUPS = PROJECT["project"]["optional-dependencies"], PROJECT["dependency-groups"]
TESTED = (
    "plot",
    "tune",
    "postgresql",
    "tensorboard",
    "wandb",
    "mlflow",
    "tables",
    "sklearn",
    "onnx",
    "keras",
    "mpi",
)  # those of .ci/run
TESTED_EXTRAS = [EXTRAS[name] for name in TESTED]


def bounds(requirements: list[str]) -> set[tuple[str, str]]:
    """Names and lower bounds."""
    here = [requirement.partition(";")[0] for requirement in requirements if "== 'win32'" not in requirement]
    found = [re.fullmatch(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", requirement) for requirement in here]
    assert all(found), requirements
    return {(match[1].lower(), match[2]) for match in found if match}


def pins(path: str) -> dict[str, str]:
    lines = [line.strip() for line in (ROOT / path).read_text().splitlines() if line and not line.startswith("#")]
    pairs = [line.split("==") for line in lines]
    assert all(len(pair) == 2 for pair in pairs), lines
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def test_the_lowest_versions_are_those_that_are_stated() -> None:
    stated = [PROJECT["project"]["dependencies"], *TESTED_EXTRAS, GROUPS["test"]]
    assert set(pins("requirements/lowest.txt").items()) == bounds(list(chain(*stated)))


def test_everything_that_ci_installs_is_pinned() -> None:
    """By name and version alone, so that the file serves every index."""
    pinned = pins("requirements/dev.lock")
    groups = [requirement for group in GROUPS.values() for requirement in group if isinstance(requirement, str)]
    stated = chain(PROJECT["project"]["dependencies"], *TESTED_EXTRAS, groups)
    names = {re.split(r"[<>=;[]", each)[0].lower() for each in stated if "== 'win32'" not in each}
    assert names <= set(pinned)
    assert f"torch=={pinned['torch']}" in GROUPS["peers"]


def test_extras_are_for_users() -> None:
    gpus, libraries = {"cuda12", "cuda13"}, {"torch", "jax"}
    assert set(EXTRAS) == gpus | libraries | {*TESTED, "notebook"}
