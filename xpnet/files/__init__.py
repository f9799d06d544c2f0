"""The disk: reading files of unknown origin, writing files so that nothing is lost, locks, TOML, and array digests."""

from .digest import sha256_of
from .locks import holder_of, locked
from .reading import Stream, open_regular, package_text, read_up_to, read_whole
from .toml import parse_toml, read_text
from .writing import flush, move_into_place, remove, sweep, write_atomically, write_folder

__all__ = [
    "Stream",
    "flush",
    "holder_of",
    "locked",
    "move_into_place",
    "open_regular",
    "package_text",
    "parse_toml",
    "read_text",
    "read_up_to",
    "read_whole",
    "remove",
    "sha256_of",
    "sweep",
    "write_atomically",
    "write_folder",
]
