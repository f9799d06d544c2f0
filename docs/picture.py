"""Draws the README's picture: `xpnet train` at a terminal, and the page of `xpnet draw` in a browser, as they are.

    XPNET_DATA_DIR=data python docs/picture.py        # the folder of mnist/; needs the group browser, and Chromium

Nothing in it is painted by hand but the digit, which the mouse draws on the page.
"""

import base64
import html
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
STROKES = [(0.68, 0.2), (0.4, 0.2), (0.36, 0.47), (0.53, 0.43), (0.67, 0.55), (0.65, 0.72), (0.48, 0.82), (0.32, 0.74)]
BOTH = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; padding: 28px; width: 1544px; display: grid; gap: 28px; background: #e9e7e1; }}
pre {{ margin: 0; padding: 22px 26px; font: 19px/1.42 monospace;
  background: #1d1f24; color: #e3e5ea; border-radius: 10px; }}
pre b {{ color: #8fd0a0; }}
img {{ width: 1544px; border-radius: 10px; }}
</style><pre>{terminal}</pre><img src="data:image/png;base64,{page}">"""


def said(folder: str, *words: str) -> str:
    """A command as it is typed, and what it prints."""
    command = [sys.executable, "-m", "xpnet", *words]
    here = {name: value for name, value in os.environ.items() if name != "XPNET_DATA_DIR"}
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    text = subprocess.run(command, cwd=folder, env=here, check=True, **pipe).stdout
    return f"<b>$ xpnet {' '.join(words)}</b>\n{html.escape(text.decode())}"


def drawn_on(page: Page) -> bytes:
    """A screenshot of the page with a digit on it."""
    box = page.locator("#paper").bounding_box()
    assert box is not None
    for i, (x, y) in enumerate(STROKES):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=6)
        if not i:
            page.mouse.down()
    page.mouse.up()
    page.wait_for_timeout(500)
    return page.screenshot()


def main() -> None:
    """Train, draw, and put both into docs/xpnet.png."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        (Path(folder) / "data").symlink_to(Path(os.environ["XPNET_DATA_DIR"]).resolve())
        terminal = said(folder, "train", "--out", "runs/mnist").rstrip() + "\n<b>$ xpnet draw</b>"
        said(folder, "export", "runs/mnist", "page.html")
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 600}, device_scale_factor=1.3)
        page.goto(f"file://{folder}/page.html")
        shot = base64.b64encode(drawn_on(page)).decode()
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        page.set_content(BOTH.format(terminal=terminal, page=shot))
        shown = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
        browser.close()
    shown.quantize(128, dither=Image.Dither.NONE).save(HERE / "xpnet.png", optimize=True)


if __name__ == "__main__":
    main()
