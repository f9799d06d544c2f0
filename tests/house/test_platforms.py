"""What differs between the systems: each branch is run here, with substitutes for the others' functions; and that no
other file of the package has a branch of its own.

That no function is used which Windows or macOS lacks, mypy sees too, since it checks the package for all three in CI.
"""

import ast
import contextlib
import ctypes
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import xpnet
from xpnet import platforms
from xpnet.errors import InUseError
from xpnet.files import holder_of, locked

PACKAGE = Path(xpnet.__file__).parent

# Modules and functions that one of the systems lacks, or which do something else there.
MODULES = {
    *("fcntl", "grp", "msvcrt", "nt", "posix", "pty", "pwd", "readline", "resource", "shlex", "syslog", "termios"),
    *("tty", "winreg", "winsound", "_winapi"),
}
FUNCTIONS = {
    "os": {
        *("confstr", "fork", "forkpty", "fsync", "getpgid", "getuid", "geteuid", "getgid", "getloadavg", "getpriority"),
        *("kill", "killpg", "mkfifo", "mknod", "name", "nice", "openpty", "posix_fadvise", "pread", "pwrite", "rename"),
        *("replace", "sched_getaffinity", "sched_setaffinity", "sendfile", "setsid", "startfile", "statvfs", "sync"),
        *("sysconf", "uname", "wait", "wait3", "wait4", "waitpid", "O_BINARY", "O_DIRECTORY", "O_NOFOLLOW"),
        *("O_NONBLOCK", "O_TEXT", "chown", "fchmod", "fchown", "getgroups", "initgroups", "lchown", "setuid", "umask"),
    },
    "signal": {
        *(
            "alarm",
            "pause",
            "setitimer",
            "sigwait",
            "CTRL_BREAK_EVENT",
            "CTRL_C_EVENT",
            "SIGALRM",
            "SIGBREAK",
            "SIGHUP",
        ),
        *("SIGKILL", "SIGPIPE", "SIGUSR1", "SIGUSR2", "pthread_kill", "set_wakeup_fd"),
    },
    "sys": {"platform", "getwindowsversion"},
    "platform": {"system", "win32_ver", "mac_ver", "libc_ver"},
    "ctypes": {"windll", "oledll", "WinDLL"},
    "select": {"poll", "epoll", "kqueue"},
    "socket": {"AF_UNIX"},
    "time": {"tzset", "clock_gettime"},
}
FOLDERS = ("/proc/", "/dev/", "/sys/", "/tmp", "/etc/", "/var/")


def used(source: str) -> list[str]:
    """What a program uses that one of the systems lacks, with the lines."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names if each.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module = (node.module or "").partition(".")[0]
            lacking = FUNCTIONS.get(module, set())
            names = [f"{module}.{each.name}" for each in node.names if module in MODULES or each.name in lacking]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = [ast.unparse(node)] if node.attr in FUNCTIONS.get(node.value.id, ()) else []
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr") and len(node.args) > 1:
            module, name = ast.unparse(node.args[0]), node.args[1]
            names = [ast.unparse(node)] if module in ("os", "signal") and isinstance(name, ast.Constant) else []
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value] if node.value.startswith(FOLDERS) else []
        found += [f"line {getattr(node, 'lineno', 0)}: {name}" for name in names]
    return found


def test_only_one_file_differs_between_systems() -> None:
    paths = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    found = {name: used(path.read_text(encoding="utf-8")) for name, path in paths.items()}
    assert len(found.pop("platforms.py")) > 20
    assert {name: names for name, names in found.items() if names} == {}
    # The measurements share one, too.
    for path in sorted((PACKAGE.parent / "bench").glob("*.py")):
        assert path.name == "_common.py" or used(path.read_text(encoding="utf-8")) == [], path


def test_the_search_finds_what_it_is_for() -> None:
    source = """
import fcntl, os.path
from signal import SIGKILL, SIGINT
from . import resource
if sys.platform == "win32" or hasattr(os, "fork"):
    os.kill(1, 9), self.os.path, os.open("/dev/null", getattr(os, "O_BINARY", 0))
"""
    assert sorted(each.partition(": ")[2] for each in used(source)) == [
        *("/dev/null", "fcntl", "getattr(os, 'O_BINARY', 0)", "hasattr(os, 'fork')", "os.kill", "signal.SIGKILL"),
        "sys.platform",
    ]


@pytest.fixture(params=["linux", "darwin", "win32"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each system in turn."""
    play(request.param, monkeypatch)
    return str(request.param)


