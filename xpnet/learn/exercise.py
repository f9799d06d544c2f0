"""A learner's file: read, run, and compared with what is right, so that every fault names a line and a remedy.

A wrong result is compared with the results of the mistakes that are usually made; the one that gives the same numbers
is the one that was made.
"""

import ast
import re
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import one_line
from xpnet.files import read_whole

__all__ = ["Exercise", "ExerciseError", "Finding", "Host", "fixed"]

Host = NDArray[Any]
Mistake = tuple[str, Any]

_MOST_BYTES = 1_000_000
_ADVICE = {
    "read-only": "this array belongs to the caller: make a new one instead of writing into it",
    "EOFError": "nobody is there to answer input(): leave it out",
    "SystemExit": "this ends Python: leave it out",
    "name 'np' is not defined": "begin the file with import numpy as np",
    "only 0-dimensional arrays": "the functions of math take one number: those of NumPy, such as np.exp, take arrays",
    "only length-1 arrays": "the functions of math take one number: those of NumPy, such as np.exp, take arrays",
    "only integers": "an index is a whole number: np.argmax gives the place of the largest, np.max the largest itself",
    "cannot unpack non-iterable NoneType": "the function called here returns nothing: is its return missing?",
}


class ExerciseError(Exception):
    """What ends the check of a function.   line : of the learner's file, from 1; 0 for none in particular."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


class Finding(NamedTuple):
    """One line of the verdict.

    what : such as "dW".   fault : "" if it is right.   line : of the learner's file; 0 for none in particular.
    named : whether the fault is a mistake that is known, or only numbers.
    """

    what: str
    fault: str = ""
    line: int = 0
    named: bool = True


class Exercise:
    """A learner's file, which has been run once.

    path : of the file.   Raises OSError if it cannot be read, and ExerciseError if it cannot be run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = read_whole(path, _MOST_BYTES)
        self._lines = content.decode("utf-8", "replace").splitlines()
        try:
            self._tree = ast.parse(content, filename=str(path))
            code = compile(self._tree, str(path), "exec")
        except SyntaxError as error:
            raise ExerciseError(error.lineno or 0, f"Python does not understand this line: {error.msg}") from None
        except ValueError as error:
            raise ExerciseError(0, f"this is no Python program: {error}") from None
        self.names: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
        self._run(exec, code, self.names)

    def call(self, name: str, *args: Any, n: int = 1) -> Any:
        """What a function of the file returns.   n : how many values it must return, in a tuple if not 1."""
        function = self.names.get(name)
        if not callable(function):
            raise ExerciseError(
                0, f"there is no function {name} any more; one with all its holes is written in an empty folder"
            )
        return self.returned(function, name, *args, n=n)

    def returned(self, function: Any, name: str, *args: Any, n: int = 1) -> Any:
        """What a function that the file has made, such as a vjp, returns; name and n as in call."""
        line = self.line_of(name, "")
        if function is Ellipsis or not callable(function):
            raise ExerciseError(line, f"{name} must be a function, and is {_kind(function)}")
        value = self._run(function, *args, line=line)
        if n > 1 and not (isinstance(value, tuple | list) and len(value) == n):
            many = f"{len(value)} values" if isinstance(value, tuple | list) else _kind(value)
            raise ExerciseError(line, f"{name} must return {n} values, and returns {many}")
        return value

    def line_of(self, where: str, name: str) -> int:
        """The line on which a function of the file gives a name its last value; or else returns; or else begins.

        where : the function's name; of one inside another, "outer/inner".
        """
        node: ast.AST = self._tree
        for part in where.split("/"):
            functions = (f for f in ast.walk(node) if isinstance(f, ast.FunctionDef) and f.name == part)
            node = next(functions, node)
        if not isinstance(node, ast.FunctionDef):
            return 0
        inside = list(ast.walk(node))
        stored = [n for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store) and n.id == name]
        returns = [n for n in inside if isinstance(n, ast.Return)]
        return max((n.lineno for n in stored or returns), default=node.lineno)

    def compare(
        self,
        where: str,
        what: str,
        got: Any,
        want: Any,
        mistakes: Iterable[Mistake] = (),
        factors: Iterable[tuple[str, float]] = (),
        source: str = "it must be",
    ) -> Finding:
        """Whether a result is right, and if not, which mistake gives the same numbers.

        where : the function, for the line.   what : the result's name.   want : what is right, float64.
        mistakes : a sentence and the result of making this mistake.   factors : a sentence and the factor by which
        the mistake makes the result, or that of another mistake, too large.   source : of what is right, in words.
        """
        line = self.line_of(where, what)
        want = np.asarray(want, dtype=np.float64)
        if fault := _unfit(what, got):
            return Finding(what, fault, line)
        got = np.asarray(got)
        if _same(got, want):
            single = got.dtype == np.float32
            return Finding(what, f"{what} is float32 where everything is float64: leave its dtype alone" * single, line)
        general = [("its sign is wrong: it is the negative of the right one", -1.0)]
        wrong = [(text, np.asarray(value)) for text, value in mistakes]
        if want.ndim == 2 and want.shape[0] != want.shape[1]:
            wrong.append((f"your {what} is the right one transposed", want.T))
        scales = [*factors, *general]
        for text, value in wrong:
            if _same(got, value):
                return Finding(what, text, line)
        for text, factor in scales:
            if _same(got, want * factor):
                return Finding(what, text, line)
        for text, value in wrong:
            for more, factor in scales:
                if _same(got, value * factor):
                    return Finding(what, f"{text}; and {more}", line)
        return Finding(what, _in_numbers(what, got, want, source), line, named=False)

    def _run(self, function: Callable[..., Any], *args: Any, line: int = 0) -> Any:
        """A call of the learner's code, whose exceptions become faults."""
        try:
            return function(*args)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit, too, which is the learner's
            raise self._fault(error, line) from None

    def _fault(self, error: BaseException, line: int) -> ExerciseError:
        frames = [f for f in traceback.walk_tb(error.__traceback__) if f[0].f_code.co_filename == str(self.path)]
        text = one_line(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__).rstrip()
        advice = next((advice for word, advice in _ADVICE.items() if word in text), "")
        if "ellipsis" in text and not isinstance(error, IndexError):
            text, advice = "a ... on this line, or one that it needs, is not filled in yet", ""
        if not frames:
            return ExerciseError(line, text)
        frame, line = frames[-1]
        if isinstance(error, ValueError) and not advice and 0 < line <= len(self._lines):
            words = dict.fromkeys(re.findall(r"[A-Za-z_]\w*", self._lines[line - 1]))
            arrays = {word: frame.f_locals[word] for word in words if word in frame.f_locals}
            shapes = ", ".join(f"{w} is {_shape(a.shape)}" for w, a in arrays.items() if isinstance(a, np.ndarray))
            if "core dimension" in text:
                text = "the shapes do not fit"
            elif pair := re.search(r"broadcast together with shapes (\((\d+),.*?\)) (\((\d+),\))", text):
                text = f"the shapes {pair[1]} and {pair[3]} do not fit"
                summed = pair[2] == pair[4] and re.search(r"\b(sum|max|mean)\(", self._lines[line - 1])
                shapes += "; keepdims=True leaves an axis of length 1 in place of the one that is gone" * bool(summed)
            advice = shapes and f"here, {shapes}"
        return ExerciseError(line, f"{text}; {advice}" if advice else text)


