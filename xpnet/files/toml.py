"""Reading small TOML files of settings: bounded, with every fault an error of one line."""

import tomllib
from pathlib import Path
from typing import Any

from xpnet.errors import ConfigError

from .reading import read_whole

__all__ = ["parse_toml", "read_text"]

MAX_TOML = 1 << 16
"""Bytes of a file of settings."""

MAX_DOTS = 100
"""In a line of it: tomllib takes a hundred thousand steps for each line below a key of ten thousand dotted parts."""


def read_text(path: Path, what: str) -> str:
    """The text of a small file of settings.

    path : of a regular file of at most MAX_TOML bytes, UTF-8.   what : its name in an error message.
    Raises ConfigError for any other file.
    """
    try:
        return read_whole(path, MAX_TOML).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read the {what} {path}: {reason}") from None


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """The tables of a TOML text.   name : for the error message.   Raises ConfigError if it is not TOML."""
    try:
        if any(line.count(".") > MAX_DOTS for line in text.splitlines()):
            raise ValueError(f"a line has more than {MAX_DOTS} dots")
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name} is not valid TOML: {error}") from None