def play(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Play a system."""
    monkeypatch.setattr(sys, "platform", name)


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lacking", ["O_BINARY", "O_NONBLOCK"])
def test_files_are_opened_without_waiting_and_as_bytes(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the flags that the system has."""
    opened = []
    for name, value in (("O_BINARY", 1 << 15), ("O_NONBLOCK", 1 << 11)):
        monkeypatch.setattr(os, name, value, raising=False)
    monkeypatch.delattr(os, lacking)
    monkeypatch.setattr(os, "open", lambda path, flags, mode: opened.append((path, flags)))
    platforms.open_descriptor("file", os.O_RDONLY)
    assert opened == [("file", 1 << (11 if lacking == "O_BINARY" else 15))]


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The descriptors that are flushed from now on; those by macOS's own means in a tuple."""
    calls: list[object] = []

    def control(descriptor: int, command: int) -> None:
        assert command == 51
        calls.append((descriptor,))

    monkeypatch.setitem(sys.modules, "fcntl", SimpleNamespace(fcntl=control, F_FULLFSYNC=51))
    monkeypatch.setattr(os, "fsync", calls.append)
    return calls


def test_content_is_flushed_to_the_disk(system: str, flushed: list[object]) -> None:
    platforms.flush_content(7)
    assert flushed == [(7,) if system == "darwin" else 7]


def test_macs_whose_file_system_lacks_its_own_means_use_the_usual_one(
    flushed: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    play("darwin", monkeypatch)
    monkeypatch.setattr("fcntl.fcntl", refuse)
    platforms.flush_content(7)
    assert flushed == [7]


def test_names_are_flushed_where_the_system_can(system: str, flushed: list[object], tmp_path: Path) -> None:
    platforms.flush_names(tmp_path)
    assert len(flushed) == (0 if system == "win32" else 1)


@pytest.mark.parametrize(("error", "raised"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_names_need_no_flush_where_a_file_system_has_none(
    error: int, raised: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(error, os.strerror(error))

    play("linux", monkeypatch)
    monkeypatch.setattr(os, "fsync", refuse)
    if raised:
        with pytest.raises(OSError, match=os.strerror(error)):
            platforms.flush_names(tmp_path)
    else:
        platforms.flush_names(tmp_path)


@pytest.mark.parametrize("refused", [0, 2, 1_000_000])
def test_windows_waits_for_those_who_read_what_is_replaced(
    refused: int, system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    replace = os.replace

    def busy(source: Path, target: Path) -> None:
        tried.append(len(tried))
        if len(tried) <= refused:
            raise PermissionError(errno.EACCES, "used by another process", str(source))
        replace(source, target)

    clock = iter(range(1_000_000))
    monkeypatch.setattr(platforms, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda seconds: None))
    monkeypatch.setattr(os, "replace", busy)
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "file").write_bytes(b"old")
    if refused == 0 or (system == "win32" and refused == 2):
        platforms.replace(tmp_path / "new", tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == b"new"
        assert len(tried) == refused + 1
    else:
        with pytest.raises(PermissionError):
            platforms.replace(tmp_path / "new", tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == b"old"
        assert len(tried) == (int(platforms._PATIENCE) if system == "win32" else 1)


class Msvcrt:
    """Windows's locks on bytes of a file, each held through one descriptor."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        self.held: dict[tuple[int, int], int] = {}

    def locking(self, descriptor: int, mode: int, n: int) -> None:
        assert (mode, n) == (self.LK_NBLCK, 1)
        byte = (os.fstat(descriptor).st_ino, os.lseek(descriptor, 0, os.SEEK_CUR))
        assert byte[1] > os.fstat(descriptor).st_size, "it is part of the content, which nobody else could read"
        if self.is_held(byte[0]) and self.held[byte] != descriptor:
            raise PermissionError(errno.EACCES, "Permission denied")
        self.held[byte] = descriptor

    def is_held(self, file: int) -> bool:
        """Whether a byte of a file is locked through a descriptor that is still open."""
        with contextlib.suppress(OSError):
            return any(file == held and os.fstat(by).st_ino == file for (held, _), by in self.held.items())
        return False


def test_windows_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play("win32", monkeypatch)
    monkeypatch.setitem(sys.modules, "msvcrt", Msvcrt())
    (tmp_path / "lock").write_bytes(b"content")
    with open(tmp_path / "lock", "r+b", buffering=0) as first, open(tmp_path / "lock", "rb", buffering=0) as second:
        assert first.read(3) == b"con"
        assert platforms.try_lock(first.fileno())
        assert first.read() == b"tent", "the place in the file has changed"
        assert not platforms.try_lock(second.fileno())
        assert not platforms.try_lock(second.fileno(), shared=True)


def test_one_process_at_a_time_holds_a_lock_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody can remove a file that is open."""
    play("win32", monkeypatch)
    windows, unlink = Msvcrt(), os.unlink

    def refuse_open(path: Path) -> None:
        if windows.is_held(os.stat(path).st_ino):
            raise PermissionError(errno.EACCES, "used by another process", str(path))
        unlink(path)

    monkeypatch.setitem(sys.modules, "msvcrt", windows)
    monkeypatch.setattr(os, "unlink", refuse_open)
    path = tmp_path / "lock"
    for _ in range(2):
        with locked(path):
            assert str(holder_of(path)).startswith(f"process {os.getpid()} on ")
            with pytest.raises(InUseError, match=f"process {os.getpid()} on "), locked(path):
                pass
        assert holder_of(path) is None
        assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
def test_locks_elsewhere(tmp_path: Path) -> None:
    with open(tmp_path / "lock", "wb") as first, open(tmp_path / "lock", "rb") as second:
        assert platforms.try_lock(first.fileno(), shared=True)
        assert platforms.try_lock(second.fileno(), shared=True)
        assert not platforms.try_lock(first.fileno())
        second.close()
        assert platforms.try_lock(first.fileno())


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOTSUP])
def test_file_systems_without_locks_raise(error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(error, os.strerror(error))

    play("linux", monkeypatch)
    monkeypatch.setitem(sys.modules, "fcntl", SimpleNamespace(flock=refuse, LOCK_EX=2, LOCK_NB=4))
    with pytest.raises(OSError, match=os.strerror(error)):
        platforms.try_lock(0)


# Processes, memory and CPUs -------------------------------------------------------------------------------------------


def test_processes_are_asked_whether_they_run(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But on Windows, where the question would end them."""
    asked: list[int] = []

    def kill(pid: int, number: int) -> None:
        assert number == 0
        asked.append(pid)
        if pid < 3:
            raise (PermissionError if pid == 1 else ProcessLookupError)

    monkeypatch.setattr(os, "kill", kill)
    assert [platforms.is_running(pid) for pid in (1, 2, 3)] == [True, system == "win32", True]
    assert asked == ([] if system == "win32" else [1, 2, 3])


def test_what_ends_a_process(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "SIGBREAK", 21, raising=False)
    expected = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    assert platforms.ending_signals() == expected | ({21: signal.SIG_DFL} if system == "win32" else {})


def test_cpus(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert platforms.usable_cpus() == (2 if system == "linux" else 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert platforms.usable_cpus() == (2 if system == "linux" else 8)
    assert platforms.cpus() == ({0, 3} if system == "linux" else set(range(8)))


def test_a_cpu_is_yielded(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(os, "sched_yield", lambda: calls.append("yield"), raising=False)
    monkeypatch.setattr("xpnet.platforms.time.sleep", lambda seconds: calls.append(f"sleep {seconds}"))
    platforms.yield_cpu()
    assert calls == ["sleep 0" if system == "win32" else "yield"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not say")
def test_what_is_unread_in_a_pipe() -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, b"abc")
        assert platforms.unread(writer) == 3
        os.read(reader, 3)
        assert platforms.unread(writer) == 0
    finally:
        os.close(reader)
        os.close(writer)
    assert platforms.unread(writer) == 0  # closed
    with open(__file__) as file:
        assert platforms.unread(file.fileno()) == 0


def test_memory(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**20}
    answers = True

    def status(pointer: Any) -> int:
        content = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_uint32))
        assert content[0] == 64, "Windows refuses a structure that doesn't begin with its size"
        ctypes.cast(pointer, ctypes.POINTER(ctypes.c_uint64))[1] = 2**33
        return answers

    def sysconf(name: str) -> int:
        if not answers:
            raise ValueError("unrecognized configuration name")
        return told[name]

    monkeypatch.setattr(os, "sysconf", sysconf, raising=False)
    kernel32 = SimpleNamespace(GlobalMemoryStatusEx=status)
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel32), raising=False)
    assert platforms.physical_memory() == (2**33 if system == "win32" else 2**32)
    answers = False
    assert platforms.physical_memory() is None


def recorded_mallopt(monkeypatch: pytest.MonkeyPatch, libc_version: Callable[[str], str | None]) -> dict[int, int]:
    settings: dict[int, int] = {}
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=settings.__setitem__))
    monkeypatch.setattr(os, "confstr", libc_version, raising=False)
    platforms.keep_freed_memory.__wrapped__()
    return settings


def test_glibc_is_told_to_keep_freed_memory(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = recorded_mallopt(monkeypatch, lambda name: "glibc 2.36")
    assert settings == ({-3: 32 * 2**20, -1: 128 * 2**20} if system == "linux" else {})


def unknown_name(name: str) -> str:
    raise ValueError("unrecognized configuration name")


@pytest.mark.parametrize("answer", [unknown_name, lambda name: None, lambda name: ""], ids=["unknown", "None", "musl"])
def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], str | None]) -> None:
    play("linux", monkeypatch)
    assert recorded_mallopt(monkeypatch, answer) == {}


# Terminals and desktops -----------------------------------------------------------------------------------------------


def test_names_are_quoted_for_the_shell(system: str) -> None:
    quote = '"' if system == "win32" else "'"
    assert platforms.quoted("runs/one") == "runs/one"
    assert platforms.quoted(Path("my runs")) == f"{quote}my runs{quote}"


@pytest.mark.parametrize("line", ['3 "my pictures/a b.png" 4', "3 'my pictures/a b.png' 4"])
def test_lines_are_split_at_blanks(line: str, system: str) -> None:
    assert platforms.split_line(line) == ["3", "my pictures/a b.png", "4"]
    with pytest.raises(ValueError, match="quotation"):
        platforms.split_line('"odd')


def test_windows_s_paths_keep_their_backslashes(system: str) -> None:
    words = platforms.split_line(r"C:\pictures\seven.png")
    assert words == ([r"C:\pictures\seven.png"] if system == "win32" else ["C:picturesseven.png"])


def test_the_editor_of_lines(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "readline", editor)
    assert platforms.line_editor() is (None if system == "win32" else editor)
    monkeypatch.setitem(sys.modules, "readline", None)  # as where Python was built without it
    assert platforms.line_editor() is None


def test_desktops(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    assert platforms.has_windows() == (system != "linux")
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert platforms.has_windows()


# Windows's encoding ---------------------------------------------------------------------------------------------------

COMMANDS = """
import sys, warnings
warnings.filterwarnings("error", category=EncodingWarning, module=r"xpnet(\\.|$)")
from xpnet.cli import main
for line in sys.stdin:
    assert main(line.split()) == 0, line
"""


def test_commands_need_neither_utf_8_nor_the_locale_s_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is opened with an encoding that is named, and all that is printed can be had in cp1252."""
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE.parent))
    lines = "train --data moons --epochs 1 --out run --device cpu\nevaluate run\nsummary run\npredict run --index 3\n"
    lines += "explain run --index 3\nexport run model.html\nexport run model.json\nruns .\nrecipes\ndata show moons\n"
    command = [sys.executable, "-X", "utf8=0", "-X", "warn_default_encoding", "-c", COMMANDS]
    ran = subprocess.run(command, cwd=tmp_path, input=lines.encode(), capture_output=True, check=False)
    said = (ran.stdout + ran.stderr).decode("cp1252")
    assert ran.returncode == 0, said
    assert "test accuracy" in said
    assert "\\u" not in said


AS_ON_WINDOWS = """
import ctypes, os, signal, sys
from types import SimpleNamespace
from tests.house.test_platforms import Msvcrt
from xpnet import platforms
from xpnet.cli import main

for name in ("confstr", "fork", "geteuid", "mkfifo", "sched_getaffinity", "sched_yield", "sysconf", "O_NONBLOCK"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("fcntl", "grp", "pwd", "readline", "resource", "termios"):
    sys.modules[name] = None
sys.modules["msvcrt"] = Msvcrt()
signal.SIGBREAK = signal.SIGINT
kernel32 = SimpleNamespace(GlobalMemoryStatusEx=lambda pointer: 0)
ctypes.windll = SimpleNamespace(kernel32=kernel32)
# Only xpnet is to believe it: the standard library has chosen its own branches long ago.
platforms.sys = SimpleNamespace(platform="win32", byteorder=sys.byteorder)
for line in sys.stdin:
    assert main(line.split()) == 0, line
"""


def test_a_run_without_anything_of_posix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is trained, continued, listed and used; and its lock is removed."""
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE.parent))
    lines = "train --data moons --epochs 1 --out run --device cpu --quiet\ntrain --resume run --epochs 2 --quiet\n"
    lines += "evaluate run\npredict run --index 3\nruns .\nexport run model.html\n"
    command = [sys.executable, "-c", AS_ON_WINDOWS]
    ran = subprocess.run(command, cwd=tmp_path, input=lines.encode(), capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr.decode()
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"checkpoints", "history.csv", "model.safetensors"}
    assert not (tmp_path / "run" / ".lock").exists()


def test_what_is_discarded_goes_nowhere() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"before")
    platforms.discard(writer)
    os.write(writer, b"after")
    os.close(writer)
    assert os.read(reader, 100) == b"before"
    assert os.read(reader, 100) == b""
    os.close(reader)
