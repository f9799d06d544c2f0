"""The processes that work on one study: the one that ends last trains the best settings, and no other."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from xpnet.errors import InUseError
from xpnet.files import locked

__all__ = ["working_in"]


@contextmanager
def working_in(folder: Path) -> Iterator[Callable[[], str | None]]:
    """Take part in a study, by a lock in its folder, which is created.

    Yields a function with which this process leaves: it returns the description of another one that still takes part,
    or None for the last. A process that was killed takes no part. An empty folder is removed again.
    Raises ConfigError on a file system without locks; OSError where the folder cannot be written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    mutex, own = folder / ".workers.lock", ExitStack()

    def leave() -> str | None:
        with locked(mutex, lambda _: None, required=True):
            own.close()
            for path in sorted(folder.glob(".worker-*.lock")):
                try:
                    with locked(path, required=True):  # which removes what a killed process left
                        pass
                except InUseError as worker:
                    return str(worker)
        return None

    try:
        with own:
            with locked(mutex, lambda _: None, required=True):
                own.enter_context(locked(folder / f".worker-{secrets.token_hex(4)}.lock", required=True))
            yield leave
    finally:
        with suppress(OSError):  # unless there is something in it
            for path in made:
                path.rmdir()
