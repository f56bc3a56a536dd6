"""What a launcher asked for and this run does otherwise is refused, not dropped."""

from typing import Any

import pytest

from nxmi_export.compression import RunOptions, fine_tune
from nxmi_export.compression.training import join_processes
from nxmi_export.compression.training.processes import check_precision
from nxmi_export.errors import UsageError
from nxmi_export.recipe import TrainingSettings
from tests.tiny_models import tiny_model, toy_data

MIXED = "ACCELERATE_MIXED_PRECISION"  # accelerate launch always sets it, to "no" where not told
TRAINING = TrainingSettings(epochs=1, batch_size=8)


def test_a_launchers_mixed_precision_that_contradicts_the_runs_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(MIXED, "bf16")
    with pytest.raises(UsageError) as refusal:
        fine_tune(tiny_model(), toy_data(8), TRAINING)
    assert str(refusal.value) == (
        "distributed launch: expected fp32, the precision of this run, found bf16 in the "
        "settings of accelerate launch; launch with --mixed_precision no, or pass --precision bf16"
    )


def test_a_mixed_precision_that_no_run_can_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MIXED, "fp8")
    with pytest.raises(UsageError) as refusal:
        check_precision("bf16")
    assert str(refusal.value) == (
        "distributed launch: expected bf16, the precision of this run, found fp8 in the "
        "settings of accelerate launch; launch with --mixed_precision no"
    )


@pytest.mark.parametrize(
    ("asked", "precision"), [("no", "fp32"), ("no", "bf16"), ("bf16", "bf16"), (None, "fp16")]
)
def test_a_launcher_that_agrees_or_was_told_nothing_is_followed(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, precision: Any
) -> None:
    if asked is None:
        monkeypatch.delenv(MIXED, raising=False)
    else:
        monkeypatch.setenv(MIXED, asked)
    check_precision(precision)
    fine_tune(tiny_model(), toy_data(8), TRAINING, RunOptions(precision=precision))


def test_a_launch_that_starts_fewer_processes_than_it_was_asked_for_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As `accelerate launch --cpu --num_processes 2` leaves it to its one process.
    monkeypatch.setenv(MIXED, "no")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(UsageError) as refusal:
        join_processes()
    assert str(refusal.value) == (
        "distributed launch: expected the several processes that accelerate launch was asked for, "
        "found this one alone; launch with torchrun or with accelerate launch --multi_gpu, which "
        "both take CPUs where there is no GPU; for one process, run it without a launcher"
    )


@pytest.mark.parametrize("name", [MIXED, "MASTER_ADDR"])
def test_either_setting_alone_is_that_of_a_run_of_one_process(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for each in (MIXED, "MASTER_ADDR", "WORLD_SIZE"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, "no")
    assert join_processes().num_processes == 1
