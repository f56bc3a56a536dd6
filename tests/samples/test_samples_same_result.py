"""Runs that are killed and go on, and that two models' difference is seen."""

from pathlib import Path

import pytest

from nxmi_export.__main__ import main
from samples.same_result import Runs, difference
from tests.cli.compress.compress_runs import sst2, write_dense, write_recipe

EPOCHS = 16  # long enough to be killed in between


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("same_result")
    dense, data = write_dense(folder / "dense"), sst2(folder / "glue")
    recipe = write_recipe(folder / "small.yaml")
    options = ("--task=sst2", f"--data={data}", f"--recipe={recipe}", f"--epochs={EPOCHS}")
    return Runs(("nxmi_export", "compress", str(dense), *options), folder)


@pytest.fixture(scope="module")
def whole(runs: Runs) -> Path:
    return runs.finish("whole")


def test_a_killed_run_ends_with_the_same_bits(runs: Runs, whole: Path) -> None:
    runs.kill("killed", after_step=EPOCHS)
    found = difference(runs.finish("killed", "--resume"), whole)
    tensors, metric = found.pop("tensors"), found.pop("metric")
    assert tensors > 0
    assert metric > 0
    assert set(found.values()) == {0}


def test_another_seed_is_another_model(runs: Runs, whole: Path) -> None:
    _, *arguments = runs.command
    other = runs.folder / "other.pt"
    assert main([*arguments, "--seed=1", "-o", str(other)]) == 0
    found = difference(other, whole)
    assert found["tensors not equal bit for bit"] > 0
    assert found["codes that differ"] > 0
    assert found["largest distance of two weights over the largest weight"] > 0


def test_a_run_that_ends_by_itself_is_not_taken_for_a_killed_one(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="gone: ended with 1 before it was killed"):
        Runs(("no_such_module",), tmp_path).kill("gone", after_step=1)
