"""What a learner's file can do to the checker, and what the checker says of it; and the command line."""

import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import xpnet
from xpnet.learn import __main__ as program
from xpnet.learn.checking import Report, check, examine
from xpnet.learn.exercise import Finding
from xpnet.learn.lessons import LESSONS

from .learner import ANSWERS, answered, fault_of, report_of

RIGHT = answered(4, ANSWERS[4])


def only_fault(report: Report) -> Finding:
    """The one finding that is a fault."""
    (fault,) = [finding for finding in report.findings if finding.fault]
    return fault


def changed(old: str, new: str) -> tuple[str, int]:
    """Right answers to lesson 4 with a change, and the line on which it is."""
    assert RIGHT.count(old) == 1
    return RIGHT.replace(old, new), RIGHT[: RIGHT.index(old)].count("\n") + 1


@pytest.mark.parametrize(
    ("new", "fault"),
    [
        ("dz = dy * (z > 0", "Python does not understand this line: '(' was never closed"),
        ("dz = dy * mask", "NameError: name 'mask' is not defined"),
        ("dz = dy * (z > 0).nothing", "AttributeError: 'numpy.ndarray' object has no attribute 'nothing'"),
        ("dz = dy @ z", "the shapes do not fit; here, dy is (4, 3), z is (4, 3)"),
        ("dz = dy.reshape(5, 5)", "ValueError: cannot reshape array of size 12 into shape (5,5); here, dy is (4, 3)"),
        ("dz = dy * dy[:2]", "shapes (4,3) (2,3); here, dy is (4, 3)"),
        ("raise SystemExit", "SystemExit; this ends Python: leave it out"),
        ("dz = ...", "dz is not filled in yet"),
        ("dz = None", "dz is None: is a return missing?"),
        ("dz = dy * ...", "a ... on this line, or one that it needs, is not filled in yet"),
        ("dz = [[1]]", "dz must be an array of numbers, and is a list"),
        ("dz = dy * (z > 0) + 0j", "dz must have real numbers, and has the dtype complex128"),
        ("dz = (dy * (z > 0)).astype(np.float32)", "dz is float32 where everything is float64: leave its dtype alone"),
        ("dz = (dy * (z > 0))[:2]", "dz has the shape (2, 3), and must have (4, 3)"),
        ("dz = dy * (z > 0) / 0.0", "dz[0, 0] is"),
        ("dz = 3 * dy * (z > 0)", "dz is 3 times the right one, everywhere: a factor is wrong or missing"),
        ("def f(): return f()\n        f()", "RecursionError"),
    ],
)
def test_a_fault_has_a_line_and_a_remedy(new: str, fault: str, tmp_path: Path) -> None:
    source, line = changed("dz = dy * (z > 0)", new)
    found = only_fault(report_of(4, source, tmp_path))
    if "\n" not in new:
        assert found.line == line
    assert fault in found.fault


def test_an_unknown_mistake_is_told_in_numbers(tmp_path: Path) -> None:
    source, line = changed("dz = dy * (1 - y**2)", "dz = dy * (1 - y**2); dz[2, 1] += 0.5")
    found = only_fault(report_of(4, source, tmp_path))
    assert (found.what, found.line, found.named) == ("tanh: dz", line, False)
    assert found.fault.startswith("dz[2, 1] is ")
    assert found.fault.endswith("; 11 of the 12 elements are right")
    actual, expected = (
        float(found.fault.split(word)[1].split()[0].rstrip(",;")) for word in ("] is", "differences say")
    )
    assert actual - expected == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize(
    ("new", "after"),
    [
        ("dz = 0 * dy\n        dz = dy\n        return dz", 1),
        ("if True:\n            dz = dy\n        return dz", 1),
        ("return dy", 0),
    ],
)
def test_the_line_is_where_the_value_is_from(new: str, after: int, tmp_path: Path) -> None:
    source, line = changed("dz = dy * (z > 0)\n        return dz", new)
    assert only_fault(report_of(4, source, tmp_path)).line == line + after


def test_what_follows_from_a_fault_is_said_to(tmp_path: Path) -> None:
    assert fault_of(4, tmp_path, ("np.tanh(z)", "z - 1")).endswith("; perhaps because y is wrong")


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("import numpy as np\n", "there is no function relu any more"),
        (RIGHT.replace("def relu(z):", "def relu(z, more):"), "missing 1 required positional argument: 'more'"),
        (RIGHT.replace("    return y, vjp", "    return y"), "relu must return 2 values, and returns an array of the"),
        (RIGHT.replace("    return y, vjp", ""), "relu must return 2 values, and returns None"),
        (RIGHT.replace("    return y, vjp", "    return vjp, y"), "y must be an array of numbers, and is a function"),
        ("\0", "this is no Python program"),
        ("\u201chello", "Python does not understand this line"),
    ],
)  # fmt: skip
def test_a_function_that_is_not_what_was_asked_for(source: str, fault: str, tmp_path: Path) -> None:
    report = report_of(4, source, tmp_path)
    assert not report.done
    assert fault in report.findings[0].fault or "null bytes" in report.findings[0].fault


def test_a_vjp_that_is_none(tmp_path: Path) -> None:
    source = RIGHT.replace("    return y, vjp", "    return y, 3")
    fault = report_of(4, source, tmp_path).findings[1].fault
    assert fault == "vjp must be a function, and is an int"


