"""From a picture's file to grey."""

import contextlib
import logging
import os
import warnings
from collections.abc import Collection
from importlib import import_module
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.data.packed import Location, content_of, located
from xpnet.errors import DataError

from .headers import MAX_COPIED, MAX_EXIF, MAX_PIXELS, MAX_UNPACKED, check_scans, check_size, checked

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Decoded", "decode", "decode_content", "warn_of_whites"]

logger = logging.getLogger("xpnet")

_Bytes = NDArray[np.uint8]
_Floats = NDArray[np.floating[Any]]

MAX_FILE_BYTES = 200_000_000
KEPT = 2048  # longest side, in pixels, of what is kept of a photograph
_PLUGINS = {"PNG": "Png", "JPEG": "Jpeg", "WEBP": "WebP", "GIF": "Gif", "BMP": "Bmp", "TIFF": "Tiff"}
_FAR = 640  # longest side of what tells the colours of ink and paper


class Decoded(NamedTuple):
    """A picture, upright.

    grey : (height, width) uint8, no side above KEPT.   shape : (height, width) of the original.
    white : where its pixels have more than 8 bits, the value that became 255, by the largest of them; else 0.
    """

    grey: _Bytes
    shape: tuple[int, int]
    white: float = 0.0


def decode(path: str | os.PathLike[str] | Location, *, luminance: bool = False) -> Decoded:
    """Read a picture's file.

    path : the file, or one in an archive.
    luminance : whether grey is how bright the colours are, or the mixture of them in which ink stands out most.
    Raises DataError, one line that begins with the path, if it cannot be read as a picture or is too large.
    """
    path = located(path)
    try:
        return decode_content(_content(path), luminance=luminance)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _content(path: Location) -> bytes:
    try:
        return content_of(path, MAX_FILE_BYTES)
    except IsADirectoryError:
        raise DataError("a folder, not a picture; name a file") from None
    except FileNotFoundError:
        raise DataError("no such file; name a picture") from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error}); save the picture again") from None


def warn_of_whites(where: object, whites: Collection[float]) -> None:
    """Warn where pictures of one set, of so many whites, are not equally bright.   where : names the set."""
    if len(deep := sorted(set(whites) - {0.0})) > 1:
        logger.warning(
            "%s: pictures of more than 8 bits, each of which is made as bright as its largest pixel allows: white is "
            "%g in one and %g in another; save them with 8 bits to compare their brightness",
            *(where, deep[0], deep[-1]),
        )


def decode_content(content: bytes, *, luminance: bool = False) -> Decoded:
    """Read a picture from the bytes of its file, as decode does."""
    from PIL import Image, ImageOps

    try:
        if not content:
            raise DataError("the file is empty; save the picture again")
        form, content = checked(content)
        _load_plugin(form)
        # Pillow warns of large pictures and of odd metadata; the size is checked here, the rest does not matter.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image: Image.Image = Image.open(BytesIO(content), formats=(form,))
            check_size(*image.size, MAX_COPIED if form in ("HEIF", "WEBP") else MAX_PIXELS)
            if form == "JPEG":
                check_scans(content, *image.size)
            elif image.width * image.height * _channels(image) > MAX_UNPACKED:
                raise DataError(f"as a {form} it unpacks to more than {MAX_UNPACKED // 10**6} MB; shrink it")
            width, height = image.size
            image.draft(None, (KEPT, KEPT))  # decodes no more of a JPEG than is kept
            image.load()
            before = image.size
            with contextlib.suppress(Exception):  # EXIF may be damaged where the picture is not
                for key, most in (("exif", MAX_EXIF), ("Raw profile type exif", 3 * MAX_EXIF)):
                    if len(image.info.get(key, "")) > most:
                        raise ValueError
                ImageOps.exif_transpose(image, in_place=True)
            shape = (height, width) if image.size == before else (width, height)
            image, white = _plain(image)
            image.thumbnail((KEPT, KEPT))
            return Decoded(_luminance(image) if luminance else _grey(np.asarray(image)), shape, white)
    except DataError:
        raise
    except Image.DecompressionBombError:
        raise DataError(
            f"larger than {MAX_PIXELS // 10**6} megapixels; shrink it, or crop it to what matters"
        ) from None
    except Exception as error:  # a damaged file can make a decoder raise nearly anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"cannot be read ({reason}); save the picture again") from None


