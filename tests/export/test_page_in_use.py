"""The page in use, in a real browser: by hand, by finger, by keys, with any model's texts, in light and darkness."""

import base64
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xpnet
from bench.page import shown
from tests.export.models import made, rows_for
from tests.export.pages import ONE, SEVEN, certain, draw, drawer, model_of
from xpnet.data import Scaling, Schema, Split, digits
from xpnet.data.schema import PIXELS
from xpnet.errors import ConfigError
from xpnet.export.page import content
from xpnet.model import UNSURE

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
HOSTILE = "</script><script>window.x=1</script><img src=x onerror=window.x=1>"


# --- by hand ---------------------------------------------------------------------------------------------------------


def strokes_on(tab: Any) -> list[list[list[float]]]:
    found: list[list[list[float]]] = tab.evaluate("onPaper().strokes")
    return found


def test_the_mouse_draws_where_it_is(open_page: Callable[..., Any]) -> None:
    tab = open_page(content(drawer()))
    assert tab.locator("#undo").is_disabled()
    assert tab.locator("#said").inner_text().strip() == ""
    draw(tab, SEVEN, ONE)
    assert len(strokes_on(tab)) == 2
    first = strokes_on(tab)[0]
    assert np.abs(np.array(first[0]) - (70, 56)).max() < 1
    assert np.abs(np.array(first[-1]) - (126, 224)).max() < 1
    assert len(first) > 5
    assert tab.evaluate("seenNow().some(share => share > 0)")
    answer = tab.locator("#live").inner_text()
    assert tab.locator("#name").inner_text() in answer
    tab.locator("#undo").click()
    assert strokes_on(tab) == [first]
    tab.locator("#clear").click()
    assert strokes_on(tab) == []
    assert tab.locator("#name").inner_text() == ""
    tab.locator("#undo").click()  # clearing is undone, too
    assert strokes_on(tab) == [first]


def test_the_right_button_and_a_second_finger_do_not_draw(open_page: Callable[..., Any]) -> None:
    tab = open_page(content(drawer()))
    tab.locator("#paper").click(button="right")
    assert strokes_on(tab) == []
    tab.evaluate(
        """() => {
          const at = { clientX: 99, clientY: 99 };
          const fire = (type, id) => paper.dispatchEvent(new PointerEvent(type, { ...at, pointerId: id }));
          paper.setPointerCapture = () => {};
          fire("pointerdown", 1); fire("pointerdown", 2); fire("pointermove", 2); fire("pointerup", 2);
          fire("pointermove", 1); fire("pointercancel", 1); fire("pointermove", 1);
        }"""
    )
    assert [len(points) for points in strokes_on(tab)] == [2]


def test_a_finger_draws_and_the_page_stays_where_it_is(open_page: Callable[..., Any]) -> None:
    tab = open_page(content(drawer()), **PHONE)
    box = tab.locator("#paper").bounding_box()
    touch = tab.context.new_cdp_session(tab)

    def send(kind: str, *points: dict[str, float]) -> None:
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": list(points)})

    x = box["x"] + box["width"] / 2
    send("touchStart", {"x": x, "y": box["y"] + 0.8 * box["height"]})
    for share in np.linspace(0.75, 0.2, 8).tolist():
        send("touchMove", {"x": x, "y": box["y"] + share * box["height"]})
    send("touchEnd")
    (stroke,) = strokes_on(tab)
    assert len(stroke) > 3
    assert abs(stroke[0][1] - 224) < 2
    assert abs(stroke[-1][1] - 56) < 2
    assert tab.evaluate("scrollY") == 0


def test_keys_draw(open_page: Callable[..., Any]) -> None:
    tab = open_page(content(drawer()))
    tab.locator("#paper").focus()
    for key in ("Shift+ArrowUp", "Space", *["ArrowDown"] * 5, "Shift+ArrowDown", "Space", "ArrowLeft"):
        tab.keyboard.press(key)
    (stroke,) = strokes_on(tab)
    assert np.allclose(stroke[0], (140, 112))
    assert np.allclose(stroke[-1], (140, 112 + 5 * 7 + 28))
    assert tab.locator("#live").inner_text() != ""
    tab.keyboard.press("Space")
    tab.keyboard.press("Backspace")
    assert len(strokes_on(tab)) == 1
    tab.keyboard.press("Control+z")
    assert strokes_on(tab) == []
    tab.keyboard.press("Space")
    tab.keyboard.press("Escape")
    assert strokes_on(tab) == []
    assert tab.evaluate("document.activeElement.id") == "paper"
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "undo"  # the paper is no trap


