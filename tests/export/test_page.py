"""The page's numbers, in a real browser: the same forms, outputs and gradients as Python's.

Chromium is driven by Playwright. Every page that a test opens must say nothing on its console and ask for nothing.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import xpnet
from bench.page import Strokes, answers, inked, redrawn, shown
from tests.export.models import made, rows_for
from tests.export.pages import drawer, model_of
from xpnet.data import Scaling, Split, digits, from_ink
from xpnet.export.layers import rounded
from xpnet.export.page import content
from xpnet.numerics.functional import ACTIVATIONS, LOSSES


@pytest.fixture(scope="module")
def drawings() -> list[Strokes]:
    return redrawn(digits.draw(50, seed=5)[0])


# --- numbers ---------------------------------------------------------------------------------------------------------

# Numbers and how both write them: in digits, to the nearest, a half up.
WRITTEN = [
    (0.0, "0"),
    (-0.0, "0"),
    (0.00012345, "1.23e-4"),
    (0.00099996, "1.00e-3"),
    (0.001, "0.001"),
    (1.50049, "1.5"),
    (-9999.4, "-9999"),
    (9999.6, "10000"),
    (12345.5, "12346"),
    (-12345.5, "-12345"),
    (999_999_999.0, "999999999"),
    (1e9, "1.00e+9"),
    (1.125e9, "1.13e+9"),
    (-1.125e9, "-1.13e+9"),
    (2.5e-320, "2.50e-320"),
    (0.12345, "0.1235"),
    (0.03125, "0.03125"),
    (1.0625, "1.063"),
    (1e300, "1.00e+300"),
]


def test_the_examples_numbers_are_written_as_the_answers(open_page: Callable[..., Any]) -> None:
    values = [*(value for value, _ in WRITTEN), *(10 ** np.random.default_rng(0).uniform(-6, 11, 300)).tolist()]
    values += [-value for value in values[len(WRITTEN) :]]
    model = made(loss="squared-error", dtype="float64", sizes=(6, 4, len(values)))
    page = content(model, examples=Split(rows_for(model, 1), np.array([values])))
    (label,) = model_of(page)["examples"]["labels"]
    found = label.split(", ")
    assert found[: len(WRITTEN)] == [text for _, text in WRITTEN]
    assert found == open_page(page).evaluate("values => values.map(value => plain(value))", values)


ASK = """([model, rows, k]) => {
  const members = model.members.map(unpackedMember);
  return rows.map(row => {
    const { traces, outputs } = answered(members, members.map(() => row));
    return [Array.from(outputs), Array.from(contributions(members, traces, k))];
  });
}"""


def asked(tab: Any, page: bytes, rows: np.ndarray, k: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The outputs for some rows of features, and what spoke for output k, by the page's own functions."""
    outputs, given = zip(*tab.evaluate(ASK, [model_of(page), rows.tolist(), k]), strict=True)
    return np.array(outputs), np.array(given)


@pytest.fixture(scope="module")
def asking(chromium: Any) -> Iterator[Any]:
    """A tab of which only functions are used."""
    with shown(chromium, content(made())) as tab:
        yield tab


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_outputs_are_python_s(activation: str, loss: str, asking: Any) -> None:
    for batch_norm, dtype in ((True, "float32"), (False, "float64")):
        model = made(activation, loss, batch_norm, dtype)
        u = rows_for(model, 20)
        expected = model.outputs(u)
        found, _ = asked(asking, content(model), u)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_spoke_for_an_output_is_the_input_times_its_gradient(activation: str, asking: Any) -> None:
    model = made(activation, dtype="float64")
    u, k, step = rows_for(model, 5), 2, 1e-6
    spread = np.where(np.isinf(model.schema.features.scale), 0, model.schema.features.scale)
    x = np.divide(u - model.schema.features.shift, spread, out=np.zeros(u.shape), where=spread > 0)

    def logit(moved: np.ndarray) -> np.ndarray:
        return model.logits(moved.astype(np.float64))[:, k]

    moves = step * np.diag(spread)
    dx = np.stack([(logit(u + move) - logit(u - move)) / (2 * step) for move in moves], axis=1)
    _, found = asked(asking, content(model), u, k)
    np.testing.assert_allclose(found, x * dx, rtol=0, atol=1e-5)


