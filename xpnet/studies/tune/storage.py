"""Where a study is kept: in a journal, a file that any file system takes, or in a database."""

import logging
import os
import re
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from xpnet.checks import required
from xpnet.errors import ConfigError
from xpnet.files import open_regular

__all__ = ["check_storage", "masked", "open_storage", "reason"]

logger = logging.getLogger(__name__)

ATTEMPTS = 20  # to create the tables, which others may be creating just then


def masked(storage: str | Path | None) -> str:
    """A storage as it may be shown: a URL without its password."""
    text = re.sub(r"(?<=://)([^:/?#]*):.*@", r"\1:***@", str(storage))
    return re.sub(r"(?i)([?&]\w*passw\w*=)[^&]*", r"\1***", text)


def check_storage(storage: str) -> None:
    """Connect to the server of a database's URL, and leave the database as it is; files are not looked at.

    Raises ConfigError where it can't be reached or refuses us; MissingPackageError without PostgreSQL's driver.
    """
    if "://" not in storage:
        return
    sqlalchemy, url = required("sqlalchemy", "a study in a database", "tune"), _url(storage)
    try:
        engine = sqlalchemy.create_engine(url)
        if engine.dialect.name != "sqlite":  # which would begin a file
            engine.connect().close()
        engine.dispose()
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        raise ConfigError(f"cannot use {masked(storage)} ({reason(error)}): name another storage") from None


def open_storage(optuna: Any, storage: str | Path | None, closing: ExitStack) -> Any:
    """Optuna's storage for a file, a URL or, where it is None, the memory; closing learns what is to be closed."""
    if "://" in str(storage):
        place = _database(optuna, str(storage))
        closing.callback(place.engine.dispose)
        return place
    if storage is None:
        return None
    journal = optuna.storages.journal
    # The other kind of lock is a symbolic link, which not everybody may make on Windows.
    lock = journal.JournalFileOpenLock(str(storage))
    Path(storage).parent.mkdir(parents=True, exist_ok=True)
    _drop_torn_line(Path(storage), lock)
    return optuna.storages.JournalStorage(journal.JournalFileBackend(str(storage), lock))


def reason(error: BaseException) -> str:
    """What a storage's error says, in a line, without what Optuna and SQLAlchemy put before it and behind."""
    error = error.__cause__ or error
    error = getattr(error, "orig", None) or error
    return getattr(error, "strerror", None) or " ".join(str(error).partition("\n")[0].split()) or type(error).__name__


def _url(storage: str) -> str:
    """A URL as SQLAlchemy takes it, with our driver for PostgreSQL unless it names one.   Raises ConfigError."""
    import sqlalchemy

    url = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", storage)
    try:  # whatever is wrong, the error may quote a part of the password
        user, at, _ = url.partition("://")[2].partition("?")[0].rpartition("@")
        fine = bool(sqlalchemy.make_url(url)) and not (at and "@" in user and not user.startswith("/"))
    except (sqlalchemy.exc.ArgumentError, ValueError):
        fine = False
    if not fine:
        raise ConfigError(
            f"{masked(storage)} is not a URL of a database, KIND://USER:PASSWORD@HOST/NAME: in the password, %40 "
            "stands for @, %3A for : and %2F for /"
        )
    if url.startswith("postgresql+psycopg:"):
        required("psycopg", "a study in PostgreSQL", "postgresql")
    return url


def _database(optuna: Any, storage: str) -> Any:
    """Optuna's storage for a URL; of several processes that create its tables at once, some fail, and try again."""
    from sqlalchemy import exc

    url = _url(storage)
    for attempt in range(ATTEMPTS):
        try:
            # A connection may be cut while a trial is trained, without anybody being told.
            return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        except (exc.IntegrityError, exc.ProgrammingError, exc.OperationalError) as error:
            known = isinstance(error, exc.IntegrityError) or "already exists" in str(error)
            if not known or attempt == ATTEMPTS - 1:
                raise
            time.sleep(0.1)
    raise AssertionError


def _drop_torn_line(journal: Path, lock: Any) -> None:
    """Drop the line that a killed process or a full disk left unfinished: Optuna would glue the next one to it."""
    if not journal.is_file():
        return
    lock.acquire()
    try:
        with open_regular(journal) as file:
            content = file.read()
        if content.startswith(b'{"op_code"') and not content.endswith(b"\n"):
            logger.warning("the last line of %s is incomplete: it is dropped, and with it a part of a trial", journal)
            os.truncate(journal, content.rfind(b"\n") + 1)
    finally:
        lock.release()
