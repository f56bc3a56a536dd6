"""Runs that end early and go on, and runs of several processes."""

import os
import signal
from pathlib import Path

import pytest
import torch

from nxmi_export.checkpoint import read_checkpoint
from nxmi_export.compression.progress import EpochDone, Progress, StageBegun, StepDone
from nxmi_export.compression.training.timeline import Timeline
from nxmi_export.glue import task_named
from nxmi_export.output_files import atomic_file
from nxmi_export.recipe import TrainingSettings, preset
from nxmi_export.workflow.compress import CompressRequest, compress_model
from nxmi_export.workflow.compress.run_log import Entry, RunLog
from tests.cli.command_lines import Command, Outcome
from tests.cli.compress.captured_program import captured
from tests.cli.compress.compress_runs import Run, in_a_process, last_sentence, write_recipe
from tests.forked import run_forked

BY_TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
# --multi_gpu takes CPUs where there is no GPU; port 0 is any that is free.
BY_ACCELERATE = (
    *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
    *("--num_machines", "1", "--main_process_port", "0"),
    *("--mixed_precision", "no", "--dynamo_backend", "no"),
)


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
    dense_line, first_epoch, *end = outcome.err.splitlines()
    assert dense_line.startswith("dense model: accuracy ")
    assert first_epoch.startswith("epoch 1/2: loss ")
    assert end == [
        "stopped: the same command with --resume continues after step 3",
        "interrupted: nothing was left half-written",
    ]
    assert not (tmp_path / "model.pt").exists()
    attempted = Run(tmp_path / "model.pt").log
    assert [line["step"] for line in attempted] == [1, 2, 3, 3, 4, 5]

    options = ("--task", "sst2", "--data", data, "--recipe", recipe, "--resume")
    outcome = nxmi_export("compress", dense, *options, "-o", tmp_path / "model.pt")
    assert outcome.code == 0
    assert [line.split(":")[0] for line in outcome.err.splitlines()] == ["dense model", "epoch 2/2"]
    resumed = Run(tmp_path / "model.pt")
    # Steps 4 and 5 were done twice; the log has them once, as the model does.
    assert_the_same(resumed, finished)
    assert resumed.log[:4] == attempted[:4]


class Killed(BaseException):
    """As little expected as a power cut."""


@pytest.mark.parametrize("last", ["model.compress.json", "model.pt"])  # the first, and all
def test_a_run_killed_while_it_publishes_continues_to_the_same_files(
    nxmi_export: Command,
    finished: Run,
    dense: Path,
    data: Path,
    recipe: Path,
    tmp_path: Path,
    last: str,
) -> None:
    renamed = os.replace

    def rename(source: Path, target: Path) -> None:
        renamed(source, target)
        if target.name == last:
            raise Killed

    options = ("--task", "sst2", "--data", data, "--recipe", recipe, "-o", tmp_path / "model.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", rename)
        with pytest.raises(Killed):
            nxmi_export("compress", dense, *options)
    assert (tmp_path / last).exists()
    # Where there is a model, there is everything about it.
    assert (tmp_path / "model.pt").exists() is (last == "model.pt")
    outcome = nxmi_export("compress", dense, *options, "--resume")
    assert outcome.code == 0, outcome.err
    assert_the_same(Run(tmp_path / "model.pt"), finished)


def assert_the_same(run: Run, other: Run) -> None:
    """The same files, the same log but for the time, and the same weights bit for bit."""
    files = [{path.name for path in each.model.parent.iterdir()} for each in (run, other)]
    assert files[0] == files[1]
    logs = [
        [{name: each for name, each in line.items() if name != "seconds"} for line in each.log]
        for each in (run, other)
    ]
    assert logs[0] == logs[1]
    states = [read_checkpoint(str(each.model)).state for each in (run, other)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_a_run_that_was_interrupted_too_early_promises_nothing(
    interrupted: Command, tmp_path: Path
) -> None:
    outcome = interrupted(1)
    assert outcome.code == 130
    *_, end = outcome.err.splitlines()
    assert end == "interrupted: nothing was left half-written"
    assert "--resume" not in outcome.err
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
    assert last_sentence(outcome) == (
        f"{tmp_path / 'model.compress.snapshots' / 'snapshot.pt'}: expected a snapshot of this "
        "run (seed 1), found one of another run (seed 0); "
        "resume with the settings it was made with, or pass --overwrite without --resume to start "
        "anew"
    )
    assert (tmp_path / "model.compress.jsonl").read_text() == log


@pytest.mark.parametrize("minutes", ["60", "0"], ids=["each epoch", "each step"])
def test_a_run_that_diverged_goes_on_as_its_error_says(
    minutes: str, nxmi_export: Command, dense: Path, data: Path, tmp_path: Path
) -> None:
    """A warm-up that ends too high: the second epoch's loss is no number.

    A snapshot of every step has one of the step that went too far, too.
    """
    text = "default: 2:4\nsparsity: {method: magnitude}\ndistillation: {logits: 0, hidden: 0}\n"
    training = "training: {epochs: 3, batch_size: 16, learning_rate: 1e-3, warmup: 0}\n"
    recipe = write_recipe(tmp_path / "recipe.yaml", text + training)
    model = tmp_path / "model.pt"
    options = ("--task", "sst2", "--data", data, "--recipe", recipe, "-o", model)
    rate = Timeline.rate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Timeline, "rate", lambda self, step: rate(self, step) * 1e30 ** (step > 3))
        outcome = nxmi_export("compress", dense, *options, "--checkpoint-minutes", minutes)
    assert outcome.code == 1
    assert "--resume --learning-rate RATE continues from the snapshot after step 3" in outcome.err
    assert [path.name for path in model.with_name("model.compress.snapshots").iterdir()] == [
        "snapshot.pt"
    ]
    before = [line for line in Run(model).log if line["step"] <= 3]

    outcome = nxmi_export("compress", dense, *options, "--resume", "--learning-rate", "1e-4")
    assert outcome.code == 0, outcome.err
    run = Run(model)
    assert [line for line in run.log if line["step"] <= 3] == before
    assert run.log[-1]["step"] == 9
    assert run.result["recipe"]["training"]["learning_rate"] == 1e-4
    # The recipe is the one that it ended with; how it began stands beside it, in the model too.
    continued = [{"after_step": 3, "before": {"learning rate": "0.001"}}]
    assert run.result["options"]["continued"] == continued
    assert read_checkpoint(str(model)).provenance["options"]["continued"] == continued


