"""The programs that JAX compiles: where they are kept, and that taking them from there changes nothing."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from xpnet.backend import _programs, select

from .test_backend import need

TRAIN = """
import hashlib
import jax
import numpy as np
import xpnet

events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event.rpartition("/")[2]))
rng = np.random.default_rng(0)
split = xpnet.Split(rng.integers(0, 256, (330, 6, 6)).astype(np.uint8), rng.integers(0, 3, 330).astype(np.int32))
data = xpnet.Dataset("noise", split, None, n_classes=3, source="drawn by the test")
config = xpnet.TrainConfig(hidden=(40,), epochs=1, batch_size=32, device="cpu", library="jax", dropout=0.2)
model = xpnet.fit(config.network(36, 3, data.task), data, config, progress=False).model
sums = hashlib.sha256(b"".join(np.asarray(each).tobytes() for each in model.params)).hexdigest()
print(sums, events.count("cache_hits"), events.count("cache_misses"))
"""


def train(cache: Path) -> tuple[str, int, int]:
    """Train in a process with a cache: the parameters' sum, and how many programs were found there, and how many not.

    It complains of nothing.
    """
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "JAX_ENABLE_COMPILATION_CACHE": "on"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    done = subprocess.run([sys.executable, "-c", TRAIN], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    sums, found, missed = done.stdout.split()
    return sums, int(found), int(missed)


def a_jax(folder: str | None = None, enabled: bool = True) -> Any:
    """What of JAX is asked for, with a user's settings."""
    config = SimpleNamespace(jax_compilation_cache_dir=folder, jax_enable_compilation_cache=enabled)
    config.update = lambda name, value: setattr(config, name, value)
    return SimpleNamespace(config=config)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_programs, "user_cache", lambda: tmp_path / "cache")
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", raising=False)
    return tmp_path / "cache"


def test_programs_of_another_process_are_found_and_give_the_same_bits(tmp_path: Path) -> None:
    need("jax")
    with ThreadPoolExecutor(2) as pool:  # which share the cache as they fill it, as a team does
        (sums, _, missed), (beside, _, _) = pool.map(train, [tmp_path, tmp_path])
    assert missed > 0
    again, found, missed = train(tmp_path)
    assert (found >= 3, missed) == (True, 0), "the steps of a call, and those that are left over"
    assert sums == beside == again


def test_keeps_programs_in_the_users_cache(cache: Path) -> None:
    _programs.keep(jax := a_jax())
    folder = Path(jax.config.jax_compilation_cache_dir)
    assert folder.is_dir()
    assert folder.parent == cache / "jax"
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.0


@pytest.mark.parametrize(("folder", "enabled"), [("/elsewhere", True), ("", True), (None, False)])
def test_what_the_user_has_said_of_the_cache_holds(cache: Path, folder: str | None, enabled: bool) -> None:
    _programs.keep(jax := a_jax(folder, enabled))
    assert jax.config.jax_compilation_cache_dir == folder
    assert not cache.exists()


def test_a_shortest_time_that_the_user_has_set_holds(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "5")
    _programs.keep(jax := a_jax())
    assert not hasattr(jax.config, "jax_persistent_cache_min_compile_time_secs")


def test_machines_with_other_cpus_share_no_programs(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = set()
    for cpus in (1, 2):
        monkeypatch.setattr(_programs, "usable_cpus", lambda cpus=cpus: cpus)
        _programs.keep(jax := a_jax())
        folders.add(jax.config.jax_compilation_cache_dir)
    assert len(folders) == 2


def test_a_cache_that_cannot_be_made_is_done_without(cache: Path) -> None:
    cache.write_text("a file in its place")
    _programs.keep(jax := a_jax())
    assert jax.config.jax_compilation_cache_dir is None


def test_a_full_cache_loses_its_older_half(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _programs.keep(jax := a_jax())
    folder = Path(jax.config.jax_compilation_cache_dir)
    for age, name in enumerate("dcba"):
        (folder / name).write_bytes(b"program")
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    (folder / "killed").touch()
    _programs.keep(a_jax())
    assert sorted(entry.name for entry in folder.iterdir()) == ["a", "b", "c", "d"]
    monkeypatch.setattr(_programs, "MOST_BYTES", 27)
    _programs.keep(a_jax())
    assert sorted(entry.name for entry in folder.iterdir()) == ["c", "d"]


def test_compiling_is_counted() -> None:
    need("jax")
    backend = select("cpu", "jax")
    before = backend.compiling_seconds or 0.0
    backend.compile(lambda state, step: [state[0] * 3 + step])([backend.to_device(np.ones(5))], 1.0)
    assert (backend.compiling_seconds or 0.0) > before
    assert select("cpu").compiling_seconds is None


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_take_is_numpys_and_fills_nothing(axis: int) -> None:
    need("jax")
    import jax

    backend = select("cpu", "jax")
    x, indices = np.arange(12.0).reshape(3, 4), np.array([2, 0, -1, 0])

    def take(x: Any, indices: Any) -> Any:
        return backend.xp.take(x, indices, axis=axis)

    found = take(backend.to_device(x), backend.to_device(indices))
    np.testing.assert_array_equal(backend.to_host(found), np.take(x, indices, axis=axis))
    assert "FILL_OR_DROP" not in str(jax.make_jaxpr(take)(x, indices))
    assert "FILL_OR_DROP" in str(jax.make_jaxpr(jax.numpy.take)(x, indices))
