"""Files are whole whatever fails while they are written; locks end with their process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.promises.faults import CALLS, Faults
from xpnet import files, platforms
from xpnet.errors import InUseError
from xpnet.files import locks, writing

SPARES = pytest.mark.skipif(sys.platform == "win32", reason="Windows flushes no folders")


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults(monkeypatch)


def write_file(path: Path, content: bytes) -> None:
    files.write_atomically(path, content)


def write_folder(path: Path, content: bytes) -> None:
    files.write_folder(path, {"a": content, "b": content[:1]})


def content_of(path: Path) -> Any:
    return {file.name: file.read_bytes() for file in path.iterdir()} if path.is_dir() else path.read_bytes()


def test_places_where_no_file_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: 'nowhere.x'$"):
        files.write_atomically(Path("nowhere/x"), b"")
    with pytest.raises(IsADirectoryError, match=r"Is a directory: '\.'$"):
        files.write_atomically(Path(), b"")


@pytest.mark.parametrize("write", [write_file, write_folder])
@pytest.mark.parametrize("code", ["ENOSPC", "EIO"])
def test_each_call_that_fails_leaves_the_old_content_or_the_new(
    tmp_path: Path, faults: Faults, write: Callable[[Path, bytes], None], code: str
) -> None:
    path = tmp_path / "name"
    write(path, b"old")
    old = content_of(path)
    with faults.counting() as calls:
        write(path, b"new!")
    new = content_of(path)
    assert {"write", "fsync", "replace"} <= set(calls)
    told: list[str] = []
    for number, call in enumerate(calls):
        write(path, b"old")
        with faults.failing(number, code):
            try:
                write(path, b"new!")
            except OSError as error:
                told.append(str(error))
        found = content_of(path) if path.exists() else None
        # A folder is not replaced in one call: between two there may be none, but never a part of one.
        assert found in (old, new, *([None] if write is write_folder else [])), call
        files.sweep(tmp_path, "name")
        assert {p.name for p in tmp_path.iterdir()} <= {"name"}
    assert all(str(path) in line for line in told)
    assert len(told) >= len(calls) - calls.count("unlink") - calls.count("rmdir") - calls.count("close")


@SPARES
@pytest.mark.parametrize("write", [write_file, write_folder])
def test_all_is_flushed_before_it_is_renamed_and_the_name_after(
    tmp_path: Path, faults: Faults, write: Callable[[Path, bytes], None]
) -> None:
    with faults.counting() as calls:
        write(tmp_path / "name", b"new")
    kept = [call for call in calls if call in ("write", "fsync", "replace")]
    if write is write_file:
        assert kept == ["write", "fsync", "replace", "fsync"]
        return
    parts = ["write", "fsync", "write", "fsync", "fsync"]  # two files, and the folder that names them
    assert kept == [*parts, "replace", "fsync"]
    with faults.counting() as calls:
        write(tmp_path / "name", b"newer")
    assert [call for call in calls if call in kept] == [*parts, "replace", "replace", "fsync"], "the old one goes first"


@pytest.mark.parametrize("write", [write_file, write_folder])
def test_what_a_killed_process_left_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, bytes], None]
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(writing, "move_into_place", lambda *_: None)
        killed.setattr(writing, "_delete", lambda *_: None)
        write(tmp_path / "model.safetensors", b"half")
    (left,) = tmp_path.iterdir()
    files.sweep(tmp_path, r"other|model")
    assert left.exists()
    files.sweep(tmp_path, r"other|model.safetensors")
    files.sweep(tmp_path / "missing", ".*")
    assert not list(tmp_path.iterdir())


def test_nothing_of_anybody_else_s_is_swept(tmp_path: Path, small_data: xpnet.Dataset) -> None:
    """A run directory may be any folder, one's home for instance; that of the checkpoints is swept on resuming."""
    theirs: tuple[str, ...] = (
        ".x.tmp",
        ".foo.txt.1234abcd.tmp",
        ".model.safetensors.tmp",
        ".model.safetensors.0A1B2C3D.tmp",
    )
    theirs += (".model.safetensors.0a1b2c3d9.tmp", "model.safetensors.0a1b2c3d.tmp", ".model.safetensors.0a1b2c3d")
    for name in theirs:
        (tmp_path / name).write_bytes(b"theirs")
    for name in (".cache.tmp", ".foo.1234abcd.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"theirs")
    before = sorted(tmp_path.rglob("*"))
    ours = (".model.safetensors.0a1b2c3d.tmp", ".checkpoints.01234567.tmp")
    for name in ours:
        (tmp_path / name).mkdir()
    xpnet.fit(xpnet.MLP((36, 3)), small_data, epochs=1, device="cpu", out=tmp_path, progress=False)
    after = set(tmp_path.rglob("*"))
    assert set(before) <= after
    assert not {tmp_path / name for name in ours} & after
    theirs_too = tmp_path / "checkpoints" / ".model.safetensors.0a1b2c3d.tmp"
    theirs_too.mkdir()
    ours_too = tmp_path / "checkpoints" / ".step-000000001.89abcdef.tmp"
    ours_too.mkdir()
    xpnet.fit(xpnet.MLP((36, 3)), small_data, epochs=2, device="cpu", out=tmp_path, resume=True, progress=False)
    assert {*before, theirs_too} <= set(tmp_path.rglob("*"))
    assert not ours_too.exists()


def test_faults_fail() -> None:
    """The checks above see something: every call that they count is one of the system's."""
    assert {name for name in CALLS if not hasattr(os, name)} == set()


# --- digests ---------------------------------------------------------------------------------------------------------


def test_the_digests_that_model_files_and_studies_on_disk_carry() -> None:
    arrays: list[np.ndarray] = [np.arange(6, dtype=np.float32).reshape(2, 3).T, np.zeros((0, 2), np.int64), np.ones(1)]
    assert files.sha256_of(arrays) == "46e3b561f4095366b60e74b51847b270c4988f5b89e6a413c04ceba0e1dbc88f"
    assert (
        files.sha256_of(arrays, b'{"a": "x", "b": 1}')
        == "64ae60de1866e592272bbdd2a300960aa9d3d27b4d6d68a24f218fe563b87ecc"
    )


# --- locks -----------------------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from xpnet.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds tmp_path / "lock" until its stdin ends."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    environment = os.environ | {"PYTHONPATH": str(Path(files.__file__).parents[2])}
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_lock_is_refused_with_the_name_of_its_holder(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    with (
        pytest.raises(InUseError, match=rf"^process {other.pid} on .+, since \d+"),
        files.locked(tmp_path / "lock"),
    ):
        pass
    assert other.communicate("")[0] == ""
    with files.locked(tmp_path / "lock"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_s_living_holder_is_known_without_taking_it(
    tmp_path: Path, other: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    assert files.holder_of(tmp_path / "none") is None
    assert str(files.holder_of(path)).startswith(f"process {other.pid} on ")
    about = json.loads(path.read_text())
    for host in (about["host"], "elsewhere"):  # of another machine's processes, only the lock tells
        path.write_text(json.dumps(about | {"host": host}))
        assert files.holder_of(path) is not None
    other.kill()
    other.wait()
    path.write_text(json.dumps(about))
    with monkeypatch.context() as patch:  # which would get in the way of a process that wants the lock just then
        patch.setattr(locks, "try_lock", lambda *_, **__: pytest.fail("the lock of a dead process was tried"))
        assert files.holder_of(path) is None
    path.write_text(json.dumps(about | {"pid": os.getpid()}))
    assert files.holder_of(path) is None, "a living process that does not hold it"
    for content in ("", "{}", '{"host": 3, "pid": []}', "[" * 900, f'{{"host": "x", "pid": 1{"0" * 400}}}'):
        path.write_text(content)
        assert files.holder_of(path) is None
    with files.locked(path):
        pass


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    other.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    other.wait()
    assert (tmp_path / "lock").exists()
    with files.locked(tmp_path / "lock"):
        pass


def test_whoever_waits_gets_it_in_the_end(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    told: list[str] = []

    def waiting(holder: str) -> None:
        told.append(holder)
        assert other.stdin is not None
        other.stdin.close()

    with files.locked(tmp_path / "lock", waiting):
        assert other.wait() == 0
    assert len(told) == 1


@pytest.mark.parametrize("content", [b"", b"nonsense", b"[]", b"{}", b'{"pid": "x"}', bytes(range(256))])
def test_a_lock_file_of_any_content_is_free_unless_it_is_held(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lock").write_bytes(content)
    assert locks._holder(tmp_path / "lock") == "another process"
    with files.locked(tmp_path / "lock"):
        assert locks._holder(tmp_path / "lock").startswith(f"process {os.getpid()} on ")


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two would hold one lock: one on the file that is there, one on the file that is gone."""
    path, try_lock, tries = tmp_path / "lock", platforms.try_lock, []

    def removed_first(descriptor: int) -> bool:
        tries.append(descriptor)
        if len(tries) == 1:
            path.unlink()
        return try_lock(descriptor)

    monkeypatch.setattr(locks, "try_lock", removed_first)
    with files.locked(path):
        assert len(tries) == 2
        assert path.exists()
