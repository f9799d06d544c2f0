"""A PostgreSQL server of a test's own: Debian's, on a socket in a temporary folder, without a port, gone at the end."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PASSWORD, QUOTED = "sec/ret@1", "sec%2Fret%401"


class Server(NamedTuple):
    """A running one: the URL of its database, and the process."""

    url: str
    process: "subprocess.Popen[bytes]"


def programs() -> Path:
    """The folder of initdb and postgres; the test is skipped where there is none."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    for folder in reversed(folders):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    pytest.skip("needs PostgreSQL: apt-get install postgresql")


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """Run a server, which lets the user "worker" in, with PASSWORD."""
    folder = programs()
    place = Path(tempfile.mkdtemp(prefix="xpnet-pg-"))  # a socket's path has at most 107 bytes
    user: dict[str, Any] = {}
    if os.geteuid() == 0:  # as which PostgreSQL does not run
        import pwd

        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        os.chown(place, nobody.pw_uid, nobody.pw_gid)
    options: dict[str, Any] = {"cwd": place, "env": {**os.environ, "LC_ALL": "C"}, **user}
    quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    process = None
    try:
        (place / "password").write_text(PASSWORD)
        (place / "password").chmod(0o644)
        create = ["initdb", "-D", "data", "-N", "-E", "UTF8", "-U", "worker", "-A", "scram-sha-256"]
        subprocess.run([folder / create[0], *create[1:], "--pwfile", "password"], check=True, **quiet, **options)
        settings = [f"unix_socket_directories={place}", "listen_addresses=", "fsync=off", "shared_buffers=16MB"]
        command: list[Any] = [folder / "postgres", "-D", "data", *(word for each in settings for word in ("-c", each))]
        with (place / "log").open("wb") as log:
            process = subprocess.Popen(command, stderr=log, **quiet, **options)
        _ready(process, place)
        yield Server(f"postgresql://worker:{QUOTED}@/postgres?host={place}", process)
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # which does not wait for connections
            process.wait()
        shutil.rmtree(place)


def _ready(process: "subprocess.Popen[bytes]", place: Path) -> None:
    """Wait until the server lets clients in."""
    while "ready to accept connections" not in (place / "log").read_text():
        assert process.poll() is None, (place / "log").read_text()
        time.sleep(0.02)
