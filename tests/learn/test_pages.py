"""The lessons' pages: one for each, with its question and its exercise, and what they say of the package is true."""

import functools
import importlib
import re
from pathlib import Path

import pytest

from xpnet.learn import __main__ as program
from xpnet.learn.checking import examine
from xpnet.learn.lessons import LESSONS

from .learner import ANSWERS, answered

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "learn"
PAGES = sorted(FOLDER.glob("[1-8]-*.md"))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page(path: Path) -> None:
    number = int(path.name[0])
    page = path.read_text(encoding="utf-8")
    assert page.startswith(f"# Lesson {number}: {LESSONS[number].title}\n\n**The idea: ")
    assert f"python -m xpnet.learn {number}\n" in page
    assert page.count("<details>") == page.count("</details>") == page.count("## A question") == 1
    assert 500 < len(page.split()) < 1000  # five to ten minutes, with the equations
    for block in re.findall(r"^```\w+\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        assert max(map(len, block.splitlines())) <= 80  # what the site has room for
    for link in re.findall(r"\]\((\S+\.md)\)", page):
        assert (FOLDER / link).exists()
    for name in re.findall(r"\{py:\w+\}`(xpnet\.\S+)`", page):
        assert functools.reduce(getattr, name.split(".")[1:], importlib.import_module("xpnet")) is not None
    for file in re.findall(r"`(xpnet/\S+\.py)`", page):
        assert (ROOT / file).exists()


def test_there_is_a_page_for_each_lesson() -> None:
    assert [int(path.name[0]) for path in PAGES] == list(LESSONS)
    contents = (FOLDER / "index.md").read_text(encoding="utf-8")
    assert all(f"\n{path.stem}\n" in contents for path in PAGES)


def test_the_verdict_that_the_front_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(program, "check", examine)
    monkeypatch.setenv("COLUMNS", "80")
    Path("exercise_3.py").write_text(answered(3, ANSWERS[3]).replace("x.T @ dy", "dy.T @ x"))
    assert program.main(["3"]) == 1
    shown = re.search(r"```text\n(.*?)```", (FOLDER / "index.md").read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    assert shown[1] == capsys.readouterr().out
