"""The forms that pictures are brought into: MNIST's, EMNIST's, and none."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

import xpnet
from tests.data.test_pictures import enlarged, laid, likeness
from xpnet.data import digits, from_ink, read_picture, to_form
from xpnet.data.pictures.locating import ink_of, locate
from xpnet.data.schema import form_of


def ends(image: np.ndarray) -> list[tuple[int, int]]:
    """First and last row, and column, in which there is ink."""
    return [(int(a[0]), int(a[-1])) for a in (np.flatnonzero((image > 64).any(axis)) for axis in (1, 0))]


@pytest.fixture(scope="module")
def pages() -> list[np.ndarray]:
    """Drawn digits, dark on white sheets."""
    rng = np.random.default_rng(1)
    drawn = digits.draw(24, seed=8)[0]
    return [(255 * (1 - laid(enlarged(each, 120), (240, 320), rng=rng))).astype(np.uint8) for each in drawn]


@pytest.mark.parametrize("form", ["mnist", "emnist"])
def test_what_is_brought_into_a_form_has_it(pages: list[np.ndarray], form: str) -> None:
    images = np.stack([to_form(page, form) for page in pages])
    assert form_of(images) == form
    assert (images.max(axis=(1, 2)) == 255).all()
    for image in images:
        assert np.array_equal(to_form(image, form), image)
        assert np.array_equal(to_form(255 - image, form), image)


def test_emnist_s_form(pages: list[np.ndarray]) -> None:
    """24 of 28 pixels, the box in the middle, soft edges; more ink than MNIST's, the same digit."""
    for page in pages:
        image, other = to_form(page, "emnist"), to_form(page)
        sides = [stop - start + 1 for start, stop in ends(image)]
        assert 23 <= max(sides) <= 25
        assert all(abs(start + stop - 27) <= 1 for start, stop in ends(image))
        top, bottom, left, right = (side for pair in ends(other) for side in pair)
        cut = Image.fromarray(other[top : bottom + 1, left : right + 1]).resize(sides[::-1], Image.Resampling.BICUBIC)
        mine = image[ends(image)[0][0] :, ends(image)[1][0] :][: sides[0], : sides[1]]
        assert np.corrcoef(mine.ravel(), np.asarray(cut).ravel())[0, 1] > 0.85


def test_a_picture_of_another_form_is_brought_into_this_one(pages: list[np.ndarray]) -> None:
    for page in pages:
        mnist, emnist = to_form(page), to_form(page, "emnist")
        assert likeness(to_form(emnist), mnist) > 0.9
        assert likeness(to_form(mnist, "emnist"), emnist) > 0.9


@pytest.mark.parametrize("shape", [(56, 56), (14, 14), (64, 64), (40, 28), (28, 50)])
@pytest.mark.parametrize(("form", "box"), [("mnist", 20 / 28), ("emnist", 24 / 28)])
def test_the_box_scales(pages: list[np.ndarray], form: str, box: float, shape: tuple[int, int]) -> None:
    for page in pages[:8]:
        image = to_form(page, form, shape)
        assert (image.shape, image.dtype, image.max()) == (shape, np.uint8, 255)
        shares = [(stop - start + 1) / side for (start, stop), side in zip(ends(image), shape, strict=True)]
        assert abs(max(shares) - box) < 2.5 / min(shape)


# --- as they are -----------------------------------------------------------------------------------------------------


@given(image=hnp.arrays(np.uint8, (28, 28)))
def test_what_has_the_shape_stays_unchanged(image: np.ndarray) -> None:
    assert np.array_equal(to_form(image, "as-is"), image)