def test_keys_of_the_browser_stay_its_own(open_page: Callable[..., Any]) -> None:
    tab = open_page(content(drawer()))
    kept = (
        """init => !paper.dispatchEvent(new KeyboardEvent("keydown", { ...init, bubbles: true, cancelable: true }))"""
    )
    for key in ("ArrowLeft", "ArrowRight"):
        assert tab.evaluate(kept, {"key": key})
        for control in ("altKey", "ctrlKey", "metaKey"):
            assert not tab.evaluate(kept, {"key": key, control: True})


def test_an_empty_paper_is_told_and_has_the_focus_of_the_button_that_emptied_it(open_page: Callable[..., Any]) -> None:
    tab = open_page(content(drawer()))
    for empty in ("#undo", "#clear", "Control+z", "Escape"):
        tab.evaluate("items = []")
        draw(tab, ONE)
        assert tab.locator("#live").inner_text() != "the paper is empty"
        tab.locator(empty if empty.startswith("#") else "#paper").focus()
        tab.keyboard.press("Enter" if empty.startswith("#") else empty)
        assert tab.locator("#live").inner_text() == "the paper is empty"
        assert tab.evaluate("document.activeElement.id") == "paper"


def test_examples_are_those_of_the_test_split(open_page: Callable[..., Any]) -> None:
    images, labels = digits.draw(60, seed=9)
    tab = open_page(content(drawer(), examples=Split(images, labels)))
    button = tab.locator("#drawing .example")
    assert button.inner_text() == "Test digit"
    seen, captions = [], []
    for _ in range(20):
        button.click()
        seen.append(tab.evaluate("Array.from(seenNow(), share => Math.round(255 * share))"))
        captions.append(tab.locator("#drawing .caption").inner_text())
    indices = [int(caption.split()[2].rstrip(",")) for caption in captions]
    assert captions == [f"Test example {i}, labelled {labels[i]}" for i in indices]
    assert sorted(labels[indices].tolist()) == sorted([*range(10)] * 2)
    assert np.array_equal(seen, images[indices].reshape(20, -1))
    draw(tab, ONE)  # on top of it
    assert not np.array_equal(tab.evaluate("Array.from(seenNow(), share => Math.round(255 * share))"), seen[-1])
    tab.locator("#undo").click()
    assert tab.evaluate("Array.from(seenNow(), share => Math.round(255 * share))") == seen[-1]


def test_pixels_that_are_no_bytes_are_shown_too(open_page: Callable[..., Any]) -> None:
    """White at 16, as scikit-learn's digits have it, and fractions of 1."""
    rng = np.random.default_rng(0)
    model = drawer((64, 9, 10), "as-is", image_shape=(8, 8), features=Scaling("pixels", None, 16.0))
    whole = rng.integers(0, 17, (30, 8, 8)).astype(np.float32)
    for images in (whole, whole / 16):
        tab = open_page(content(model, examples=Split(images, np.arange(30) % 10)))
        tab.locator("#drawing .example").click()
        found = tab.evaluate("Array.from(answered(members, inputsOf(seenNow())).outputs)")
        np.testing.assert_allclose(found, model.outputs(images[:1])[0], atol=2e-3)
        draw(tab, ONE)  # does not replace it, as it would be brought into a form
        assert tab.evaluate("seenNow()[0] === pictures[0][0]")


# --- words -----------------------------------------------------------------------------------------------------------


def test_unsure_below_the_bound_that_predict_has(open_page: Callable[..., Any]) -> None:
    for p, expected in ((UNSURE + 0.002, "58.2 %"), (UNSURE - 0.002, "57.8 %")):
        tab = open_page(content(certain(np.log([1 - p, p]).tolist(), classes=("no", "yes"))))
        draw(tab, ONE)
        unsure = "unsure, perhaps " if p < UNSURE else ""
        assert " ".join(tab.locator("#said").inner_text().split()) == f"{unsure}yes {expected}"
        assert tab.locator("#live").inner_text() == f"{unsure}yes {expected}"