@pytest.mark.parametrize("loss", ["cross-entropy", "mse-sigmoid", "binary-cross-entropy", "squared-error", "poisson"])
def test_it_is_what_explain_says(loss: str, asking: Any) -> None:
    members = [made("gelu", loss, dtype="float64", seed=seed, targets=Scaling()) for seed in (1, 2)]
    for model in (members[0], xpnet.Ensemble(members)):
        u = rows_for(members[0], 4)
        _, found = asked(asking, content(model), u, 1)
        np.testing.assert_allclose(found, [each.contributions for each in model.explain(u, of=1)], rtol=0, atol=1e-5)


def test_an_ensemble_is_the_mean(asking: Any) -> None:
    members = [made(seed=1), made("tanh", sizes=(6, 4, 3), seed=2), made(batch_norm=True, seed=3)]
    both = xpnet.Ensemble(members)
    u = rows_for(members[0], 10)
    found, given = asked(asking, content(both), u, 1)
    np.testing.assert_allclose(found, both.outputs(u), rtol=0, atol=2e-5)
    alone = [asked(asking, content(member), u, 1)[1] for member in members]
    np.testing.assert_allclose(given, np.mean(alone, axis=0), rtol=0, atol=1e-9)


@pytest.mark.parametrize("bits", [8, 14])
def test_few_bits_are_what_rounded_says(bits: int, asking: Any) -> None:
    model = drawer(sizes=(784, 30, 11, 10))
    page = content(model, quantize="int8" if bits == 8 else None)
    described = model_of(page)
    assert [layer["bits"] for layer in described["members"][0]["layers"]] == [bits] * 3
    unpack = "layers => layers.map(unpackedLayer).map(({ W, b }) => [Array.from(W), Array.from(b)])"
    found = [np.float32(a) for pair in asking.evaluate(unpack, described["members"][0]["layers"]) for a in pair]
    for mine, theirs in zip(found, rounded(model, bits).params, strict=True):
        assert np.array_equal(mine, theirs.ravel())


def test_as_few_bits_as_change_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rng = drawer(sizes=(784, 40, 10)), np.random.default_rng(0)
    W, b = model.params[2:]
    W[:, 1], b[1], b[2:] = W[:, 0] + 0.01 * rng.normal(size=40), b[0], -9  # a close race of the first two classes
    images = digits.draw(200, seed=2)[0]
    expected = model.outputs(images).argmax(axis=1)
    same = rounded(model, 8).outputs(images).argmax(axis=1) == expected
    assert 0 < same.sum() < 200
    for rows, bits in ((same, 8), (~same, 14)):
        assert (
            f"{bits}-bit weights" in model_of(content(model, examples=Split(images[rows], expected[rows])))["colophon"]
        )
    assert "14-bit weights" in model_of(content(model))["colophon"]
    W[:, 1] = W[:, 0] + 1e-6 * rng.normal(size=40)  # closer than 14 bits tell apart
    for one_in, bits in ((1000, 32), (1, 14)):
        monkeypatch.setattr("xpnet.export.page.TIES", one_in)
        assert f"{bits}-bit weights" in model_of(content(model, examples=Split(images, expected)))["colophon"]
    assert "32-bit weights" in model_of(content(drawer()))["colophon"]
    model.params[0][3, 3] = np.nan
    assert "32-bit weights" in model_of(content(model, quantize="int8"))["colophon"]


