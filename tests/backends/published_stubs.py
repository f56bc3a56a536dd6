"""The stubs published for TensorRT 10.13, laid out so that mypy can read them."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "tensorrt-stubs"
# Their signatures are no Python: an argument named "in", a default before none. Nothing here calls
# them, and a call would be checked for its name alone.
UNREADABLE = {"add_scale_nd", "configure_plugin", "get_workspace_size", "on_shape_change"}

_SIGNATURE = re.compile(r"(?P<indent> *)def (?P<name>\w+)\(.*:")
_CONFIG = """
[mypy]
python_version = 3.11
strict = true
follow_imports = silent
# Where no stubs are, the base classes are Any, and this is what silences that.
warn_unused_ignores = false
[mypy-tensorrt.*,tensorrt_bindings.*]
ignore_errors = true
[mypy-tensorrt_libs.*,tensorrt_rtx.*]
ignore_missing_imports = true
# Of no matter to the calls, and most of what there would be to read.
[mypy-onnx_ir.*,onnxruntime.*,torch.*,transformers.*,passes.*]
follow_imports = skip
"""


def lay_out_stubs(folder: Path) -> set[str]:
    """Copy the stubs into `folder`; returns the names of the functions that had to be loosened.

    They are installed as packages without a marker for type checkers, which therefore pass them
    by, and mypy refuses a search path inside of an environment.
    """
    try:
        distribution = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        assert "CI" not in os.environ, f"{PACKAGE} belongs to the development set: make setup"
        pytest.skip(f"{PACKAGE} is not installed: make setup")
    loosened = set()
    for file in distribution.files or ():
        if file.suffix == ".pyi":
            text, names = _readable(file.read_text())
            loosened |= names
            (folder / file.parent).mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text)
    return loosened


def check_types(stubs: Path, *arguments: str | Path) -> list[str]:
    """What mypy, strict, has to say about the files; nothing about the stubs themselves."""
    config = stubs / "mypy.ini"
    config.write_text(_CONFIG)
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", config, "--no-error-summary", *arguments],
        cwd=ROOT,
        env=os.environ | {"MYPYPATH": str(stubs), "MYPY_CACHE_DIR": str(stubs / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode in (0, 1), run.stdout + run.stderr
    return [line for line in run.stdout.splitlines() if ": error: " in line]


def _readable(text: str) -> tuple[str, set[str]]:
    lines, loosened = text.split("\n"), set()
    for number, line in enumerate(lines):
        match = _SIGNATURE.fullmatch(line)
        if match and not _is_python(f"{line.strip()} ..."):
            name = match["name"]
            loosened.add(name)
            lines[number] = (
                f"{match['indent']}def {name}(self, *args: typing.Any, **kwargs: typing.Any)"
                " -> typing.Any:"
            )
    return "\n".join(lines), loosened


def _is_python(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True
