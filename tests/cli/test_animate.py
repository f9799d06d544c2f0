"""xpnet animate: what it prints and writes, and what it refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest

from xpnet.cli import main

pytest.importorskip("matplotlib", reason="the pictures are matplotlib's: pip install '.[plot]'")

pytestmark = pytest.mark.usefixtures("own_directory")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> str:
    """The directory of a run on moons."""
    assert main(["train", "--data", "moons", "--epochs", "1", "--hidden", "8", "--quiet", "--out", "runs/toy"]) == 0
    capsys.readouterr()
    return "runs/toy"


def test_a_film_of_the_newest_run(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["animate", "--frames", "3", "--seconds", "1.5"]) == 0
    out, err = capsys.readouterr()
    path = Path(run, "film.gif")
    assert out.splitlines() == [
        f"{path}: 3 pictures in 1.5 s, {path.stat().st_size:,} bytes",
        "its end is the run's model, bit for bit",
    ]
    assert f"using {Path(run)}" in err
    assert f"training {Path(run)} again: 1 epoch, which took 0.0" in err


def test_another_library_ends_elsewhere_and_a_film_may_be_dark(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    arguments = ["--out", "x.webp", "--frames", "2", "--what", "boundary", "--device", "cpu", "--dark"]
    assert main(["animate", run, *arguments, "--library", "array-api-strict", "--data", "circles"]) == 0
    assert "its end differs from the run's model by " in capsys.readouterr().out
    with Image.open("x.webp") as film:
        assert film.convert("RGB").getpixel((0, 0)) == (21, 24, 28)


def test_what_is_refused(run: str, fails: Callable[..., str]) -> None:
    Path("there.gif").write_text("precious", encoding="utf-8")
    assert "there.gif exists" in fails(2, "animate", run, "--out", "there.gif")
    assert Path("there.gif").read_text(encoding="utf-8") == "precious"
    assert "ends in one of .gif, .webp" in fails(2, "animate", run, "--out", "x.png")
    assert "name one" in fails(2, "animate", f"{run}/model.safetensors")
    assert "filters needs images" in fails(2, "animate", run, "--what", "filters")
    assert '"filters", "boundary", "projection"' in fails(2, "animate", run, "--what", "weights")
    assert "--frames must be in [2, 300], not 1" in fails(2, "animate", run, "--frames", "1")
    assert "'2.5' is not a whole number" in fails(2, "animate", run, "--frames", "2.5")
    assert main(["animate", run, "--out", "there.gif", "--frames", "2", "--force"]) == 0
    assert Path("there.gif").read_bytes().startswith(b"GIF89a")