def fixed(array: Any) -> Host:
    """A copy that nobody can write into."""
    copy: Host = np.array(array)
    copy.flags.writeable = False
    return copy


def _unfit(what: str, got: Any) -> str:
    """Why a result is not even an array of numbers; "" if it is."""
    if got is Ellipsis:
        return f"{what} is not filled in yet"
    if got is None:
        return f"{what} is None: is a return missing?"
    if not isinstance(got, np.ndarray | np.generic | float | int):
        return f"{what} must be an array of numbers, and is {_kind(got)}"
    got = np.asarray(got)
    if got.dtype.kind not in "biuf":
        return f"{what} must have real numbers, and has the dtype {got.dtype}"
    return ""


def _same(a: Host, b: Host) -> bool:
    """Equal but for rounding and for the error of finite differences."""
    if a.shape != b.shape:
        return False
    with np.errstate(all="ignore"):
        size = float(np.max(np.abs(b), initial=0.0, where=np.isfinite(b)))
        return bool(np.allclose(a, b, rtol=1e-5, atol=1e-6 * size + 1e-12, equal_nan=True))


def _in_numbers(what: str, got: Host, want: Host, source: str) -> str:
    """What can be said of a mistake that nobody knows."""
    if got.shape != want.shape:
        return f"{what} has the shape {_shape(got.shape)}, and must have {_shape(want.shape)}"
    if not np.isfinite(got).all():
        at = tuple(np.argwhere(~np.isfinite(got))[0])
        return f"{what}{_index(at)} is {got[at]}, and {source} {want[at]:.6g}"
    with np.errstate(all="ignore"):
        ratio = (got / want)[np.abs(want) > 1e-9]
    if want.size > 1 and ratio.size and _same(got, want * ratio[0]):
        return f"{what} is {ratio[0]:.6g} times the right one, everywhere: a factor is wrong or missing"
    off = np.abs(got - want) > 1e-6 * max(float(np.max(np.abs(want))), 1e-6)
    at = tuple(np.unravel_index(np.argmax(np.abs(got - want)), want.shape))
    text = f"{what}{_index(at)} is {got[at]:.6g}, and {source} {want[at]:.6g}"
    right = want.size - int(off.sum())
    return f"{text}; {right} of the {want.size} elements are right" if want.size > 1 else text


def _index(at: Sequence[Any]) -> str:
    return f"[{', '.join(str(int(i)) for i in at)}]" if at else ""


def _shape(shape: tuple[int, ...]) -> str:
    return str(shape) if shape else "() of a single number"


def _kind(value: Any) -> str:
    """A value in words, for who expected another."""
    if value is Ellipsis:
        return "still ..."
    if value is None:
        return "None: is a return missing?"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__}: np.array makes an array of one"
    if callable(value):
        return "a function: are its () missing?"
    if isinstance(value, np.ndarray):
        return f"an array of the shape {_shape(value.shape)}"
    article = "an" if type(value).__name__[0] in "aeiou" else "a"
    return f"{article} {type(value).__name__}"
