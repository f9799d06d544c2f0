"""What a picture's file declares, checked before a decoder is given it: sizes, parts, and which decoder that is."""

import re
import struct
from collections.abc import Callable, Iterator

from xpnet.errors import DataError

__all__ = ["MAX_COPIED", "MAX_EXIF", "MAX_PIXELS", "MAX_UNPACKED", "check_scans", "check_size", "checked"]

MAX_PIXELS = 50_000_000
"""Larger pictures are refused by what their header declares: 48 megapixels are what a telephone takes."""

MAX_UNPACKED = 100_000_000
"""Nor may others than JPEG take more bytes, which unlike it cannot be read in a smaller size: 33 megapixels of colour,
16 where some are transparent, 50 of grey."""

MAX_COPIED = 25_000_000
"""Pixels of a WebP or HEIC, whose decoders keep several copies of them."""

MAX_SCANNED = 750_000_000
"""Pixels times scans of a JPEG: a progressive one has ten or so, and a file of no size may have thousands."""

MAX_PARTS = 20_000
"""Chunks of a PNG or WebP, blocks of a GIF, strips or tiles of a TIFF, segments before the first scan of a JPEG."""

MAX_EXIF = 1 << 16
"""Bytes of EXIF: as many as a JPEG's segment may have. Each of its entries may claim all of it, and gets a copy."""

MAX_TAGS = 1 << 20
"""Bytes of what a TIFF says of its pixels."""


def checked(content: bytes) -> tuple[str, bytes]:
    """The format of a file, as Pillow calls it, and its content without what no one needs.

    Raises DataError if it is none of the formats, or declares more than they may.
    """
    for start, form, check in _FORMATS:
        if start.match(content):
            return form, check(content) or content
    raise DataError("not a PNG, JPEG, WebP, BMP, TIFF, GIF or HEIC picture; save it as one of them")


def check_size(width: int, height: int, most: int = MAX_PIXELS) -> None:
    """Raise DataError for a picture of more than so many pixels."""
    if width * height > most:
        raise DataError(f"larger than {most // 10**6} megapixels; shrink it, or crop it to what matters")


def _too_many() -> DataError:
    return DataError(f"made of more than {MAX_PARTS} parts; save the picture again")


def _damaged() -> DataError:
    return DataError("it ends too early, or is damaged; save the picture again")


def _check_png(content: bytes) -> None:
    at = 8
    for _ in range(MAX_PARTS):
        part = content[at : at + 4]
        if len(part) < 4:
            return
        at += 12 + int.from_bytes(part, "big")
    raise _too_many()


def _check_jpeg(content: bytes) -> None:
    """Pillow spends far more time on each part than it has bytes."""
    at, exif = 2, 0
    for _ in range(MAX_PARTS):
        part = content[at : at + 4]
        if len(part) < 4 or part[1] == 0xDA:
            return
        if part[0] != 0xFF or part[1] in (0x00, 0xFF):  # junk, which is skipped one byte after the other
            at += 1
        elif part[1] == 0xC8 or 0xD0 <= part[1] <= 0xD9 or 0xF0 <= part[1] <= 0xFD:  # markers without a segment
            at += 2
        else:
            size = int.from_bytes(part[2:], "big")
            exif += size * (content[at + 4 : at + 8] == b"Exif")
            if exif > MAX_EXIF:
                raise DataError(f"more than {MAX_EXIF} bytes of EXIF; save the picture again")
            at += 2 + size
    raise _too_many()


def check_scans(content: bytes, width: int, height: int) -> None:
    """Raise DataError for a JPEG whose scans, each of which is decoded over the whole picture, are too many."""
    if width * height * content.count(b"\xff\xda") > MAX_SCANNED:
        raise DataError("a JPEG of that size with too many scans; save the picture again")


def _check_webp(content: bytes) -> None:
    kind, head = content[12:16], content[20:30]
    if len(head) < 10:
        raise _damaged()
    if kind == b"VP8X":
        sides = int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    elif kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        sides = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        sides = int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF
    check_size(*sides, MAX_COPIED)
    at = 12
    for _ in range(MAX_PARTS):
        size = content[at + 4 : at + 8]
        if len(size) < 4:
            return
        at += 8 + (int.from_bytes(size, "little") + 1) // 2 * 2
    raise _too_many()


def _check_gif(content: bytes) -> None:
    """The blocks before the first picture, and the size of that, for which the screen makes room."""
    if len(content) < 13:
        raise _damaged()
    screen, at = struct.unpack("<HH", content[6:10]), 13 + _palette(content[10])
    blocks = 0
    while content[at : at + 1] not in (b",", b";", b""):
        if content[at] != 0x21:  # what is between the blocks is skipped
            at, blocks = at + 1, blocks + 1
        else:
            at += 2
            while size := content[at : at + 1]:
                at, blocks = at + 1 + size[0], blocks + 1
                if not size[0] or blocks > MAX_PARTS:
                    break
        if blocks > MAX_PARTS:
            raise _too_many()
    if len(content) < at + 10:
        raise _damaged()
    if content[at] == 0x2C:
        left, top, width, height = struct.unpack("<HHHH", content[at + 1 : at + 9])
        check_size(max(screen[0], left + width), max(screen[1], top + height))