def test_what_other_outputs_are_called(open_page: Callable[..., Any]) -> None:
    for model, said in (
        (certain([3.0, -3.0, 1.0], "binary-cross-entropy", classes=("a", "b", "c")), "a, c"),
        (certain([-3.0, -3.0], "binary-cross-entropy", classes=("a", "b")), "none"),
        (certain([0.0, 2.0], "mse", classes=("a", "b")), "b output 2"),
        (certain([7.25], "squared-error", targets=Scaling()), "7.25"),
        (certain([7.25, 2e9], "squared-error", targets=Scaling(), classes=("a", "b")), "a 7.25, b 2.00e+9"),
        (certain([1.5, 2.5], "squared-error", targets=Scaling()), "output 0 1.5, output 1 2.5"),
        (certain([5049876, -123456.7], "squared-error", targets=Scaling()), "output 0 5049876, output 1 -123457"),
        (certain([np.nan, 0.0]), "not a number"),
    ):
        tab = open_page(content(model))
        draw(tab, ONE)
        assert " ".join(tab.locator("#said").inner_text().split()) == said


def test_ten_bars_of_many_classes_and_a_bar_is_explained(open_page: Callable[..., Any]) -> None:
    model = drawer((784, 12, 26), classes=tuple("abcdefghijklmnopqrstuvwxyz"))
    tab = open_page(content(model))
    assert tab.title() == "Draw a letter"
    draw(tab, SEVEN)
    outputs = np.array(tab.evaluate("Array.from(answered(members, inputsOf(seenNow())).outputs)"))
    order = np.argsort(-outputs)[:10]
    rows = [text.split() for text in tab.locator("#bars button").all_inner_texts()]
    assert [row[0] for row in rows] == [model.classes[k] for k in order]
    assert tab.locator("#choose").inner_text().startswith("The 10 most probable of 26 are shown. Choose a bar")
    ten = open_page(content(drawer()))
    draw(ten, SEVEN)
    assert ten.locator("#choose").inner_text().startswith("Choose a bar")
    assert [row[1] for row in rows] == [f"{100 * outputs[k]:.1f}" for k in order]
    assert tab.locator("#why figcaption").inner_text().endswith(model.classes[order[0]])
    tab.locator("#bars button").nth(3).click()
    assert tab.locator("#why figcaption").inner_text().endswith(model.classes[order[3]])
    assert tab.locator('#bars [aria-pressed="true"]').count() == 1
    assert tab.locator("#name").inner_text() == model.classes[order[0]]


def test_texts_of_a_hostile_model_stay_texts(open_page: Callable[..., Any]) -> None:
    names = tuple(f"{HOSTILE}{i}" for i in range(3))
    columns = (HOSTILE, "<!--", "{{script}}", "\u202e\u2028\ud800", "a", "b")
    table = made(data=HOSTILE, classes=names, columns=columns)
    rows = Split(rows_for(table, 9), np.array(names)[np.arange(9) % 3])
    drawn = drawer((784, 5, 3), data=HOSTILE, classes=names)
    pictures = Split(digits.draw(9, seed=1)[0], np.array(names)[np.arange(9) % 3])
    for model, examples in ((table, rows), (drawn, pictures)):
        page = content(model, examples=examples, about={HOSTILE: HOSTILE})
        assert page.count(b"<script") == 2
        tab = open_page(page)
        tab.locator(".example:visible").click()
        assert tab.evaluate("typeof window.x") == "undefined"
        assert tab.locator("img").count() == 0
        assert tab.locator("script").count() == 2
        assert HOSTILE in tab.locator("#bars").inner_text()
        assert HOSTILE in tab.locator("#colophon").inner_text()
        assert HOSTILE in tab.locator(".caption:visible").inner_text()


def test_scores_are_called_as_the_commands_call_them() -> None:
    for about, said in (
        ({"test_r2": -0.027721}, "test R2 -0.0277"),
        ({"test_accuracy": 0.98}, "test accuracy 98.00 %"),
    ):
        assert model_of(content(made(), about=about))["colophon"].startswith(f"{said} · ")


def test_the_policy_refuses_what_is_injected(chromium: Any) -> None:
    with shown(chromium, content(drawer())) as tab:
        said: list[str] = []
        tab.on("console", lambda message: said.append(message.text))
        tab.evaluate("document.body.setAttribute('onclick', 'window.x = 1')")
        tab.evaluate("document.body.appendChild(document.createElement('script')).textContent = 'window.x = 1'")
        tab.evaluate("new Image().src = 'https://example.org/x.png'")
        tab.locator("#title").click()
        assert tab.evaluate("typeof window.x") == "undefined"
        assert sum("Content Security Policy" in line for line in said) >= 3
    policy = re.findall(rb'Content-Security-Policy" content="(.*?)"', content(drawer()))[0].decode()
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


