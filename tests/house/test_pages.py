"""The README and the pages of the site: their code runs, and prints what they show."""

from pathlib import Path

import pytest

from xpnet import functional

from .pages import ROOT, blocks, differs, ran

SITE = sorted(path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "learn")
PAGES = [ROOT / "README.md", *SITE]
CODE = [path.relative_to(ROOT).as_posix() for path in PAGES if any(blocks(path.read_text(encoding="utf-8")))]

NEEDS = {
    "sklearn": ("sklearn", "sklearn"),
    "torch": ("torch", "torch"),
    "xpnet tune": ("optuna", "tune"),
    "xpnet.plots": ("matplotlib", "plot"),
    "mpiexec": ("mpi4py", "mpi"),
}
"""What is in the code of a page that needs a package, which, and the extra that brings it."""

SLOW = ("docs/start.md", "docs/tutorials/own-data.md", "docs/tutorials/regression.md")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in CODE])
def test_the_code_of_a_page_runs_and_prints_what_it_shows(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    page = (ROOT / name).read_text(encoding="utf-8")
    code = "\n".join(block.code for block in blocks(page))
    for words, (package, extra) in NEEDS.items():
        if words in code:
            pytest.importorskip(package, reason=f"{package}, of the extra [{extra}], is not installed")
    if "mnist" in code:
        request.getfixturevalue("mnist")
    for block, printed in ran(page, tmp_path):
        if block.shown is not None:
            line = differs(block.shown, printed)
            assert not line, f"{name}, line {block.line}: {line}\n\nprinted was\n\n{printed}"


def test_a_difference_is_seen() -> None:
    assert differs("a 97.8 % in 3.2 s\n", "a  97.6 % in 9.0 s\n") == ""
    assert differs("7 ████████ 20.0 %", "7 ████████▏ 20.1 %") == ""
    assert differs("7 ████████ 20.0 %", "7 ██████ 20.0 %")
    assert differs("7 ████████ 20.0 %", "7 20.0 %")
    assert differs("a\n...\nc\n", "a\nb\nb\nc\n") == ""
    assert differs("runs/20261129-071050-mnist\n", "runs/20261130-080000-mnist\n") == ""
    for shown, printed in (("a 97.8 %", "a 91.6 %"), ("3 rows", "4 rows"), ("a", "b"), ("a", "a\nb"), ("a\nb", "a")):
        assert differs(shown, printed)


def test_every_vjp_is_derived() -> None:
    page = (ROOT / "docs" / "explanation" / "derivations.md").read_text(encoding="utf-8")
    without = {"scale_features", "one_hot", "clip_by_global_norm"}
    for name in set(functional.__all__) - without:
        if name.islower():
            assert f"F.{name}(" in page, f"docs/explanation/derivations.md does not check {name}"


def test_the_front_door_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 900
    assert len(text.splitlines()) <= 120
