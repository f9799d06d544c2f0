"""xpnet draw, as a user meets it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.export.models import made
from tests.export.pages import drawer
from xpnet.cli import draw, main

pytestmark = pytest.mark.usefixtures("own_directory")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What the browser was asked to open; there is one."""
    found: list[str] = []

    def opens(url: str) -> bool:
        found.append(url)
        return True

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("webbrowser.open_new_tab", opens)
    monkeypatch.setattr(draw, "user_cache", lambda: tmp_path / "cache")
    return found


def test_it_opens_a_page_of_the_newest_run(
    patterns: str, opened: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--device", "cpu", "--epochs", "1", "--hidden", "16", "--batch-size", "64"]
    assert main(["train", "--data", patterns, *quick, "--out", "runs/first"]) == 0
    capsys.readouterr()
    assert main(["draw"]) == 0
    out, err = capsys.readouterr()
    page = tmp_path / "cache" / "pages" / "first.html"
    assert out == f"{page}\n"
    assert opened == [page.as_uri()]
    assert "using runs/first" in err.replace("\\", "/")
    text = page.read_text(encoding="utf-8")
    assert re.search(r"test accuracy \d+\.\d\d %", text)
    assert '"example":"Test digit"' in text
    assert main(["draw", "runs/first"]) == 0  # replaces it
    Path(patterns).unlink()
    assert main(["draw", "runs/first"]) == 0
    assert '"examples":null' in page.read_text(encoding="utf-8")


def test_several_models_are_one_page(opened: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawer().save("a.safetensors")
    drawer(seed=1).save("b.safetensors")
    assert main(["draw", "a.safetensors", "b.safetensors"]) == 0
    page = tmp_path / "cache" / "pages" / "a+b.html"
    assert capsys.readouterr().out == f"{page}\n"
    assert "2 networks, 784-12-10 relu" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("why", ["no display", "no browser"])
def test_where_there_is_no_browser_it_says_where_the_page_is(
    why: str, opened: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made().save("table.safetensors")
    if why == "no display":
        monkeypatch.setattr("sys.platform", "linux")
        for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
            monkeypatch.delenv(name, raising=False)
    else:
        monkeypatch.setattr("webbrowser.open_new_tab", lambda url: False)
    assert main(["draw", "table.safetensors"]) == 0
    out, err = capsys.readouterr()
    assert Path(out.strip()).is_file()
    assert err.endswith("there is no browser here: open this file in one\n")
    assert opened == []


def test_a_snap_finds_the_page_beside_the_run(
    opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its browsers may not read hidden folders, such as ~/.cache."""
    Path("run").mkdir()
    made().save("run/model.safetensors")
    monkeypatch.setattr(draw, "user_cache", lambda: tmp_path / ".cache" / "xpnet")
    for snaps, page in (
        (tmp_path / "none", tmp_path / ".cache/xpnet/pages/run.html"),
        (tmp_path, Path("run/run.html")),
    ):
        monkeypatch.setattr(draw, "SNAPS", snaps)
        assert main(["draw", "run"]) == 0
        assert capsys.readouterr().out == f"{page}\n"
        assert opened.pop() == (tmp_path / page).as_uri()


def test_what_it_refuses(fails: Callable[..., str], opened: list[str]) -> None:
    made(sizes=(300, 4)).save("wide.safetensors")
    assert "at most 200 features" in fails(2, "draw", "wide.safetensors")
    assert "no such file" in fails(1, "draw", "missing.safetensors")
    assert "no run is named" in fails(2, "draw")
    assert opened == []
