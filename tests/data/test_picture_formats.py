"""Pictures from other files than PNG and JPEG, and what is left of them when they reach a decoder."""

import importlib.util
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.test_pictures import enlarged, laid, likeness, refused
from xpnet.data import digits, read_picture
from xpnet.data.pictures import decoding, headers


@pytest.fixture(scope="module")
def five() -> np.ndarray:
    images, labels = digits.draw(1000, seed=3)
    five: np.ndarray = images[np.flatnonzero(labels == 5)[2]]
    return five


@pytest.fixture
def sheet(five: np.ndarray) -> np.ndarray:
    return (255 * (1 - laid(enlarged(five, 120), (240, 320), (60, 110)))).astype(np.uint8)


KINDS: list[tuple[str, str, dict[str, Any]]] = [
    *(("WEBP", mode, options) for mode in ("L", "RGB", "RGBA") for options in ({}, {"lossless": True})),
    *(("BMP", mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA")),
    *(("GIF", mode, {}) for mode in ("1", "L", "P", "RGB")),
    *(
        ("TIFF", mode, {"compression": packing})
        for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "LAB")
        for packing in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits")
    ),
    *(("TIFF", mode, {"compression": "jpeg"}) for mode in ("L", "RGB")),
    *(("TIFF", "1", {"compression": packing}) for packing in ("group3", "group4", "tiff_ccitt")),
    *(("TIFF", "L", {"big_tiff": False, "tiffinfo": {}}), ("TIFF", "L", {"save_all": True})),
]


@pytest.mark.parametrize(("form", "mode", "options"), KINDS)
def test_every_format(
    tmp_path: Path, sheet: np.ndarray, five: np.ndarray, form: str, mode: str, options: dict[str, Any]
) -> None:
    image = Image.fromarray(sheet)
    image = image.convert("RGB").convert(mode) if mode in ("CMYK", "RGBA") else _as(image, mode)
    image.save(tmp_path / "picture", form, **options)
    assert likeness(read_picture(tmp_path / "picture"), five) > 0.95


def _as(image: Image.Image, mode: str) -> Image.Image:
    if mode != "LAB":
        return image.convert(mode)
    from PIL import ImageCms

    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    turned = ImageCms.profileToProfile(image.convert("RGB"), *profiles, outputMode="LAB")
    assert turned is not None
    return turned


@pytest.mark.parametrize("form", ["WEBP", "GIF", "TIFF"])
def test_the_first_of_several_is_read(tmp_path: Path, sheet: np.ndarray, five: np.ndarray, form: str) -> None:
    image = Image.fromarray(sheet)
    others = [Image.new("L", image.size, grey) for grey in (255, 0)]
    image.save(tmp_path / "several", form, save_all=True, append_images=others)
    assert likeness(read_picture(tmp_path / "several"), five) > 0.95


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_twelve_bits_in_sixteen(tmp_path: Path, form: str, bits: int) -> None:
    """What is stored in 16 bits may have fewer; as-is, black stays black and white white."""
    steps = np.linspace(0, (1 << bits) - 1, 28 * 28).reshape(28, 28).astype(np.uint16)
    Image.fromarray(steps).save(tmp_path / "deep", form)
    found = read_picture(tmp_path / "deep", "as-is")
    assert np.abs(found - np.linspace(0, 255, 28 * 28).reshape(28, 28)).max() < 1.01


def test_fractions(tmp_path: Path) -> None:
    steps = np.linspace(0, 1, 28 * 28, dtype=np.float32).reshape(28, 28)
    for most in (1, 255, 1000):
        Image.fromarray(steps * most).save(tmp_path / "fractions", "TIFF")
        assert (
            np.abs(
                read_picture(tmp_path / "fractions", "as-is") - 255 * (steps if most < 256 else steps * 1000 / 4095)
            ).max()
            < 1
        )
    Image.fromarray(np.full((28, 28), np.nan, np.float32)).save(tmp_path / "fractions", "TIFF")
    assert not read_picture(tmp_path / "fractions", "as-is").any()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_s_orientation(tmp_path: Path, sheet: np.ndarray, five: np.ndarray, orientation: int) -> None:
    turns = [None, None, 0, 3, 1, 5, 2, 6, 4]
    image, turn = Image.fromarray(sheet), turns[orientation]
    upright = image if turn is None else image.transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[0x0112] = orientation
    for form in ("TIFF", "WEBP"):
        upright.save(tmp_path / "turned", form, exif=exif)
        assert likeness(read_picture(tmp_path / "turned"), five) > 0.95
        assert decoding.decode(tmp_path / "turned").shape == sheet.shape


def test_what_is_kept_of_a_tiff(tmp_path: Path, sheet: np.ndarray) -> None:
    """Its decoding's needs, of the first page; not what other programs put in, nor the folders within."""
    exif = Image.Exif()
    exif[0x010E] = "a digit"
    exif.get_ifd(0x8769)[0x9286] = "a comment"
    Image.fromarray(sheet).save(
        tmp_path / "x", "TIFF", exif=exif, save_all=True, append_images=[Image.new("L", (9, 9))]
    )
    form, content = headers.checked((tmp_path / "x").read_bytes())
    assert form == "TIFF"
    assert len(content) == (tmp_path / "x").stat().st_size
    (tmp_path / "kept").write_bytes(content)
    with Image.open(tmp_path / "kept") as image:
        assert getattr(image, "n_frames") == 1  # noqa: B009 - of its plugin's class
        assert not {0x010E, 0x8769} & set(image.getexif().keys())
        assert np.array_equal(np.asarray(image), sheet)


def test_large_and_unusual_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    Image.new("RGB", (28, 28)).save(path, "TIFF", compression="tiff_lzw")
    whole = path.read_bytes()
    start = 2 + struct.unpack("<I", whole[4:8])[0]
    for tag, value, said in (
        (256, 1 << 22, "larger than 50 megapixels"),
        (277, 200_000, "unpacks to more than 100 MB"),
        (259, 34_712, "compressed in an unusual way"),
        (259, 6, "compressed in an unusual way"),
        (279, 1 << 20, "ends too early, or is damaged"),
        (278, 0, "ends too early, or is damaged"),
    ):
        at = next(at for at in range(start, len(whole), 12) if struct.unpack("<H", whole[at : at + 2])[0] == tag)
        path.write_bytes(whole[: at + 2] + struct.pack("<HII", 4, 1, value) + whole[at + 12 :])
        assert said in refused(path), tag
    Image.new("L", (28, 28)).save(path, "BMP")
    whole = path.read_bytes()
    path.write_bytes(whole[:30] + b"\1" + whole[31:])
    assert refused(path) == "a compressed BMP; save it as PNG"
    path.write_bytes(whole[:18] + struct.pack("<ii", 10_000, -10_000) + whole[26:])
    assert "larger than 50 megapixels" in refused(path)


def test_heic_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "x.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    said = "a HEIC picture, which needs a package: pip install pillow-heif; or save it as JPEG"
    assert refused(tmp_path / "x.heic") == said


@pytest.mark.skipif(importlib.util.find_spec("pillow_heif") is None, reason="pillow-heif is not installed")
def test_heic(tmp_path: Path, sheet: np.ndarray, five: np.ndarray) -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    image = Image.fromarray(sheet).convert("RGB")
    image.save(tmp_path / "x.heic", "HEIF")
    assert likeness(read_picture(tmp_path / "x.heic"), five) > 0.95
    assert decoding.decode(tmp_path / "x.heic").shape == sheet.shape
    (tmp_path / "x.heic").write_bytes((tmp_path / "x.heic").read_bytes()[:200])
    assert refused(tmp_path / "x.heic").startswith("cannot be read (")