def test_what_a_killed_run_left_half_written_goes_when_the_next_begins(
    nxmi_export: Command, dense: Path, data: Path, tmp_path: Path
) -> None:
    endings = ("pt", "compress.json", "compress.jsonl", "compress.svg")
    orphans = []
    for ending in endings:
        with atomic_file(tmp_path / f"model.{ending}") as outer, atomic_file(outer) as inner:
            orphans += [outer, inner]
        (tmp_path / f"model.{ending}").unlink()
    others = [tmp_path / name for name in (".model.pt", ".other.pt.0123abcd", ".model.pt.backup")]
    for path in (*orphans, *others):
        path.write_text("half")
    options = ("--task", "sst2", "--data", data, "--epochs", 0, "-o", tmp_path / "model.pt")
    assert nxmi_export("compress", dense, *options).code == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model.pt", "model.compress.json", *(path.name for path in others)}


@pytest.mark.parametrize("resume", [True, False])
def test_a_run_with_nothing_to_resume_says_that_it_begins_anew(
    dense: Path, data: Path, tmp_path: Path, resume: bool
) -> None:
    heard: list[str] = []

    def listen(progress: Progress) -> None:
        if isinstance(progress, StageBegun):
            heard.append(progress.stage)

    recipe = preset("asp").model_copy(update={"training": TrainingSettings(epochs=0)})
    output = tmp_path / "model.pt"
    request = CompressRequest(
        str(dense), task_named("sst2"), output, recipe, data_dir=data, resume=resume
    )
    assert compress_model(request, listen) is not None
    anew = "; there is no snapshot to resume, so this run begins anew"
    assert f"evaluating the dense model{anew if resume else ''}" in heard


@pytest.mark.slow
def test_of_two_processes_one_writes_and_speaks(
    finished: Run, dense: Path, data: Path, recipe: Path, tmp_path: Path
) -> None:
    # torchrun launches below; whole runs under its variables are in tests/pipeline.
    options = ("--task", "sst2", "--data", data, "--recipe", recipe, "-o", tmp_path / "model.pt")
    run = in_a_process(dense, *options, launcher=BY_ACCELERATE)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("export it with: ") == 1
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {path.name for path in finished.model.parent.iterdir()}
    together = Run(tmp_path / "model.pt")
    assert together.result["options"]["processes"] == 2
    steps = [(line["event"], line["step"]) for line in together.log]
    assert steps == [(line["event"], line["step"]) for line in finished.log]
    losses = [line["loss"] for line in together.log if line["event"] == "step"]
    alone = [line["loss"] for line in finished.log if line["event"] == "step"]
    # A sum in another order moves values across rounding ties, which then differ by a step.
    assert losses == pytest.approx(alone, rel=0.02)


@pytest.mark.slow
def test_two_processes_may_train_a_compiled_model(
    finished: Run, dense: Path, data: Path, recipe: Path, tmp_path: Path
) -> None:
    """That it is compiled is seen in the unit tests; here, that nobody waits for ever."""
    options = ("--task", "sst2", "--data", data, "--recipe", recipe, "-o", tmp_path / "model.pt")
    given = ("compress", dense, *options, "--compile", "--accumulation", 2)
    ended = run_forked(captured, given, processes=2)
    assert ended.returncode == 0, ended.stderr
    together = Run(tmp_path / "model.pt")
    told = together.result["options"]
    assert (told["compiled"], told["processes"], told["accumulation"]) == (True, 2, 2)
    losses = [line["loss"] for line in together.log if line["event"] == "step"]
    alone = [line["loss"] for line in finished.log if line["event"] == "step"]
    assert losses == pytest.approx(alone, rel=0.02)


@pytest.mark.slow
def test_of_two_processes_one_says_what_is_wrong(dense: Path, data: Path, tmp_path: Path) -> None:
    options = ("--task", "mnli", "--data", data, "-o", tmp_path / "model.pt")
    run = in_a_process(dense, *options, launcher=BY_TORCHRUN)
    assert run.returncode != 0
    assert run.stderr.count("error: ") == 1
    assert "expected a head with 3 outputs for mnli" in run.stderr
    assert list(tmp_path.iterdir()) == []