@pytest.mark.parametrize(
    ("number", "change", "fault"),
    [
        (8, ("return train, validation", "return [[1, 2], [3]], validation"), "cannot be compared (ValueError: "),
        (6, ("x[batch], labels[batch]", "['a'], ['a']"), "cannot be compared (ValueError: "),
        (7, ("    return p, v", "    return 'p', {}"), "must be an array of numbers, and is a dict"),
        (5, ("-np.mean(log_p[np.arange(n), labels])", "'much'"), "must be an array of numbers, and is a str"),
    ],
)
def test_whatever_a_function_returns_is_a_finding(
    number: int, change: tuple[str, str], fault: str, tmp_path: Path
) -> None:
    assert fault in fault_of(number, tmp_path, change)


def test_a_read_only_input_explains_itself(tmp_path: Path) -> None:
    assert "make a new one instead of writing into it" in fault_of(3, tmp_path, ("x @ W + b", "x @ W; b += 1"))


def test_prints_and_warnings_have_their_line(tmp_path: Path) -> None:
    source, line = changed(
        "    y = np.maximum(z, 0)\n", "    print('z', z.shape); np.log(-1.0)\n    y = np.maximum(z, 0)\n"
    )
    report = report_of(4, source, tmp_path)
    assert report.done
    assert report.printed == [(line, "prints z (4, 3)"), (line, "warns: invalid value encountered in log")]
    many = report_of(4, "for i in range(1000): print(i)\n" + RIGHT, tmp_path)
    assert (many.printed[0], len(many.printed), many.more) == ((1, "prints 0"), 8, 992)


@pytest.mark.parametrize(
    ("new", "fault", "lined"),
    [
        ("while True: pass", "still running after 0.5 s: does this ever end?", True),
        ("import time; time.sleep(1e6)", "still running after 0.5 s: does this ever end?", True),
        ("input()", "EOFError: EOF when reading a line; nobody is there to answer input(): leave it out", True),
        ("import os; os.write(1, b'}'); os._exit(3)", "Python itself ended with the exit code 3", False),
        ("import os; os.abort()", "Python itself ended", False),
        ("import os; os.kill(os.getpid(), 9)", "Python itself ended by signal 9", False),
        ("raise KeyboardInterrupt", "Python itself ended", False),
    ],
)
def test_nothing_harms_the_checker(new: str, fault: str, lined: bool, tmp_path: Path) -> None:
    source, line = changed("dz = dy * (z > 0)", new)
    path = tmp_path / "exercise_4.py"
    path.write_text(source)
    found = next(finding for finding in check(4, path, limit=0.5).findings if finding.fault)
    assert fault in found.fault
    assert ("memory" in found.fault) == ("kill" in new)
    assert found.line == line * lined


def test_a_file_without_numpy_is_told_how_it_begins(tmp_path: Path) -> None:
    first, *_ = report_of(4, RIGHT.replace("import numpy as np\n", ""), tmp_path).findings
    assert first.fault == "NameError: name 'np' is not defined; begin the file with import numpy as np"


def test_the_process_says_what_this_one_would(tmp_path: Path) -> None:
    path = tmp_path / "exercise_4.py"
    source, _ = changed("dz = dy * (z > 0)", "print(z.shape); import os; os.write(1, b'noise'); dz = dy")
    path.write_text(source)
    assert check(4, path) == examine(4, path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, with the checks in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(program, "check", examine)
    return tmp_path


def test_an_exercise_is_written_and_never_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in LESSONS:
        assert program.main([str(number)]) == 0
        assert "exercise_" in capsys.readouterr().out
        path = here / f"exercise_{number}.py"
        mine = path.read_text() + "# mine\n"
        path.write_text(mine)
        assert program.main([str(number)]) == 1
        assert path.read_text() == mine
        verdict = capsys.readouterr().out
        assert "filled in yet" in " ".join(verdict.split())
        assert "\n0 of " in verdict


def test_the_verdict(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = answered(3, ANSWERS[3])
    (here / "exercise_3.py").write_text(source)
    assert program.main(["3"]) == 0
    assert "--solution\nNext: python -m xpnet.learn 4\n" in capsys.readouterr().out
    (here / "exercise_3.py").write_text(source.replace("x.T @ dy", "dy.T @ x"))
    assert program.main(["3"]) == 1
    verdict = " ".join(capsys.readouterr().out.split())
    assert "dx right dW line 19: your dW is the right one transposed" in verdict
    assert verdict.endswith("3 of 4 are right.")


def test_the_list_says_what_is_done(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "exercise_1.py").write_text(answered(1, ANSWERS[1]))
    (here / "exercise_2.py").write_text(answered(2, []))
    assert program.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[-1].strip() for line in lines[:3]] == ["done", "0 of 3 right", "not begun"]
    assert lines[-1].endswith("python -m xpnet.learn 2")
    assert len(lines) == 10


def test_errors_are_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "exercise_1.py").mkdir()
    assert program.main(["1"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("xpnet.learn: error: exercise_1.py: ")
    assert error.count("\n") == 1
    for wrong in (["9"], ["--solution"], ["three"]):
        with pytest.raises(SystemExit, match="2"):
            program.main(wrong)


def test_a_reader_that_leaves_is_no_error() -> None:
    command = [sys.executable, "-m", "xpnet.learn", "3", "--solution"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as ran:
        assert ran.stdout is not None
        ran.stdout.close()
        assert ran.stderr is not None
        assert ran.stderr.read() == b""


@pytest.mark.parametrize("number", LESSONS)
def test_solutions_are_the_package_s_own(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([str(number), "--solution"]) == 0
    shown = capsys.readouterr().out
    for part in shown.split("\n# xpnet/"):
        place, _, source = part.removeprefix("# xpnet/").partition("\n\n")
        name, line = place.split(", line ")
        lines = (Path(xpnet.__file__).parent / name).read_text().splitlines()[int(line) - 1 :]
        assert textwrap.dedent("\n".join(lines)).startswith(inspect.cleandoc(source)[:40])
