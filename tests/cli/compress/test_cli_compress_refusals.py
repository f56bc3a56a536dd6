"""What cannot be compressed as asked: exit code 2, one exact sentence, and nothing is written."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from nxmi_export.glue import task_named
from nxmi_export.sole_writer import sole_writer
from tests.cli.command_lines import Command, Outcome
from tests.cli.compress.compress_runs import (
    Run,
    in_a_process,
    last_sentence,
    write_dense,
    write_recipe,
    write_task,
)
from tests.tiny_models import tiny_model
from tests.unit.test_output_files import FULL, file_size_limit

FULL_WHILE_TRAINING = (
    "expected room for the whole output, found a limit on the size of files; "
    "put that right and continue with --resume"
)
UNUSED = "expected an unused name, found a {}; choose another output with -o, or pass --overwrite"


@pytest.fixture
def refused(nxmi_export: Command, dense: Path, data: Path, tmp_path: Path) -> Command:
    """Compress with these options on top; asserts that it is refused and nothing is written."""

    def run(*options: object, model: object = dense, task: str = "sst2") -> Outcome:
        before = sorted(tmp_path.rglob("*"))
        outcome = nxmi_export(
            *("compress", model, "--task", task, "--data", data, "--epochs", 0),
            *("-o", tmp_path / "model.pt", *options),
        )
        assert outcome.code == 2
        assert sorted(tmp_path.rglob("*")) == before
        return outcome

    return run


def test_a_head_with_other_outputs_than_the_task(refused: Command, dense: Path) -> None:
    assert refused(task="mnli").sentence == (
        f"{dense}: expected a head with 3 outputs for mnli, found 2; "
        "name the task it was trained on"
    )
    assert refused(task="stsb").sentence == (
        f"{dense}: expected a head with 1 output for stsb, found 2; name the task it was trained on"
    )


def test_a_head_with_other_labels_than_the_task(refused: Command, tmp_path: Path) -> None:
    model = write_dense(tmp_path / "dense", tiny_model(id2label={0: "cat", 1: "dog"}))
    assert refused(model=model).sentence == (
        f"{model}: expected the labels of sst2: negative, positive, found cat, dog; "
        "name the task it was trained on, or correct id2label in its configuration"
    )


def test_a_model_that_is_compressed_already(refused: Command, finished: Run) -> None:
    assert refused(model=finished.model).sentence == (
        f"{finished.model}: expected a dense model, found one that is compressed already, "
        "to 2:4+int8; start from the dense model that it was made from"
    )


def test_a_model_that_is_not_there(refused: Command, tmp_path: Path) -> None:
    path = tmp_path / "dense.pt"
    assert refused(model=path).sentence == (
        f"{path}: expected a model file, a Hugging Face directory or a hub name, "
        "found nothing at this path; check the spelling and the working directory"
    )


def test_an_unknown_task(refused: Command) -> None:
    assert refused(task="sst").sentence.endswith("found 'sst'; did you mean sst2?")


def test_a_recipe_that_is_neither_a_preset_nor_a_file(refused: Command) -> None:
    sentence = refused("--recipe", "deploi").sentence
    assert sentence.startswith("recipe 'deploi': expected ")
    assert "deploy, w4, ptq, paper" in sentence


def test_an_unknown_key_of_a_recipe_with_the_nearest_one(refused: Command, tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "recipe.yaml", "training:\n  epoch: 3\n")
    assert refused("--recipe", path).sentence == (
        f"{path}: expected known recipe keys, found the key 'training.epoch'; "
        "did you mean 'training.epochs'?"
    )


def test_an_unknown_scheme(refused: Command, tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "recipe.yaml", "default: 2:4+int2\n")
    assert refused("--recipe", path).sentence == (
        f"{path}: expected a valid value for default, found '2:4+int2'; '2:4+int2' is not a "
        "scheme; write dense, N:M, int8, int4, N:M+int8 or N:M+int4"
    )


def test_a_learning_rate_that_is_none(refused: Command) -> None:
    assert refused("--learning-rate", 0).sentence == (
        "command line: expected a valid value for training.learning_rate, found 0.0; "
        "learning_rate should be greater than 0"
    )


def test_a_pattern_that_does_not_divide_a_layer(refused: Command, tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "recipe.yaml", "default: 1:3\n")
    assert refused("--recipe", path).sentence == (
        "bert.encoder.layer.0.attention.self.query: expected an input width that is a multiple "
        "of 3 for 1:3, found width 32; give the layer another scheme under overrides in the recipe"
    )


def test_nothing_to_train_is_found_before_the_dense_model_is_evaluated(
    refused: Command, tmp_path: Path
) -> None:
    text = "default: dense\ntraining: {trained: compressed}\n"
    recipe = write_recipe(tmp_path / "recipe.yaml", text)
    # A dense model that has been evaluated would have its line before the sentence.
    assert refused("--recipe", recipe, "--epochs", 1).sentence == (
        "trained: compressed: expected at least one weight to train, found none in this model; "
        "write trained: encoder or trained: all"
    )


def test_an_override_that_matches_nothing(refused: Command, tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "recipe.yaml", "overrides:\n  '*.layer.7.*': int8\n")
    assert refused("--recipe", path).sentence.startswith(
        "override '*.layer.7.*': expected a pattern that matches a linear layer of the encoder, "
    )


def test_data_without_rows(refused: Command, tmp_path: Path) -> None:
    folder = write_task(tmp_path / "data", task_named("sst2"))
    path = folder / "sst2" / "train.parquet"
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    assert refused("--data", folder).sentence == (
        f"{path}: expected at least one row, found none; fetch the file again"
    )


def test_data_of_another_place(refused: Command, tmp_path: Path) -> None:
    sentence = refused("--data", tmp_path / "nowhere").sentence
    assert sentence.startswith("sst2 train: expected one of ")
    assert f"found no directory {tmp_path / 'nowhere'}; " in sentence


def test_no_examples_at_all(refused: Command) -> None:
    outcome = refused("--limit", 0)
    assert "Invalid value for '--limit'" in outcome.err
    assert "greater than or equal to 1" in outcome.err


@pytest.mark.parametrize(("share", "held"), [(0, 0), (1, 48)])
def test_a_held_out_share_of_nothing_or_of_everything(
    refused: Command, share: int, held: int
) -> None:
    assert refused("--evaluate-on", "holdout", "--holdout", share).sentence == (
        "sst2 train: expected a held-out share that leaves examples on both sides, "
        f"found {held} of 48 examples; choose another --holdout"
    )


@pytest.mark.parametrize("ending", ["pt", "compress.json", "compress.svg"])
def test_an_output_that_is_there(refused: Command, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"model.{ending}"
    path.write_text("mine")
    assert refused().sentence == f"{path}: {UNUSED.format('file')} to replace it"
    assert refused("--resume").sentence == f"{path}: {UNUSED.format('file')} to replace it"
    assert path.read_text() == "mine"


def test_an_output_beside_a_folder_without_a_snapshot(refused: Command, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_text("mine")
    (tmp_path / "model.compress.snapshots").mkdir()
    assert refused("--resume").sentence == f"{path}: {UNUSED.format('file')} to replace it"


def test_a_log_that_another_hand_has_changed(refused: Command, tmp_path: Path) -> None:
    path = tmp_path / "model.compress.jsonl"
    path.write_text('{"event": "step", "step": 1, "seconds": 1.0}\nhello\n')
    (tmp_path / "model.compress.snapshots").mkdir()
    assert refused("--resume").sentence == (
        f"{path}, line 2: expected one step or epoch of the interrupted run, found 'hello'; "
        "delete the file to resume without what it tells, or pass --overwrite"
    )


@pytest.mark.parametrize("ending", ["compress.jsonl", "compress.snapshots"])
def test_an_unfinished_run_of_this_output(refused: Command, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"model.{ending}"
    path.mkdir()
    assert refused().sentence == (
        f"{path}: expected no unfinished run of this output, found one; "
        "pass --resume to continue it, or --overwrite to start anew"
    )


@pytest.mark.parametrize("how", [(), ("--resume",), ("--overwrite",)])
@pytest.mark.parametrize("name", ["model.pt", "model"])
def test_an_output_that_another_run_writes(
    refused: Command, tmp_path: Path, name: str, how: tuple[str, ...]
) -> None:
    log = tmp_path / "model.compress.jsonl"  # both names have the same files beside the model
    with sole_writer(log):
        log.write_text("")
        assert refused("-o", tmp_path / name, *how).sentence == (
            f"{log}: expected an output that no other process is writing, found one at work on "
            "it; let it end, stop it, or choose another output with -o"
        )


def test_an_output_that_is_a_folder(refused: Command, tmp_path: Path) -> None:
    (tmp_path / "model.pt").mkdir()
    assert refused().sentence == (
        f"{tmp_path / 'model.pt'}: expected an unused name, found a folder; choose another output "
        "with -o"
    )
    assert refused("--overwrite").sentence == (
        f"{tmp_path / 'model.pt'}: expected a file to overwrite or an unused name, "
        "found a folder; choose another output with -o"
    )


def test_an_output_in_the_place_of_the_model(refused: Command, tmp_path: Path) -> None:
    model = write_dense(tmp_path / "model.pt")
    assert refused("--overwrite", model=model).sentence == (
        f"{model}: expected an output apart from the model and its base, "
        f"found {model} in its place or inside it; choose another with -o"
    )


def test_an_output_in_a_folder_that_is_not_there(refused: Command, tmp_path: Path) -> None:
    assert refused("-o", tmp_path / "nowhere" / "model.pt").sentence == (
        f"{tmp_path / 'nowhere'}: expected an output path in a writable folder, found No such "
        "file or directory; choose another output path or make its folder first"
    )


def test_an_output_in_a_folder_that_may_not_be_written(refused: Command) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("needs the proc file system, in which not even root makes files")
    assert refused("-o", "/proc/model.pt").sentence == (
        "/proc: expected an output path in a writable folder, found No such file or directory; "
        "choose another output path or make its folder first"
    )


@pytest.mark.parametrize(
    ("tracker", "packages", "wanted"),
    [
        ("tensorboard", "tensorboard or tensorboardX", '"nxmi-export[tracking]"'),
        ("mlflow", "mlflow", "mlflow"),
    ],
)
def test_a_tracker_that_is_not_installed(
    nxmi_export: Command,
    dense: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tracker: str,
    packages: str,
    wanted: str,
) -> None:
    monkeypatch.setattr("nxmi_export.workflow.compress.tracking.find_spec", lambda name: None)
    outcome = nxmi_export(
        *("compress", dense, "--task", "sst2", "--data", data, "--tracker", tracker),
        *("-o", tmp_path / "model.pt"),
    )
    assert outcome.code == 3
    assert outcome.sentence == (
        f"the tracker {tracker}: expected an installed {packages}, found none; "
        f"run `pip install {wanted}`"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_fills_up_while_the_model_is_saved(
    nxmi_export: Command, dense: Path, data: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model.pt"
    options = ("--task", "sst2", "--data", data, "--epochs", 0, "-o", model)
    with file_size_limit(50_000):
        outcome = nxmi_export("compress", dense, *options)
    assert outcome.code == 2
    assert last_sentence(outcome) == f"{model}: {FULL.format('a limit on the size of files')}"
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_fills_up_while_training(
    nxmi_export: Command, dense: Path, data: Path, recipe: Path, tmp_path: Path
) -> None:
    options = ("--task", "sst2", "--data", data, "--recipe", recipe, "-o", tmp_path / "model.pt")
    with file_size_limit(50_000):
        outcome = nxmi_export("compress", dense, *options)
    assert outcome.code == 2
    snapshot = tmp_path / "model.compress.snapshots" / "snapshot.pt"
    kept = "the log is kept, and there was no snapshot before"
    assert last_sentence(outcome) == f"{snapshot}: {FULL_WHILE_TRAINING}; {kept}"
    assert not snapshot.exists()
    assert not (tmp_path / "model.pt").exists()
    # What was done so far stands in the log, whole.
    assert [line["step"] for line in Run(tmp_path / "model.pt").log] == [1, 2, 3, 3]


@pytest.mark.parametrize(
    ("file", "name"), [(2, "model.compress.snapshots/snapshot.pt"), (3, "model.pt")]
)
def test_a_device_that_fills_up_after_a_snapshot(
    nxmi_export: Command,
    dense: Path,
    data: Path,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: int,
    name: str,
) -> None:
    """Both snapshots end an epoch; the third large file is the model."""
    written, calls = torch.save, list[Any]()

    def save(content: object, place: Any) -> None:
        calls.append(place)
        with file_size_limit(50_000) if len(calls) == file else nullcontext():
            written(content, place)

    monkeypatch.setattr(torch, "save", save)
    options = ("--task", "sst2", "--data", data, "--recipe", recipe, "-o", tmp_path / "model.pt")
    outcome = nxmi_export("compress", dense, *options)
    assert outcome.code == 2
    kept = f"the log and the snapshot after step {3 * (file - 1)} are kept"
    assert last_sentence(outcome) == f"{tmp_path / name}: {FULL_WHILE_TRAINING}; {kept}"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model.compress.jsonl", "model.compress.snapshots"}
    assert nxmi_export("compress", dense, *options, "--resume").code == 0
    assert not (tmp_path / "model.compress.snapshots").exists()


@pytest.mark.parametrize(
    ("minutes", "told"),
    [
        (5, "step 2 (epoch 1): expected finite losses and gradients, found a loss of nan, which"),
        # before the snapshot that is due after every step
        (0, "step 1 (epoch 1): expected weights that give finite numbers, found NaN or infinite "),
    ],
)
def test_a_loss_that_is_no_number_says_where(
    nxmi_export: Command, dense: Path, data: Path, tmp_path: Path, minutes: int, told: str
) -> None:
    text = "default: 2:4\nsparsity: {method: magnitude}\ndistillation: {logits: 0, hidden: 0}\n"
    training = "training: {epochs: 3, batch_size: 16, learning_rate: 1e30, warmup: 0}\n"
    recipe = write_recipe(tmp_path / "recipe.yaml", text + training)
    outcome = nxmi_export(
        *("compress", dense, "--task", "sst2", "--data", data, "--recipe", recipe),
        *("--checkpoint-minutes", minutes, "-o", tmp_path / "model.pt"),
    )
    assert outcome.code == 1
    sentence = last_sentence(outcome)
    assert sentence.startswith(told)
    assert sentence.endswith(
        " in the output of bert.encoder.layer.0.attention.self.query; "
        "lower the learning rate: --overwrite --learning-rate RATE begins anew, as there is no "
        "good snapshot"
    )
    assert not (tmp_path / "model.pt").exists()
    assert not (tmp_path / "model.compress.snapshots" / "snapshot.pt").exists()
    assert [line["step"] for line in Run(tmp_path / "model.pt").log] == [1]


@pytest.mark.skipif(torch.accelerator.is_available(), reason="a GPU is compiled for by Triton")
def test_a_machine_without_a_compiler_is_told_before_anything_is_written(
    dense: Path, data: Path, tmp_path: Path
) -> None:
    """In a process of its own: PyTorch looks for a compiler once."""
    run = in_a_process(
        *(dense, "--task", "sst2", "--data", data, "-o", tmp_path / "model.pt", "--compile"),
        environment={
            "CXX": str(tmp_path / "none"),
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
        },
    )
    assert run.returncode == 3
    assert run.stderr.splitlines()[-1] == (
        "error: --compile: expected what torch.compile needs: for a CPU a C++ compiler, for a GPU "
        "Triton, found InvalidCxxCompiler: No working C++ compiler found in "
        f"torch._inductor.config.cpp.cxx: (None, '{tmp_path / 'none'}'); "
        "install it (for a CPU: g++ and Python's headers), or train without --compile"
    )
    assert [each.name for each in tmp_path.iterdir()] == ["cache"]


def test_what_trains_nothing_needs_no_compiler(dense: Path, data: Path, tmp_path: Path) -> None:
    run = in_a_process(
        *(dense, "--task", "sst2", "--data", data, "-o", tmp_path / "model.pt"),
        *("--compile", "--epochs", 0),
        environment={
            "CXX": str(tmp_path / "none"),
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
        },
    )
    assert run.returncode == 0, run.stderr
