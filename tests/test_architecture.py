"""The shape of the code base: layers, public names, light imports, sizes, honest handlers."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nxmi_export
import nxmi_export.runtime
import passes

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("nxmi_export", "passes")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

LONGEST_FUNCTION = 60  # lines; what still reads as one page
LONGEST_FILE = 300
# Path, or path::function, to the reason why it may be longer.
MAY_BE_LONGER: dict[str, str] = {}
# path::function of the one place that turns any exception into a message and an exit code.
CATCHES_EVERYTHING = {"nxmi_export/__main__.py::main"}

# What a graph pass may build on, besides Python itself.
PASSES_BUILD_ON = {"numpy", "onnx_ir", "passes"}

# Of what the package depends on, some that come in by an import too many. What a server runs on is
# tests/runtime/test_runtime_imports.py.
SERVER_LACKS = {"onnx_ir", "pandas", "pyarrow", "pydantic", "rich", "scipy", "yaml"}

# Names of hosts are put together here, so that this file does not contain what it looks for.
REGISTRIES = (
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("pypi", "nvidia", "com"),
    ("pypi", "ngc", "nvidia", "com"),
    ("download", "pytorch", "org"),
    ("huggingface", "co"),
    ("hf", "co"),
    ("anaconda", "org"),
    ("npmjs", "org"),
    ("npmjs", "com"),
    ("crates", "io"),
    ("docker", "io"),
    ("docker", "com"),
    ("ghcr", "io"),
    ("nvcr", "io"),
    ("quay", "io"),
)


def test_import_contracts_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run(
        [lint, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_passes_import_nothing_but_their_foundations() -> None:
    foreign = {
        f"{_name(path)} imports {imported}"
        for path in MODULES
        if path.is_relative_to(ROOT / "passes")
        for imported in _imports(path)
        if imported not in PASSES_BUILD_ON | sys.stdlib_module_names
    }
    assert foreign == set()


def test_public_names_of_nxmi_export() -> None:
    assert nxmi_export.__all__ == ["__version__", "load"]


def test_public_names_of_the_runtime() -> None:
    assert nxmi_export.runtime.__all__ == ["Prediction", "TaskModel", "load"]
    assert nxmi_export.load is nxmi_export.runtime.load


def test_public_names_of_passes() -> None:
    assert passes.__all__ == [
        "MODULE_KEY",
        "SPARSITY_KEY",
        "CanonicalLinear",
        "CertifySparsity",
        "Change",
        "EmbeddingTable",
        "Entry",
        "Float16OutsideIslands",
        "FoldWeightQuantization",
        "FuseAttention",
        "GatherCodes",
        "GraphPass",
        "IntegerProducts",
        "InvalidGroups",
        "InvalidScale",
        "InvalidWeight",
        "Invariant",
        "InvariantViolated",
        "Ledger",
        "LinearLayer",
        "NameNodes",
        "OwnZeroPoints",
        "PackInt4Blocks",
        "PassError",
        "PassFailed",
        "PassRecord",
        "RefusedGraph",
        "Rewritten",
        "ScaleGatheredRows",
        "ShareQuantizers",
        "Skip",
        "SparsityRefuted",
        "UnsignedActivations",
        "Weight",
        "attention_matmuls",
        "embedding_tables",
        "invariant",
        "linear_layers",
        "lower",
        "module_of",
    ]


@pytest.mark.parametrize(
    "package", [nxmi_export, nxmi_export.runtime, passes], ids=lambda package: package.__name__
)
def test_every_public_name_exists(package: object) -> None:
    assert [name for name in package.__all__ if not hasattr(package, name)] == []


@pytest.mark.parametrize(
    ("package", "heavy"),
    [
        (
            "nxmi_export",
            {"torch", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "transformers"},
        ),
        (
            "nxmi_export.runtime",
            {"torch", "onnxruntime", "openvino", "transformers", "onnx", *SERVER_LACKS},
        ),
        ("passes", {"torch", "onnxruntime", "tensorrt", "tensorrt_rtx", "nxmi_export"}),
    ],
)
def test_importing_a_package_loads_no_framework(package: str, heavy: set[str]) -> None:
    program = f"import sys, {package}; print(*sys.modules, sep='\\n')"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(run.stdout.splitlines())
    assert package in loaded
    assert loaded & heavy == set()


def test_no_file_names_a_registry_host() -> None:
    hosts = "|".join(r"\.".join(parts) for parts in REGISTRIES)
    assert _mentions(rf"(?<![\w-])(?:{hosts})(?![\w-])") == []


def test_no_file_names_a_directory_of_one_machine() -> None:
    # Not after a letter, a digit, "." or "~": those are relative paths or parts of words.
    assert _mentions(r"(?<![\w.~])/(?:home|root|work|Users)/\w") == []


def test_no_handler_swallows_every_exception() -> None:
    swallowing = {where for path in MODULES for where in _swallowing_handlers(path)}
    assert swallowing - CATCHES_EVERYTHING == set()


def test_functions_and_files_stay_short() -> None:
    long = {name for path in MODULES for name, lines, limit in _sizes(path) if lines > limit}
    # Equality, so that an exception is deleted once it is no longer needed.
    assert long == set(MAY_BE_LONGER)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_opens_with_a_sentence(path: Path) -> None:
    docstring = ast.get_docstring(_tree(path)) or ""
    assert re.search(r"\.(\s|$)", docstring.split("\n\n")[0]), "no sentence with a period"


@pytest.mark.parametrize(
    ("source", "swallows"),
    [
        ("try: f()\nexcept: pass", True),
        ("try: f()\nexcept Exception: pass", True),
        ("try: f()\nexcept (ValueError, BaseException) as e: g(e)", True),
        ("try: f()\nexcept Exception:\n    if g(): raise", True),
        ("with suppress(Exception): f()", True),
        ("with contextlib.suppress(OSError, Exception): f()", True),
        ("try: f()\nexcept Exception as e: raise OSError from e", False),
        ("try: f()\nexcept BaseException:\n    g()\n    raise", False),
        ("try: f()\nexcept ValueError: pass", False),
        ("with suppress(OSError): f()", False),
    ],
)
def test_swallowing_is_recognised(source: str, swallows: bool, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(source)
    assert bool(list(_swallowing_handlers(path))) is swallows


def _swallowing_handlers(path: Path) -> Iterator[str]:
    """`path::function` of each `except` or `suppress` that hides whatever happens."""
    for owner, node in _owned_nodes(_tree(path)):
        match node:
            case ast.ExceptHandler(type=kind, body=body):
                swallows = _is_everything(kind) and not isinstance(body[-1], ast.Raise)
            case ast.Call(func=ast.Name("suppress") | ast.Attribute(attr="suppress"), args=kinds):
                swallows = any(_is_everything(kind) for kind in kinds)
            case _:
                swallows = False
        if swallows:
            yield f"{_name(path)}::{owner}"


def _is_everything(kind: ast.expr | None) -> bool:
    match kind:
        case None | ast.Name("Exception" | "BaseException"):
            return True
        case ast.Attribute(attr="Exception" | "BaseException"):
            return True
        case ast.Tuple(elts=kinds):
            return any(_is_everything(each) for each in kinds)
    return False


def _owned_nodes(tree: ast.AST, owner: str = "<module>") -> Iterator[tuple[str, ast.AST]]:
    """Every node with the name of the function it stands in."""
    for node in ast.iter_child_nodes(tree):
        inside = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else owner
        yield inside, node
        yield from _owned_nodes(node, inside)


def _sizes(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, length and limit, in lines, of the file and of each function in it."""
    yield _name(path), len(path.read_text().splitlines()), LONGEST_FILE
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            yield f"{_name(path)}::{node.name}", lines, LONGEST_FUNCTION


def _imports(path: Path) -> Iterator[str]:
    """Top-level name of everything a module imports, wherever in it the import stands."""
    for node in ast.walk(_tree(path)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name.partition(".")[0] for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.partition(".")[0]


def _mentions(pattern: str) -> list[str]:
    """`path:line` of each match, over what git tracks or would track."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode:
        pytest.skip("not a git checkout, so which files belong to the project is unknown")
    paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    assert Path(__file__).resolve() in paths
    regex = re.compile(pattern.encode())
    return [
        f"{_name(path)}:{number}"
        for path in paths
        if path.is_file()
        for number, line in enumerate(path.read_bytes().splitlines(), start=1)
        if regex.search(line)
    ]


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
