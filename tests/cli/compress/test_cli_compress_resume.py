"""Runs that end early and go on, and runs of several processes."""

import os
import signal
from pathlib import Path

import pytest
import torch

from nxmi_export.checkpoint import read_checkpoint
from nxmi_export.compression.progress import EpochDone, StepDone
from nxmi_export.workflow.compress.run_log import Entry, RunLog
from tests.cli.command_lines import Command, Outcome
from tests.cli.compress.compress_runs import Run, in_a_process

TWO_PROCESSES = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture
def interrupted(
    nxmi_export: Command, dense: Path, data: Path, recipe: Path, tmp_path: Path
) -> Command:
    """A run of two epochs of three steps that gets SIGINT once it has logged a step."""

    def run(after_step: int) -> Outcome:
        written = RunLog.add

        def interrupt(log: RunLog, report: StepDone | EpochDone) -> Entry:
            entry = written(log, report)
            if (entry["event"], entry["step"]) == ("step", after_step):
                os.kill(os.getpid(), signal.SIGINT)
            return entry

        options = ("--task", "sst2", "--data", data, "--recipe", recipe)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RunLog, "add", interrupt)
            return nxmi_export("compress", dense, *options, "-o", tmp_path / "model.pt")

    return run


def test_an_interrupted_run_continues_to_the_same_model(
    interrupted: Command,
    nxmi_export: Command,
    finished: Run,
    dense: Path,
    data: Path,
    recipe: Path,
    tmp_path: Path,
) -> None:
    outcome = interrupted(5)
    assert outcome.code == 130
    assert outcome.err.splitlines() == [
        "stopped: the same command with --resume continues after step 3",
        "interrupted: nothing was left half-written",
    ]
    assert not (tmp_path / "model.pt").exists()
    attempted = Run(tmp_path / "model.pt").log
    assert [line["step"] for line in attempted] == [1, 2, 3, 3, 4, 5]

    options = ("--task", "sst2", "--data", data, "--recipe", recipe, "--resume")
    outcome = nxmi_export("compress", dense, *options, "-o", tmp_path / "model.pt")
    assert (outcome.code, outcome.err) == (0, "")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {path.name for path in finished.model.parent.iterdir()}
    resumed = Run(tmp_path / "model.pt")
    # Steps 4 and 5 were done twice; the log has them once, as the model does.
    timeless = [
        [{name: each for name, each in line.items() if name != "seconds"} for line in run.log]
        for run in (resumed, finished)
    ]
    assert timeless[0] == timeless[1]
    assert resumed.log[:4] == attempted[:4]
    states = [read_checkpoint(str(run.model)).state for run in (resumed, finished)]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_a_run_that_was_interrupted_too_early_promises_nothing(
    interrupted: Command, tmp_path: Path
) -> None:
    outcome = interrupted(1)
    assert outcome.code == 130
    assert outcome.err == "interrupted: nothing was left half-written\n"
    assert [path.name for path in tmp_path.iterdir()] == ["model.compress.jsonl"]


def test_a_snapshot_of_another_run_is_not_continued(
    interrupted: Command,
    nxmi_export: Command,
    dense: Path,
    data: Path,
    recipe: Path,
    tmp_path: Path,
) -> None:
    assert interrupted(4).code == 130
    log = (tmp_path / "model.compress.jsonl").read_text()
    options = ("--task", "sst2", "--data", data, "--recipe", recipe, "--resume", "--seed", 1)
    outcome = nxmi_export("compress", dense, *options, "-o", tmp_path / "model.pt")
    assert outcome.code == 2
    assert outcome.sentence == (
        f"{tmp_path / 'model.compress.snapshots' / 'snapshot.pt'}: expected a snapshot of this "
        "run (seed 1), found one of another run (seed 0); "
        "resume with the settings it was made with, or start again without --resume"
    )
    assert (tmp_path / "model.compress.jsonl").read_text() == log


@pytest.mark.slow
def test_of_two_processes_one_writes_and_speaks(
    finished: Run, dense: Path, data: Path, recipe: Path, tmp_path: Path
) -> None:
    options = ("--task", "sst2", "--data", data, "--recipe", recipe, "-o", tmp_path / "model.pt")
    run = in_a_process(dense, *options, launcher=TWO_PROCESSES)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("export it with: ") == 1
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {path.name for path in finished.model.parent.iterdir()}
    together = Run(tmp_path / "model.pt")
    assert together.result["options"]["processes"] == 2
    steps = [(line["event"], line["step"]) for line in together.log]
    assert steps == [(line["event"], line["step"]) for line in finished.log]


@pytest.mark.slow
def test_of_two_processes_one_says_what_is_wrong(dense: Path, data: Path, tmp_path: Path) -> None:
    options = ("--task", "mnli", "--data", data, "-o", tmp_path / "model.pt")
    run = in_a_process(dense, *options, launcher=TWO_PROCESSES)
    assert run.returncode != 0
    assert run.stderr.count("error: ") == 1
    assert "expected a head with 3 outputs for mnli" in run.stderr
    assert list(tmp_path.iterdir()) == []
