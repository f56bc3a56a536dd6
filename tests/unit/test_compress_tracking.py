"""Runs recorded elsewhere, through accelerate's own trackers."""

import ast
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from nxmi_export.compression.training import join_processes
from nxmi_export.errors import CapabilityMissing
from nxmi_export.recipe import Recipe, Scheme
from nxmi_export.workflow.compress.request import TrackerName
from nxmi_export.workflow.compress.tracking import check_tracker, tracking
from tests.unit.tracker_packages import Call, mlflow_package, package, summary_writer

if TYPE_CHECKING:
    from types import ModuleType

STEP = {"event": "step", "step": 7, "loss": 0.5, "losses": {"labels": 0.25}, "seconds": 3.0}
# MNLI has two dev splits, and a metric that is no number is null.
EPOCH = {
    "event": "epoch",
    "step": 8,
    "metrics": {"accuracy validation_matched": 0.75, "f1": None},
    "residuals": None,
}
RECORDS = [
    ("loss", 0.5, 7),
    ("losses.labels", 0.25, 7),
    ("seconds", 3.0, 7),
    ("metrics.accuracy validation_matched", 0.75, 8),
]
RECIPE = Recipe(overrides={"*.layer.[01].*": Scheme.parse("int8")})


@pytest.fixture(params=["torch.utils.tensorboard", "tensorboardX", "mlflow"])
def installed(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def tracker(installed: str) -> TrackerName:
    return "mlflow" if installed == "mlflow" else "tensorboard"


@pytest.fixture
def calls(installed: str, monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What the package that is `installed` is told; no other is there."""
    calls: list[Call] = []
    modules: dict[str, ModuleType | None] = {}
    modules |= dict.fromkeys(("tensorboard", "torch.utils.tensorboard", "tensorboardX"))
    if installed == "mlflow":
        modules |= mlflow_package(calls)
    else:
        modules[installed] = package(installed, SummaryWriter=summary_writer(calls))
        if installed != "tensorboardX":
            modules["tensorboard"] = package("tensorboard")
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    join_processes()  # accelerate's trackers ask which process they are in
    return calls


def test_every_number_is_recorded_at_its_step(
    calls: list[Call], tracker: TrackerName, tmp_path: Path
) -> None:
    folder = tmp_path / "tracked"
    check_tracker(tracker)
    with tracking(tracker, "model", folder, RECIPE) as track:
        assert track is not None
        track.add(STEP)
        track.add(EPOCH)
    begin, settings, *records, end = calls
    where = ("model", str(folder)) if tracker == "mlflow" else (str(folder / "model"),)
    assert begin == ("begin", *where)
    assert settings[1]["default"] == "2:4+int8"
    assert settings[1]["training.epochs"] == 10
    assert settings[1]["overrides"] == "{'*.layer.[01].*': 'int8'}"
    assert records == RECORDS
    assert end == ("end",)


def test_the_record_is_closed_when_the_run_fails(
    calls: list[Call], tracker: TrackerName, tmp_path: Path
) -> None:
    for _ in range(2):  # MLflow refuses a second run beside one that was left open
        with pytest.raises(KeyboardInterrupt), tracking(tracker, "model", tmp_path, Recipe()):
            raise KeyboardInterrupt
        assert calls[-1] == ("end",)


def test_tensorboard_reads_back_every_number_and_setting(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data

    join_processes()
    check_tracker("tensorboard")
    with tracking("tensorboard", "model", tmp_path, RECIPE) as track:
        assert track is not None
        track.add(STEP)
        track.add(EPOCH)
    scalars = EventAccumulator(str(tmp_path / "model")).Reload()
    tags = scalars.Tags()["scalars"]
    found = [(tag, each.value, each.step) for tag in tags for each in scalars.Scalars(tag)]
    assert sorted(found) == sorted(RECORDS)

    # TensorBoard shows the settings of a run beside it, as a run of their own.
    (file,) = (tmp_path / "model").glob("*/events.out.tfevents.*")
    settings = EventAccumulator(str(file)).Reload().PluginTagToContent("hparams")
    told = parse_session_start_info_plugin_data(settings["_hparams_/session_start_info"]).hparams
    assert told["default"].string_value == "2:4+int8"
    assert told["training.epochs"].number_value == 10
    assert told["overrides"].string_value == "{'*.layer.[01].*': 'int8'}"


def test_the_stand_in_of_tensorboard_has_the_signatures_of_torchs_writer() -> None:
    source = Path(torch.__file__).parent / "utils" / "tensorboard" / "writer.py"
    classes = [
        each for each in ast.parse(source.read_text()).body if isinstance(each, ast.ClassDef)
    ]
    original = next(each for each in classes if each.name == "SummaryWriter")
    wanted = {
        each.name: [argument.arg for argument in each.args.args]
        for each in original.body
        if isinstance(each, ast.FunctionDef)
    }
    methods = vars(summary_writer([])).items()
    found = {
        name: list(inspect.signature(each).parameters)
        for name, each in methods
        if inspect.isfunction(each)
    }
    assert found == {name: wanted[name] for name in found}
    assert {"__init__", "add_hparams", "add_scalar", "flush", "close"} <= found.keys()


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
