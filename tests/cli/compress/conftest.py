"""One dense model, one task and one finished run for every test; none of them changes these."""

import io
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from nxmi_export.__main__ import main
from tests.cli.compress.compress_runs import Run, sst2, write_dense, write_recipe


@pytest.fixture(scope="session")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dense(tmp_path_factory.mktemp("models") / "dense")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sst2(tmp_path_factory.mktemp("glue"))


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipes") / "small.yaml")


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory, dense: Path, data: Path, recipe: Path
) -> Run:
    model = tmp_path_factory.mktemp("runs") / "model.pt"
    options = ("--task", "sst2", "--data", data, "--recipe", recipe, "-o", model)
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert main(["compress", str(dense), *map(str, options)]) == 0
    return Run(model, printed.getvalue())
