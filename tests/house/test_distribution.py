"""The wheel: what is in it, what an index of packages shows of it, and that other packages are checked against it."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

import pytest

from xpnet import __version__

ROOT = Path(__file__).parents[2]
ADDRESSES = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
SOURCE = ADDRESSES["Source"]
PACKAGING = "hatchling, of the group package, is not installed"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of what the wheel would install."""
    pytest.importorskip("hatchling", reason=PACKAGING)
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder / "dist")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = (folder / "dist").iterdir()
    with zipfile.ZipFile(built) as packed:
        packed.extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def metadata(wheel: Path) -> Message:
    return BytesParser().parsebytes((wheel / f"xpnet-{__version__}.dist-info" / "METADATA").read_bytes())


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    assert {path.name for path in wheel.iterdir()} == {"xpnet", f"xpnet-{__version__}.dist-info"}
    files = {path.relative_to(wheel / "xpnet").as_posix() for path in (wheel / "xpnet").rglob("*") if path.is_file()}
    own = {path.relative_to(ROOT / "xpnet").as_posix() for path in (ROOT / "xpnet").rglob("*") if path.is_file()}
    assert files == {name for name in own if "__pycache__" not in name}
    assert "py.typed" in files


def test_the_description_s_links_lead_somewhere(metadata: Message) -> None:
    """From every page, that is, not only from the repository's."""
    text = metadata.get_payload(decode=True)
    assert isinstance(text, bytes)
    targets = re.findall(r"\]\(([^)\s]+)", re.sub(r"```.*?```|`[^`\n]*`", "", text.decode(), flags=re.DOTALL))
    assert len(targets) > 3
    assert [target for target in targets if not re.match(r"https://|#", target)] == []
    own = [target.removeprefix(SOURCE + "/") for target in targets if target.startswith(SOURCE)]
    paths = [re.sub(r"^(blob|raw)/main/|#.*", "", target) for target in own]
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_links_are_made_absolute_but_code_is_left_alone() -> None:
    pytest.importorskip("hatchling", reason=PACKAGING)
    sys.path.insert(0, str(ROOT))
    try:
        from hatch_build import absolute
    finally:
        sys.path.remove(str(ROOT))
    text = """[a](docs/a.md#b "B"), [b](#b), [c](https://example.org/c.md), ![d](./docs/d.png), `f[0](x)`
[![e](docs/e.SVG)](docs/e.md) <img src="docs/f.webp"> <a href="LICENSE">
```python
vjps[0](dy)
```
"""
    page, picture = "https://h/x/blob/main/", "https://h/x/raw/main/"
    expected = text.replace("(docs/a", f"({page}docs/a").replace("(docs/e.md", f"({page}docs/e.md")
    expected = expected.replace("./docs/d", f"{picture}docs/d").replace("docs/e.SVG", f"{picture}docs/e.SVG")
    expected = expected.replace("docs/f", f"{picture}docs/f").replace("LICENSE", f"{page}LICENSE")
    assert absolute(text, "https://h/x") == expected


def test_the_project_has_one_address(metadata: Message) -> None:
    assert {line.partition(", ")[2] for line in metadata.get_all("Project-URL", [])} == set(ADDRESSES.values())
    assert all(address.startswith(SOURCE) for address in ADDRESSES.values())
    for path in (ROOT / "CITATION.cff", *ROOT.glob("*.md"), *(ROOT / ".github").rglob("*.*")):
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"https://(?:www\.)?git(?:hub|lab)[^\s)\"'>]*/xpnet\b", text)) <= {SOURCE}, path


def test_the_changelog_and_the_citation_are_of_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", text, re.MULTILINE) == [__version__]
    assert re.findall(r"^repository-code: (.+)$", text, re.MULTILINE) == [SOURCE]
    newest, date = re.findall(
        r"^## (\d\S+) - (\S+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )[0]
    assert (newest, [date]) == (__version__, re.findall(r"^date-released: (.+)$", text, re.MULTILINE))


CONSUMER = ROOT / "tests" / "house" / "consumer.py"


def checked(site: Path, program: str, folder: Path) -> str:
    """What mypy --strict says of a program that finds xpnet among the packages of a Python; "" if nothing."""
    pytest.importorskip("mypy", reason="mypy, of the group lint, is not installed")
    import numpy as np

    python = folder / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(python)], check=True)
        (packages,) = python.rglob("site-packages")
        (packages / "consumed.pth").write_text(f"{site}\n", encoding="utf-8")
        # By itself, since an installed xpnet may lie beside it.
        (packages / "numpy").symlink_to(Path(np.__file__).parent)
    (folder / "consumer.py").write_text(program, encoding="utf-8")
    (executable,) = [path for path in python.rglob("python*") if path.stem == "python" and path.is_file()][:1]
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--python-executable", str(executable)]
    bare = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run([*command, "consumer.py"], cwd=folder, env=bare, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.slow
def test_other_packages_are_type_checked_against_it(wheel: Path, tmp_path: Path) -> None:
    program = CONSUMER.read_text(encoding="utf-8")
    (wheel / "xpnet" / "py.typed").rename(wheel / "untyped")
    try:
        assert "import-untyped" in checked(wheel, program, tmp_path)
    finally:
        (wheel / "untyped").rename(wheel / "xpnet" / "py.typed")
    assert checked(wheel, program, tmp_path) == ""
    wrong = program.replace("epochs=5", 'epochs="5"').replace("model.predict(X)", "model.foretell(X)")
    assert set(re.findall(r"consumer.py:\d+: error: .*\[([\w-]+)\]", checked(wheel, wrong, tmp_path))) == {
        "arg-type",
        "attr-defined",
    }


def test_the_program_that_is_type_checked_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    ran = subprocess.run([sys.executable, str(CONSUMER)], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout == "(64,) answers; a step by hand makes the loss lower: True\n"
