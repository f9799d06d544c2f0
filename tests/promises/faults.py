"""Faults in the calls by which files are written: each call counted, failing, or killing its process.

Everything that xpnet writes goes through the functions CALLS of the module os, which are replaced here.
"""

import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CALLS = ("open", "write", "fsync", "close", "replace", "mkdir", "rmdir", "unlink", "truncate")


class Faults:
    """The calls of os that write files, watched.

    Calls are those of one list, in the order in which they come; reading files and folders is not counted.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch | None = None, flush: bool = True) -> None:
        """flush : whether files are really flushed, which takes milliseconds."""
        self.calls: list[str] = []
        self._act: Callable[[str, Callable[[], Any], tuple[Any, ...]], Any] | None = None
        setattr_ = setattr if monkeypatch is None else monkeypatch.setattr
        for name in CALLS:
            call = getattr(os, name) if flush or name != "fsync" else lambda _: None
            setattr_(os, name, self._watched(name, call))

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            if self._act is None or (name == "open" and not arguments[1] & os.O_CREAT):
                return call(*arguments, **options)
            self.calls.append(name)
            return self._act(name, lambda: call(*arguments, **options), arguments)

        return watched

    @contextmanager
    def counting(self) -> Iterator[list[str]]:
        """A context in which calls are listed."""
        with self._acting(lambda _name, call, _arguments: call()):
            yield self.calls

    @contextmanager
    def failing(self, number: int, code: str, times: int = 1) -> Iterator[list[str]]:
        """A context in which some calls fail, the first of which has a number.

        code : an error of the system, such as ENOSPC. A write that fails writes a part first; a close closes.
        """

        def act(name: str, call: Callable[[], Any], arguments: tuple[Any, ...]) -> Any:
            if not number <= len(self.calls) - 1 < number + times:
                return call()
            if name == "write":
                original_write(arguments[0], arguments[1][: len(arguments[1]) // 2])
            if name == "close":
                call()
            error = getattr(errno, code)
            path = next((a for a in arguments if not isinstance(a, int | memoryview | bytes)), None)
            raise OSError(error, os.strerror(error), path)

        with self._acting(act):
            yield self.calls

    def kill_at(self, number: int) -> None:
        """From now on: at the call of that number, half done where it can be, the process kills itself."""

        def act(name: str, call: Callable[[], Any], arguments: tuple[Any, ...]) -> Any:
            if len(self.calls) - 1 == number:
                if name == "write":
                    original_write(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return call()

        self._act = act

    @contextmanager
    def _acting(self, act: Callable[..., Any]) -> Iterator[None]:
        self.calls, self._act = [], act
        try:
            yield
        finally:
            self._act = None


original_write = os.write