# --- drawings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "shape"),
    [("mnist", (28, 28)), ("emnist", (28, 28)), ("as-is", (28, 28)), ("mnist", (20, 34)), ("emnist", (64, 50))],
)
def test_drawings_have_python_s_form_bit_by_bit(
    form: str, shape: tuple[int, int], drawings: list[Strokes], open_page: Callable[..., Any]
) -> None:
    model = drawer((shape[0] * shape[1], 12, 10), form, image_shape=shape)
    height, width = (round(280 / max(shape) * side) for side in shape)
    tab = open_page(content(model))
    few = drawings[:15]
    found = answers(tab, few)
    expected = np.stack([from_ink(inked(strokes, height, width), form, shape) for strokes in few])
    assert np.array_equal(found.seen, expected.reshape(len(few), -1))
    np.testing.assert_allclose(found.outputs, model.outputs(expected), rtol=0, atol=1e-3)


@pytest.mark.parametrize("form", ["mnist", "emnist"])
def test_drawings_of_any_size_have_the_form(form: str, open_page: Callable[..., Any]) -> None:
    """Dots, scribbles all over the paper, and what reaches beyond it."""
    rng = np.random.default_rng(3)
    few = [[[(x, y)]] for x, y in rng.uniform(10, 270, (5, 2)).tolist()]
    few += [[list(map(tuple, rng.uniform(-40, 320, (n, 2)).tolist()))] for n in range(2, 12)]
    found = answers(open_page(content(drawer(form=form))), few)
    assert np.array_equal(found.seen, [from_ink(inked(strokes), form).ravel() for strokes in few])


def test_a_network_reads_digits_as_python_does(drawings: list[Strokes], open_page: Callable[..., Any]) -> None:
    images, labels = digits.draw(3000, seed=1)
    config = xpnet.TrainConfig(hidden=(64,), epochs=3, device="cpu", batch_size=32)
    data = xpnet.Dataset("digits", Split(images[:2500], labels[:2500]), Split(images[2500:], labels[2500:]))
    model = xpnet.fit(config.network(784, 10), data, config, progress=False).model
    tab = open_page(content(model, examples=data.test))
    found = answers(tab, drawings)
    seen = np.stack([from_ink(inked(strokes), "mnist") for strokes in drawings])
    expected = model.outputs(seen)
    assert np.array_equal(found.seen, seen.reshape(50, -1))
    assert np.array_equal(found.outputs.argmax(axis=1), expected.argmax(axis=1))
    names = [
        tab.evaluate("strokes => { items = strokes.map(points => ({ points })); return drawNow().name }", strokes)
        for strokes in drawings[:5]
    ]
    assert names == [str(k) for k in expected[:5].argmax(axis=1)]
    right = found.outputs.argmax(axis=1) == digits.draw(50, seed=5)[1]
    assert right.mean() > 0.6  # drawn by a pen that the network has never seen


@pytest.mark.slow
def test_a_thousand_images_of_mnist(mnist: xpnet.Dataset, open_page: Callable[..., Any]) -> None:
    """The default network, redrawn test images: the form bit by bit, every class, outputs within 1e-3, 300 kB."""
    assert mnist.test is not None
    network = xpnet.TrainConfig().network(784, 10)
    model = xpnet.fit(network, mnist, device="cpu", progress=False).model
    page = content(model, examples=mnist.test)
    assert len(page) <= 300_000
    few = redrawn(np.asarray(mnist.test.images[:1000]))
    found = answers(open_page(page), few)
    seen = np.stack([from_ink(inked(strokes), "mnist") for strokes in few])
    expected = model.outputs(seen)
    assert np.array_equal(found.seen, seen.reshape(1000, -1))
    assert np.array_equal(found.outputs.argmax(axis=1), expected.argmax(axis=1))
    assert np.abs(found.outputs - expected).max() < 1e-3
    assert np.mean(found.outputs.argmax(axis=1) == mnist.test.labels[:1000]) > 0.9
