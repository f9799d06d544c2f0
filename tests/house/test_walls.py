"""The walls of the house: public names, what importing costs, and what the numerics may not contain."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import xpnet

PACKAGE = Path(xpnet.__file__).parent
PURE = [path for room in ("numerics", "optim") for path in (PACKAGE / room).glob("*.py")]
NUMERICS = sorted(str(path.relative_to(PACKAGE)) for path in PURE)
LIBRARY = re.compile(r"\b(numpy|cupy|torch|jax|cuda)\b", re.IGNORECASE)
HEAVY = {
    "cupy",
    "torch",
    "jax",
    "rich",
    "cyclopts",
    "matplotlib",
    "optuna",
    "tensorboardX",
    "wandb",
    "mlflow",
    "mpi4py",
    "PIL",
    "array_api_compat",
    "array_api_strict",
    "safetensors",
    "jaxtyping",
    "beartype",
    "sklearn",
    "scipy",
    "joblib",
}


# The rooms that open files; every other one reads through theirs, which wait for no pipe and have bounds.
OPENERS = ("files", "data")


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_public_names_exist_and_have_docstrings() -> None:
    assert len(set(xpnet.__all__)) == len(xpnet.__all__)
    assert set(xpnet.__all__) <= set(dir(xpnet))
    for name in xpnet.__all__:
        assert getattr(xpnet, name) is not None
        if name != "__version__":
            assert getattr(xpnet, name).__doc__, f"{name} has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = xpnet.nonsense  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["functional.dense", "optim.adam", "plots.curves", "augment.distort", "Run"])
def test_rooms_are_there_at_first_use(name: str) -> None:
    assert run(f"import xpnet; print(callable(xpnet.{name}))") == "True\n"


def test_star_import_gives_all() -> None:
    namespace: dict[str, object] = {}
    exec("from xpnet import *", namespace)
    assert set(xpnet.__all__) <= set(namespace)


ROOMS = sorted(
    path.relative_to(PACKAGE).with_suffix("").as_posix()
    for path in PACKAGE.rglob("*.py")
    if not path.stem.startswith("_") and "__all__" in path.read_text()
)


@pytest.mark.parametrize("name", ROOMS)
def test_each_room_s_all_is_true(name: str) -> None:
    if name.startswith("sklearn/"):
        pytest.importorskip("sklearn", reason="scikit-learn, of the extra [sklearn], is not installed")
    module = __import__(f"xpnet.{name.replace('/', '.')}", fromlist=["__all__"])
    assert all(hasattr(module, public) for public in module.__all__)
    for node in ast.parse((PACKAGE / f"{name}.py").read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"xpnet.{name}.{node.name} has no docstring"


def test_importing_xpnet_imports_nothing_heavy() -> None:
    code = "import sys, xpnet; print(*{name.partition('.')[0] for name in sys.modules})"
    assert HEAVY & set(run(code).split()) == set()


def test_training_on_numpy_imports_no_other_library() -> None:
    code = """
import sys, numpy as np, xpnet
images, labels = np.zeros((8, 4), np.uint8), np.array([0, 1] * 4, np.int32)
data = xpnet.Dataset("zeros", xpnet.Split(images, labels), n_classes=2)
xpnet.fit(xpnet.MLP((4, 3, 2)), data, epochs=1, device="cpu", progress=False)
print(*{name.partition('.')[0] for name in sys.modules})
"""
    assert (HEAVY - {"PIL", "array_api_compat", "safetensors"}) & set(run(code).split()) == set()


@pytest.mark.parametrize("name", NUMERICS)
def test_the_numerics(name: str) -> None:
    """No backend's name, no NumPy, no @, and no writing into arrays outside the room optim."""
    tree = ast.parse((PACKAGE / name).read_text())
    documented = [n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.FunctionDef | ast.ClassDef)]
    documents = {ast.get_docstring(node, clean=False) for node in documented}
    conditions = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    never_run = [node for condition in conditions for node in condition.body]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            own = isinstance(node, ast.ImportFrom) and node.level
            roots = set() if own else {module.partition(".")[0] for module in modules}
            allowed = {"jaxtyping"} if node in never_run else {"array_api_compat", "xpnet", *sys.stdlib_module_names}
            assert roots <= allowed, f"{name}:{node.lineno} imports {roots}"
        if isinstance(node, ast.BinOp | ast.AugAssign):
            assert not isinstance(node.op, ast.MatMult), f"{name}:{node.lineno} uses @"
        if isinstance(node, ast.Assign | ast.AugAssign) and not name.startswith("optim/"):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            assert not any(isinstance(t, ast.Subscript) for t in targets), f"{name}:{node.lineno} writes into an array"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("float", "bool"):
            pytest.fail(f"{name}:{node.lineno} reads an array on the host by {node.func.id}()")
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("item", "tolist", "__name__", "__module__"), f"{name}:{node.lineno} .{node.attr}"
        if not isinstance(node, ast.Name | ast.Constant):
            continue
        named = node.id if isinstance(node, ast.Name) else node.value
        if isinstance(named, str) and named not in documents:
            assert not LIBRARY.search(named), f"{name}:{node.lineno} names a library: {named!r}"


def test_only_the_backend_room_imports_array_libraries() -> None:
    for path in PACKAGE.rglob("*.py"):
        if PACKAGE / "backend" in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Import | ast.ImportFrom) or (isinstance(node, ast.ImportFrom) and node.level):
                continue
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            roots = {module.partition(".")[0] for module in modules}
            assert not roots & {"cupy", "cupyx", "torch", "jax", "array_api_strict"}, f"{path}:{node.lineno}"


def opening_calls(source: str) -> list[int]:
    """The lines of a program on which a file is opened or read by Python's own means."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if (isinstance(call.func, ast.Name) and call.func.id == "open")
        or (
            isinstance(call.func, ast.Attribute)
            and call.func.attr in ("open", "read_text", "read_bytes")
            and ast.unparse(call.func) != "os.open"
        )
    ]


def test_only_the_rooms_of_files_open_files() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] not in OPENERS
        for line in opening_calls(path.read_text(encoding="utf-8"))
    ]
    assert not found, "read this through xpnet.files"


def test_an_opening_of_a_file_is_seen() -> None:
    program = 'open("a")\nx = Path("a").read_text()\nPath("a").read_bytes()\nwith Path("a").open() as f: pass\n'
    assert opening_calls(program) == [1, 2, 3, 4]
    assert opening_calls('os.open("a", 0)\nread_whole("a", 9)\nread_text("a", "b")\n') == []