def _load_plugin(form: str) -> None:
    """Pillow's decoder of one format alone, which Image.open would look for among all."""
    if form == "HEIF":
        try:
            import pillow_heif
        except ImportError:
            raise DataError(
                "a HEIC picture, which needs a package: pip install pillow-heif; or save it as JPEG"
            ) from None
        pillow_heif.register_heif_opener()
    else:
        import_module(f"PIL.{_PLUGINS[form]}ImagePlugin")


def _channels(image: "Image.Image") -> int:
    """Bytes that a pixel takes, while it is made smaller."""
    if image.has_transparency_data:
        return 6
    return {"1": 1, "L": 1, "I": 4, "F": 4, "I;16": 2, "I;16B": 2}.get(image.mode, 3)


def _plain(image: "Image.Image") -> tuple["Image.Image", float]:
    """Any of Pillow's modes as RGB or RGBA, 8 bits each, no larger than need be; and its white."""
    from PIL import Image

    white = 0.0
    if image.mode[0] in "IF":  # more than 8 bits, which convert would cut off at 255
        pixels, white = _eight_bits(np.asarray(image))
        image = Image.fromarray(pixels)
    # Before it takes four bytes for each pixel, and so that little is left to the filter of thumbnail.
    factor = max(image.size) // KEPT
    if factor > 2 and image.mode in ("L", "RGB", "RGBA"):
        image = image.reduce(factor)
    return image.convert("RGBA" if image.has_transparency_data else "RGB"), white


def _eight_bits(pixels: NDArray[Any]) -> tuple[_Bytes, float]:
    """Deeper pixels as bytes: numbers of 8, 12, 16 or 31 bits, in whatever they are stored, and fractions of 1; and
    the number that became 255, 0 for a picture that is all black and so does not show it.
    """
    if pixels.dtype.kind == "f":
        pixels = np.nan_to_num(pixels, nan=0, posinf=0, neginf=0)
    if pixels.dtype.kind in "if":
        pixels = pixels.clip(0)
    if pixels.max() == 0:
        return pixels.astype(np.uint8), 0.0
    if pixels.dtype.kind == "f":
        most = next((full for full in (1, 255, 4095, 65535) if pixels.max() <= full), float(pixels.max()))
        return np.rint(pixels * (255 / most)).astype(np.uint8), most
    shift = next((bits - 8 for bits in (8, 12, 16) if pixels.max() < 1 << bits), 23)
    return (pixels >> shift).astype(np.uint8), float((1 << shift + 8) - 1)


def _luminance(image: "Image.Image") -> _Bytes:
    """How bright the colours of an RGB or RGBA picture are."""
    colours = np.asarray(image)
    if colours.shape[2] == 3:
        return np.asarray(image.convert("L"))
    from PIL import Image

    laid = _on_paper(colours[..., :3].astype(np.float32), colours[..., 3:].astype(np.float32) / 255)
    return np.asarray(Image.fromarray(np.rint(laid).astype(np.uint8)).convert("L"))


def _grey(colours: _Bytes) -> _Bytes:
    """The mixture of (height, width, 3 or 4) channels in which what stands out, the ink, stands out most."""
    pixels = colours[..., :3].astype(np.float32)
    if colours.shape[2] == 4:
        pixels = _on_paper(pixels, colours[..., 3:].astype(np.float32) / 255)
    if np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 1], pixels[..., 2]):
        return np.rint(pixels[..., 0]).astype(np.uint8)
    # The first principal axis of the colours' distances from the paper's, the far ones counting most. A channel that
    # falls where the others rise goes in inverted, so that the mixture stays in 0..255.
    stride = 1 + max(pixels.shape) // _FAR
    off = pixels[::stride, ::stride].reshape(-1, 3).astype(np.float64)
    off -= np.median(off, axis=0)
    off *= np.linalg.norm(off, axis=1, keepdims=True)
    axis = np.linalg.eigh(off.T @ off)[1][:, -1]
    axis /= np.abs(axis).sum() * (1 if axis.sum() >= 0 else -1)
    mixed: _Floats = pixels @ axis + 255 * np.maximum(-axis, 0).sum()
    return mixed.round().clip(0, 255).astype(np.uint8)


def _on_paper(pixels: _Floats, alpha: _Floats) -> _Floats:
    """Lay a transparent picture on white paper, or on black where what is seen of it is light."""
    seen = pixels[alpha[..., 0] > 0.1]
    return alpha * pixels + (1 - alpha) * (255 if seen.size and seen.mean() < 128 else 0)
