"""What --help, --version and a mistyped command line say."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import xpnet
from xpnet.cli import COMMANDS, main
from xpnet.cli.help import EXAMPLES, TAKE_SETTINGS
from xpnet.cli.settings import flag_name
from xpnet.training.config import SETTINGS


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def flags_in(text: str) -> set[str]:
    return set(re.findall(r"^│ (--[\w-]+)", text, re.M))


def test_every_command_has_examples_of_itself() -> None:
    assert {name.partition(" ")[0] for name in EXAMPLES} == {"", *COMMANDS}
    for name, examples in EXAMPLES.items():
        assert examples
        for example in examples:
            assert example.startswith(f"xpnet {name}".rstrip())
            assert len(example) <= 76, "a line of the terminal"


@pytest.mark.parametrize("name", ["list", "download", "show", "split"])
def test_commands_of_data_have_their_own_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = re.findall(r"^  \$ (.*)", printed(capsys, "data", name, "--help"), re.M)
    assert tuple(shown) == EXAMPLES[f"data {name}"]


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_come_before_the_flags(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, name, "--help")
    assert f"  $ {EXAMPLES[name][0]}\n" in text
    assert text.index("  $ xpnet") < text.index("╭─")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_flags_of_every_example_exist(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    known: set[str] = set()
    for example in EXAMPLES[name]:
        words = example.split()
        known |= set(re.findall(r"--[\w-]+", printed(capsys, *words[1 : 2 + (name == "data")], "--help-all")))
        assert {word for word in words if word.startswith("--")} <= known, example


@pytest.mark.parametrize("name", sorted(TAKE_SETTINGS))
def test_help_shows_the_common_settings_and_help_all_all_of_them(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    few, everything = printed(capsys, name, "--help"), printed(capsys, name, "--help-all")
    common = {flag_name(n) for n, setting in SETTINGS.items() if setting.common}
    rare = {flag_name(n) for n in SETTINGS} - common
    assert not rare & flags_in(few)
    assert flags_in(few) < flags_in(everything)
    assert f"xpnet {name} --help-all shows all settings." in few
    assert "--help-all shows" not in everything
    if name == "train":
        assert common <= flags_in(few)
        assert common | rare <= flags_in(everything)
        assert few.count("\n") < 80


def test_the_optimizer_s_own_rate_is_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(re.sub("[│\n]", " ", printed(capsys, "train", "--help")).split())
    assert "0.15 for nesterov, 0.001 for rmsprop, 0.001 for adam" in text


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_version(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, flag) == f"xpnet {xpnet.__version__}\n"


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("nothing", "unknown command 'nothing'; xpnet --help lists them"),
        ("evaluat", "unknown command 'evaluat'; did you mean 'evaluate'? xpnet --help lists them"),
    ],
)
def test_an_unknown_command(word: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 2
    assert capsys.readouterr().err == f"xpnet: error: {line}\n"


def test_completion_is_installed_for_the_shell(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "SHELL": "/bin/bash", "XDG_DATA_HOME": str(tmp_path / "data")}
    command = [sys.executable, "-m", "xpnet", "--install-completion"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (script,) = (path for path in tmp_path.rglob("*") if path.is_file() and path.name == "xpnet")
    text = script.read_text(encoding="utf-8")
    assert all(name in text for name in COMMANDS)
    assert "--batch-size" in text


def test_an_interruption_while_it_starts_is_one_line(tmp_path: Path) -> None:
    """Ctrl-C while the modules of the command line are still being imported."""
    (tmp_path / "cyclopts.py").write_text(
        f"import os; os.kill({'os.getpid()'}, {int(signal.SIGINT)})\n", encoding="utf-8"
    )
    root = str(Path(xpnet.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), root])}
    command = [sys.executable, "-m", "xpnet", "train"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "xpnet: interrupted\n")


def test_a_program_that_has_loaded_pydantic_is_parsed_alike(patterns: str) -> None:
    """With it in the process, cyclopts compares what a converter made with the annotation."""
    pytest.importorskip("pydantic", reason="comes with wandb and mlflow, of the extras of these names")
    numbers = ["--hidden", "7", "5", "--lr", "0.1", "--seed", "3", "--epochs", "1"]
    others = ["--augment", "rotation=5", "--no-graph", "--out", "run", "--quiet"]
    assert main(["train", "--data", patterns, *numbers, *others]) == 0
    config = Path("run/config.toml").read_text(encoding="utf-8")
    assert "rotation = 5" in config
    assert "graph = false" in config