def test_colours_become_grey_by_luminance(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    for mode in ("RGB", "RGBA"):
        Image.fromarray(colours).convert(mode).save(tmp_path / "x.png")
        grey = read_picture(tmp_path / "x.png", "as-is")
        assert np.abs(grey - colours @ (0.299, 0.587, 0.114)).max() <= 1


def test_a_larger_picture_lies_within_the_shape(tmp_path: Path) -> None:
    """Its aspect kept, on the border's grey; a light ground becomes dark."""
    shirt = np.full((400, 200), 250, np.uint8)
    shirt[50:350, 20:180] = 60
    Image.fromarray(shirt).save(tmp_path / "x.png")
    found = read_picture(tmp_path / "x.png", "as-is")
    assert (found[:, :7] == 5).all()
    assert (found[:, 21:] == 5).all()
    assert (found[5:23, 10:18] == 195).all()
    assert np.array_equal(to_form(255 - shirt, "as-is"), found)
    assert np.array_equal(to_form(shirt.T, "as-is", (14, 28)), to_form(shirt, "as-is", (28, 14)).T)


def test_a_small_picture_is_enlarged() -> None:
    found = to_form(np.full((7, 14), 90, np.uint8), "as-is")
    assert (found == 90).all()


def test_clothes_are_read_from_files_as_from_arrays(tmp_path: Path) -> None:
    """Filled shapes, as Fashion-MNIST's are, of which the ink would be looked for in vain."""
    rng = np.random.default_rng(0)
    images = np.zeros((40, 28, 28), np.uint8)
    for image in images:
        top, left = rng.integers(1, 10, 2)
        image[top : top + rng.integers(8, 18), left : left + rng.integers(8, 18)] = rng.integers(90, 255)
    for form, options in (("PNG", {}), ("TIFF", {}), ("BMP", {}), ("WEBP", {"lossless": True}), ("GIF", {})):
        for image in images:
            Image.fromarray(image).save(tmp_path / "x", form, **options)
            assert np.array_equal(read_picture(tmp_path / "x", "as-is"), image)


# --- ink ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["mnist", "emnist"])
def test_a_picture_ends_as_its_ink(pages: list[np.ndarray], form: str) -> None:
    for page in pages[:8]:
        located = locate(page)
        assert located is not None
        assert np.array_equal(from_ink(ink_of(located), form), to_form(page, form))


@given(
    ink=hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=30)),
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_ink_is_shrunk_by_the_area_that_it_covers(ink: np.ndarray, shape: tuple[int, int]) -> None:
    """By fractions: each pixel is cut into so many that the result's are made of complete ones."""
    (height, width), (n, k) = ink.shape, shape
    cut = np.repeat(np.repeat(ink, n, axis=0), k, axis=1).reshape(n, height, k, width)
    covered = cut.sum(axis=(1, 3)).tolist()
    exact = [[round(Fraction(255 * part, height * width)) for part in row] for row in covered]
    if ink.any():
        assert np.array_equal(from_ink(ink, "as-is", shape), exact)


@given(ink=hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_any_ink_has_each_form(ink: np.ndarray) -> None:
    for form in ("mnist", "emnist") if ink.any() else ():
        image = from_ink(ink, form)
        assert (image.shape, image.dtype, image.max()) == ((28, 28), np.uint8, 255)


def test_what_is_no_ink() -> None:
    with pytest.raises(xpnet.DataError, match="there is no ink"):
        from_ink(np.zeros((9, 9), bool))
    for shape, dtype in (((9, 9), np.uint8), ((2, 9, 9), bool)):
        with pytest.raises(xpnet.DataError, match="bool"):
            from_ink(np.ones(shape, dtype))
    with pytest.raises(xpnet.ConfigError, match="form"):
        from_ink(np.ones((9, 9), bool), "mnst")


# --- in any form -----------------------------------------------------------------------------------------------------


@given(
    grey=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)),
    form=st.sampled_from(["mnist", "emnist", "as-is"]),
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
)
def test_any_array_is_brought_into_any_form_or_refused(grey: np.ndarray, form: str, shape: tuple[int, int]) -> None:
    before = grey.copy()
    try:
        image = to_form(grey, form, shape)
    except xpnet.DataError:
        assert form != "as-is"
    else:
        assert (image.shape, image.dtype) == (shape, np.uint8)
    assert np.array_equal(grey, before)


def test_unknown_forms_and_shapes(tmp_path: Path) -> None:
    with pytest.raises(xpnet.ConfigError, match="form"):
        read_picture(tmp_path / "x.png", "emnst")
    for shape in ((0, 28), (28, 3000), (28,)):
        with pytest.raises(xpnet.ConfigError, match="shape must be"):
            read_picture(tmp_path / "x.png", "mnist", shape)  # type: ignore[arg-type]
    assert xpnet.read_picture is read_picture