def test_a_page_tells_nobody_s_folders() -> None:
    for data in ("/home/someone/secret/x.csv", "C:\\Users\\someone\\x.csv"):
        page = content(made(data=data))
        assert b"someone" not in page
        assert model_of(page)["about"].endswith(", trained on x.csv")


# --- looks -----------------------------------------------------------------------------------------------------------

CONTRAST = """() => {
  const channel = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const luminance = text => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map(channel);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = element => {
    const own = getComputedStyle(element).backgroundColor;
    return /, 0\\)$/.test(own) ? ground(element.parentElement) : own;
  };
  return [...document.querySelectorAll("*")]
    .filter(e => e.checkVisibility() && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
    .filter(e => !e.closest("head, script, style, button:disabled"))
    .map(e => [luminance(getComputedStyle(e).color), luminance(ground(e))].sort((a, b) => b - a))
    .map(([high, low]) => (high + 0.05) / (low + 0.05));
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_is_read_easily_in_light_and_in_darkness(scheme: str, open_page: Callable[..., Any]) -> None:
    grounds = {}
    for model in (drawer(), made()):
        tab = open_page(content(model), color_scheme=scheme, reduced_motion="reduce")
        if model.schema.form == "mnist" and tab.locator("#paper").is_visible():
            draw(tab, SEVEN)
        found = tab.evaluate(CONTRAST)
        assert len(found) > 15
        assert min(found) >= 4.5
        grounds[tab.evaluate("getComputedStyle(document.documentElement).backgroundColor")] = True
    assert list(grounds) == [{"light": "rgb(247, 245, 240)", "dark": "rgb(21, 23, 27)"}[scheme]]


@pytest.mark.parametrize("width", [320, 360, 700, 1280])
def test_nothing_is_wider_than_the_screen(width: int, open_page: Callable[..., Any]) -> None:
    long = "Pneumonoultramicroscopicsilicovolcanoconiosis"
    drawn = drawer((784, 300, 10, 4), classes=(long, long + " 2", "a", "b"), data=long)
    table = made(sizes=(6, 3), columns=(long, *"abcde"), classes=(long, "b", "c"), data=long)
    for model in (drawn, table):
        tab = open_page(content(model), viewport={"width": width, "height": 640})
        if model is drawn:
            draw(tab, SEVEN)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_a_change_of_scheme_repaints(open_page: Callable[..., Any]) -> None:
    tab = open_page(content(drawer()), color_scheme="light")
    draw(tab, SEVEN)
    before = tab.locator("#paper").screenshot()
    tab.emulate_media(color_scheme="dark")
    tab.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert tab.locator("#paper").screenshot() != before


@pytest.mark.parametrize("viewport", [{"width": 1280, "height": 720}, {"width": 390, "height": 844}])
@pytest.mark.parametrize("shape", [(40, 10), (10, 40), (28, 28)])
def test_pictures_of_any_shape_fit_on_the_screen(
    shape: tuple[int, int], viewport: dict[str, int], open_page: Callable[..., Any]
) -> None:
    height, width = shape
    tab = open_page(content(drawer((height * width, 5, 3), "as-is", image_shape=shape)), viewport=viewport)
    draw(tab, ONE)
    for each in ("#paper", "#seen canvas", "#why canvas"):
        box = tab.locator(each).bounding_box()
        assert box["height"] <= 0.71 * viewport["height"]
        assert box["width"] / box["height"] == pytest.approx(width / height, rel=0.03)
        assert max(box["width"], box["height"]) > 150  # and are not small


def test_everything_has_a_name_for_a_screen_reader(open_page: Callable[..., Any]) -> None:
    for model in (drawer(), made()):
        tab = open_page(content(model))
        if tab.locator("#paper").is_visible():
            draw(tab, SEVEN)
        names = tab.evaluate(
            """() => [...document.querySelectorAll("canvas, button, input")].filter(e => e.checkVisibility())
              .map(e => e.getAttribute("aria-label") || e.labels?.[0]?.textContent || e.textContent)"""
        )
        assert all(names)
        assert tab.locator("[aria-live=polite]").count() == 1


# --- tables ----------------------------------------------------------------------------------------------------------


def table(**schema: Any) -> tuple[xpnet.Model, Split]:
    """A network of three features, and ten rows for it: fractions, whole numbers, and a constant."""
    rows = np.c_[np.linspace(-1, 1, 10) ** 3, np.arange(10) * 3, np.full(10, 4.0)].astype(np.float32)
    features = Scaling("standard", np.array([0, 15, 4], np.float32), np.array([0.5, 8, np.inf], np.float32))
    model = made(sizes=(3, 5, 2), features=features, columns=("size", "count", "flat"), **schema)
    return model, Split(rows, np.arange(10) % 2)


def test_sliders_have_the_ranges_of_the_data(open_page: Callable[..., Any]) -> None:
    model, rows = table()
    found = model_of(content(model, examples=rows))["features"]
    assert [(each["name"], each["low"], each["high"], each["step"]) for each in found] == [
        ("size", -1, 1, 0.01),
        ("count", 0, 27, 1),
        ("flat", 4, 4, 1),
    ]
    tab = open_page(content(model, examples=rows))
    assert tab.title() == "Ask the network"
    assert not tab.locator("#paper").is_visible()
    sliders = tab.locator("#sliders input[type=range]")
    assert [sliders.nth(i).is_disabled() for i in range(3)] == [False, False, True]
    sliders.nth(1).focus()
    tab.keyboard.press("End")
    tab.locator("#sliders input[type=number]").nth(0).fill("2.5")  # beyond the slider's range
    row = np.array([[2.5, 27, 4]], np.float32)
    assert tab.evaluate("Array.from(row)") == row[0].tolist()
    (expected,) = model.outputs(row).tolist()
    shown_ = [float(text.split()[1]) for text in tab.locator("#bars button").all_inner_texts()]
    np.testing.assert_allclose(shown_, np.multiply(expected, 100), atol=0.051)
    assert tab.locator("#live").inner_text() != ""
    tab.locator(".example:visible").click()
    assert tab.locator("#form .caption").inner_text() == "Test example 0, labelled 0"
    assert tab.evaluate("Array.from(row)") == rows.images[0].tolist()
    tab = open_page(content(model, examples=rows, examples_of="train"))
    tab.locator(".example:visible", has_text="Training example").click()
    assert tab.locator("#form .caption").inner_text() == "Training example 0, labelled 0"
    reasons = tab.locator("#reasons li").all_inner_texts()
    assert {text.split()[0] for text in reasons} == {"size", "count", "flat"}
    tab.locator("#reset").click()
    assert tab.locator("#form .caption").inner_text() == ""


def test_large_labels_and_reasons_are_whole_numbers(open_page: Callable[..., Any]) -> None:
    targets = Scaling("standard", np.array([5e6], np.float32), np.array([2e6], np.float32))
    model = made(loss="squared-error", sizes=(6, 8, 1), targets=targets)
    u = rows_for(model, 3)
    tab = open_page(content(model, examples=Split(u, np.array([5049876.0, 12.5, 0.0], np.float32))))
    tab.locator(".example:visible").click()
    assert tab.locator("#form .caption").inner_text() == "Test example 0, labelled 5049876"
    (explained,) = model.explain(u[:1])
    largest = np.abs(explained.contributions).max()
    assert largest > 1e5
    assert float(tab.locator("#reasons .value").first.inner_text()[1:]) == pytest.approx(largest, abs=1)
    tab.locator(".example:visible").click()
    assert tab.locator("#form .caption").inner_text() == "Test example 1, labelled 12.5"


def test_number_fields_have_room_for_their_numbers(open_page: Callable[..., Any]) -> None:
    u = np.array([[-1.32683, -70919400000, -0.000123456, 101325.37], [0, 7e10, 1e-7, 101324.5]], np.float64)
    model = made(sizes=(4, 3), features=Scaling("none"), dtype="float64")
    tab = open_page(content(model, examples=Split(u, np.array([0, 1]))))
    fields = tab.locator("#sliders input[type=number]")
    for _ in u:
        tab.locator(".example:visible").click()
        np.testing.assert_allclose(
            [float(field.input_value()) for field in fields.all()], tab.evaluate("row"), rtol=1e-3
        )
        for wide, room, appearance in fields.evaluate_all(
            """fields => fields.map(field => {
              const style = getComputedStyle(field), context = document.createElement("canvas").getContext("2d");
              context.font = style.font;
              const room = field.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
              return [context.measureText(field.value).width, room, style.appearance];
            })"""
        ):
            assert wide <= room
            assert appearance == "textfield"  # without arrows, which would cover the last digit
    tab.locator("#sliders input[type=range]").nth(3).press("End")
    assert fields.nth(3).input_value() == "101325.37"


def test_a_cleared_field_shows_again_what_is_asked(open_page: Callable[..., Any]) -> None:
    model, rows = table()
    tab = open_page(content(model, examples=rows))
    field = tab.locator("#sliders input[type=number]").nth(1)
    field.fill("7")
    field.fill("")
    assert field.input_value() == ""  # while it is being typed in
    field.press("Tab")
    assert field.input_value() == "7"
    assert tab.evaluate("row[1]") == 7


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (Scaling("standard", np.array([1, 2, 3], np.float32), np.array([2, 1, 1], np.float32)), (-5, 7, 1)),
        (Scaling("minmax", np.array([1, 2, 3], np.float32), np.array([4, 1, 1], np.float32)), (1, 5, 3)),
        (Scaling("none"), (-3, 3, 0)),
        (PIXELS, (0, 255, 127.5)),
    ],
)
def test_without_data_scaling_tells_the_ranges(features: Scaling, expected: tuple[float, ...]) -> None:
    first = model_of(content(made(sizes=(3, 2), features=features)))["features"][0]
    assert first["name"] == "feature 0"  # as xpnet explain calls it
    assert (first["low"], first["high"]) == expected[:2]
    assert first["start"] == pytest.approx(expected[2], abs=1)


def test_a_regression_says_numbers(open_page: Callable[..., Any]) -> None:
    model = made(loss="squared-error", sizes=(6, 8, 1))
    u = rows_for(model, 12)
    y = np.linspace(0, 1, 12).astype(np.float32)
    tab = open_page(content(model, examples=Split(u, y)))
    tab.locator(".example:visible").click()
    assert float(tab.locator("#name").inner_text()) == pytest.approx(float(model.outputs(u[:1])[0, 0]), rel=1e-3)
    assert tab.locator("#form .caption").inner_text() == "Test example 0, labelled 0"
    assert tab.locator("#bars button").count() == 0
    assert tab.locator("#why figcaption").inner_text() == "What raised and lowered it"


def test_each_of_several_numbers_is_explained_when_it_is_chosen(open_page: Callable[..., Any]) -> None:
    model = made(loss="squared-error", sizes=(6, 8, 3), classes=("low", "high", "other"))
    model.params[-1][1] = 99  # the largest by far
    u = rows_for(model, 2)
    tab = open_page(content(model, examples=Split(u, model.outputs(u))))
    tab.locator(".example:visible").click()
    buttons, caption = tab.locator("#bars button"), tab.locator("#why figcaption")
    rows = [text.split() for text in buttons.all_inner_texts()]
    assert [name for name, _ in rows] == ["low", "high", "other"]
    np.testing.assert_allclose([float(value) for _, value in rows], model.outputs(u[:1])[0], rtol=1e-3)
    assert not tab.locator("#bars .track:visible, #bars .best").count()
    assert caption.inner_text() == "What raised and lowered low"
    buttons.nth(2).click()
    assert caption.inner_text() == "What raised and lowered other"
    tab.locator(".example:visible").click()  # the choice stays
    assert caption.inner_text() == "What raised and lowered other"
    (explained,) = model.explain(u[1:], of="other")
    reasons = [float(text.replace("\N{MINUS SIGN}", "-")) for text in tab.locator("#reasons .value").all_inner_texts()]
    expected = sorted(explained.contributions.ravel().tolist(), key=abs, reverse=True)
    np.testing.assert_allclose(reasons, expected, rtol=5e-3, atol=1e-6)


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="at most 200 features"):
        content(made(sizes=(300, 4)))
    flat = Schema("x", (784,), (), Scaling("pixels", None, 255.0))
    model = made(sizes=(784, 3))
    assert model_of(content(xpnet.Model(model.network, model.params, [], model.backend, flat)))["picture"]


def test_the_page_is_one_file_of_text(tmp_path: Any) -> None:
    path = tmp_path / "model.html"
    xpnet.export.export(drawer(), path)
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?://|\bfetch\(|XMLHttp|import\(|src=", text)
    layer = model_of(text.encode())["members"][0]["layers"][0]
    assert len(base64.b64decode(layer["weights"])) == 4 * 784 * 12
