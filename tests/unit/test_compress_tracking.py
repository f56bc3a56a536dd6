"""Runs recorded elsewhere, through accelerate's own trackers."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nxmi_export.compression.training import join_processes
from nxmi_export.errors import CapabilityMissing
from nxmi_export.recipe import Recipe
from nxmi_export.workflow.compress.tracking import check_tracker, tracking

WRITER = """
CALLS = []

class SummaryWriter:
    def __init__(self, folder, **options):
        CALLS.append(("begin", folder))
    def add_hparams(self, values, metric_dict):
        CALLS.append(("settings", values))
    def add_scalar(self, name, value, global_step):
        CALLS.append((name, value, global_step))
    def add_text(self, name, value, global_step):
        raise AssertionError("only numbers are recorded")
    def flush(self): ...
    def close(self):
        CALLS.append(("end",))
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, ...]]]:
    """What a TensorBoard writer is told; that of tensorboardX, which accelerate also takes."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "tensorboardX.py").write_text(WRITER)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    import tensorboardX  # type: ignore[import-not-found]

    join_processes()  # accelerate's trackers ask which process they are in
    yield tensorboardX.CALLS
    del sys.modules["tensorboardX"]


def test_every_number_is_recorded_at_its_step(calls: list[tuple[Any, ...]], tmp_path: Path) -> None:
    step = {"event": "step", "step": 7, "loss": 0.5, "losses": {"labels": 0.25}, "seconds": 3.0}
    epoch = {"event": "epoch", "step": 8, "metrics": {"accuracy": 0.75}, "residuals": None}
    check_tracker("tensorboard")
    with tracking("tensorboard", "model", tmp_path / "tracked", Recipe()) as track:
        assert track is not None
        track.add(step)
        track.add(epoch)
    begin, settings, *records, end = calls
    assert begin == ("begin", str(tmp_path / "tracked" / "model"))
    assert settings[1]["default"] == "2:4+int8"
    assert settings[1]["training.epochs"] == 10
    assert records == [
        ("loss", 0.5, 7),
        ("losses.labels", 0.25, 7),
        ("seconds", 3.0, 7),
        ("metrics.accuracy", 0.75, 8),
    ]
    assert end == ("end",)


def test_the_record_is_closed_when_the_run_fails(
    calls: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt), tracking("tensorboard", "model", tmp_path, Recipe()):
        raise KeyboardInterrupt
    assert calls[-1] == ("end",)


def test_no_tracker_records_nothing(tmp_path: Path) -> None:
    check_tracker(None)
    with tracking(None, "model", tmp_path / "tracked", Recipe()) as track:
        assert track is None
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(CapabilityMissing) as caught:
        check_tracker("mlflow")
    assert str(caught.value) == (
        "the tracker mlflow: expected an installed mlflow, found none; run `pip install mlflow`"
    )