def _palette(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _check_bmp(content: bytes) -> None:
    if len(content) < 26:
        raise _damaged()
    if content[14] == 12:
        width, height, _, bits = struct.unpack("<HHHH", content[18:26])
        packing = 0
    elif len(content) < 34:
        raise _damaged()
    else:
        width, height, _, bits, packing = struct.unpack("<IiHHI", content[18:34])
    if packing not in (0, 3):
        raise DataError("a compressed BMP; save it as PNG")
    check_size(width, abs(height))
    if (width * bits + 31) // 32 * 4 * abs(height) > len(content):
        raise _damaged()


# --- TIFF ------------------------------------------------------------------------------------------------------------

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}  # bytes of each type's values
_WIDTH, _HEIGHT, _BITS, _PACKING, _ORIENTATION = 256, 257, 258, 259, 274
_STRIPS, _CHANNELS, _ROWS, _STRIP_BYTES, _PLANES = 273, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 322, 323, 324, 325
_NUMBERS = (_WIDTH, _HEIGHT, _PACKING, _CHANNELS, _ROWS, _PLANES, _TILE_WIDTH, _TILE_HEIGHT)
_ARRAYS = (_BITS, _STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES)
_OTHERS = (262, 266, _ORIENTATION, 292, 293, 317, 320, 332, 338, 339, 347, 530, 531, 532)
"""How the pixels are to be understood: by colour, order of bits, prediction, palette, JPEG's tables and the like."""

_PACKINGS = (1, 2, 3, 4, 5, 7, 8, 32773, 32946)  # none, CCITT's three, LZW, JPEG, deflate, PackBits, deflate


def _first_page(content: bytes) -> bytes:
    """A TIFF of which all is left out but the first page and what its decoding needs.

    Each of a TIFF's many entries may claim the whole file, and Pillow reads them all, those of the folders within too.
    """
    order = "<" if content.startswith(b"II") else ">"
    entries, told, claimed = [], {}, 0
    for entry, tag, kind, count, value in _entries(content, order):
        if tag not in (*_NUMBERS, *_ARRAYS, *_OTHERS) or kind not in _SIZES or tag in told:
            continue
        size = _SIZES[kind] * count
        at = entry + 8 if size <= 4 else value
        claimed += size
        if at + size > len(content) or claimed > MAX_TAGS:
            raise _damaged()
        told[tag] = [0]
        if tag in (*_NUMBERS, *_ARRAYS):
            if kind not in (1, 3, 4) or not count or (tag in _NUMBERS and count > 1):
                raise _damaged()
            told[tag] = list(struct.unpack(f"{order}{count}{'_B_HI'[kind]}", content[at : at + size]))
        entries.append(content[entry : entry + 12])
    _check_page({tag: told.get(tag) for tag in (*_NUMBERS, *_ARRAYS)}, content)
    start = struct.unpack(f"{order}I", content[4:8])[0]
    folder = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
    return content[:start] + folder + content[start + len(folder) :]


def _entries(content: bytes, order: str) -> Iterator[tuple[int, int, int, int, int]]:
    """Of the first folder: where each entry is, its tag, type, count, and value or place."""
    if len(content) < 8 or len(content) < (start := struct.unpack(f"{order}I", content[4:8])[0]) + 2 or start < 8:
        raise _damaged()
    n = struct.unpack(f"{order}H", content[start : start + 2])[0]
    if len(content) < start + 6 + 12 * n:
        raise _damaged()
    for at in range(start + 2, start + 2 + 12 * n, 12):
        yield at, *struct.unpack(f"{order}HHII", content[at : at + 12])


def _check_page(told: dict[int, list[int] | None], content: bytes) -> None:
    def number(tag: int, default: int) -> int:
        return (told[tag] or [default])[0]

    width, height, packing = number(_WIDTH, 0), number(_HEIGHT, 0), number(_PACKING, 1)
    channels, planes = number(_CHANNELS, 1), number(_PLANES, 1)
    if packing not in _PACKINGS:
        raise DataError("a TIFF compressed in an unusual way; save it as PNG")
    tiled = told[_TILES] is not None
    across, down = (number(_TILE_WIDTH, 0), number(_TILE_HEIGHT, 0)) if tiled else (width, number(_ROWS, height))
    down = down if tiled else min(down, height)
    if not (width and height and channels and across and down):
        raise _damaged()
    check_size(width, height)
    check_size(across, down)
    depth = channels * max(told[_BITS] or [1])
    if max(width * height, across * down) * depth > 8 * MAX_UNPACKED:
        raise DataError(f"as a TIFF it unpacks to more than {MAX_UNPACKED // 10**6} MB; shrink it")
    if -(-width // across) * -(-height // down) * (channels if planes == 2 else 1) > MAX_PARTS:
        raise _too_many()
    sizes = told[_TILE_BYTES if tiled else _STRIP_BYTES] or [0]
    needed = (width * depth + 7) // 8 * height if packing == 1 and not tiled else 0
    if max(sum(sizes), needed) > len(content):
        raise _damaged()
    if packing == 7:  # each strip or tile is a JPEG
        check_scans(content, across, down)


_FORMATS: tuple[tuple[re.Pattern[bytes], str, Callable[[bytes], bytes | None]], ...] = (
    (re.compile(rb"\x89PNG"), "PNG", _check_png),
    (re.compile(rb"\xff\xd8"), "JPEG", _check_jpeg),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WEBP", _check_webp),
    (re.compile(rb"GIF8[79]a"), "GIF", _check_gif),
    (re.compile(rb"BM"), "BMP", _check_bmp),
    (re.compile(rb"II\*\0|MM\0\*"), "TIFF", _first_page),
    (re.compile(rb"....ftyp(hei[cxms]|hevc|mif1|msf1)", re.DOTALL), "HEIF", lambda _: None),
)
"""How each begins, as Pillow calls it, and its check, which may return what is to be read instead."""
