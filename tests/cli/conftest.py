"""One model file and one artefact for every command line; tests that change them copy them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nxmi_export.__main__ import main
from nxmi_export.backends.tensorrt_engine import Library, find_library
from nxmi_export.errors import CapabilityMissing
from nxmi_export.recipe import Placement
from tests.cli.command_lines import Outcome
from tests.pipeline.exports import write_compressed
from tests.traced_once import traced_once

__all__ = ["traced_once"]  # a fixture of every test

ROOT = Path(__file__).resolve().parents[2]

# Each makes typer or rich write colours, or other widths, to what is no terminal.
for name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "COLUMNS", "TTY_COMPATIBLE"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model.pt"
    write_compressed(path, Placement.SPARSE)
    return path


@pytest.fixture(scope="session")
def first_export(model_file: Path) -> subprocess.CompletedProcess[str]:
    """`python -m nxmi_export model.pt`, as a user types it."""
    return subprocess.run(
        [sys.executable, "-m", "nxmi_export", str(model_file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def artefact(
    first_export: subprocess.CompletedProcess[str], model_file: Path, tmp_path: Path
) -> Path:
    """An artefact that the test may change."""
    assert first_export.returncode == 0, first_export.stderr
    return Path(shutil.copytree(model_file.parent / "model.artefact", tmp_path / "artefact"))


@pytest.fixture
def nxmi_export(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command line in this process."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(each) for each in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def rtx() -> Library:
    try:
        return find_library("tensorrt_rtx")
    except CapabilityMissing as missing:
        pytest.skip(str(missing))
