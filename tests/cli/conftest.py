"""One model file and one artefact for every command line; tests that change them copy them."""

import io
import os
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from nxmi_export.__main__ import main
from nxmi_export.backends.tensorrt_engine import Library, find_library
from nxmi_export.errors import CapabilityMissing
from nxmi_export.recipe import Placement
from tests.cli.command_lines import Outcome
from tests.pipeline.exports import write_compressed
from tests.traced_once import traced_once
from tests.tuned_at_once import tuned_at_once

__all__ = ["traced_once", "tuned_at_once"]  # fixtures of every test

# Each makes typer or rich write colours, or other widths, to what is no terminal.
for name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "COLUMNS", "TTY_COMPATIBLE"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model.pt"
    write_compressed(path, Placement.SPARSE)
    return path


@pytest.fixture(scope="session")
def first_export(model_file: Path) -> Outcome:
    """`nxmi-export model.pt`, and nothing else."""
    printed, said = io.StringIO(), io.StringIO()
    with redirect_stdout(printed), redirect_stderr(said):
        code = main([str(model_file)])
    return Outcome(code, printed.getvalue(), said.getvalue())


@pytest.fixture
def artefact(first_export: Outcome, model_file: Path, tmp_path: Path) -> Path:
    """An artefact that the test may change."""
    assert first_export.code == 0, first_export.err
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
