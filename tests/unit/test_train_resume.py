import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from nxmi_export.compression import RunOptions, compress, fine_tune
from nxmi_export.compression.progress import Continued, EpochDone, Progress, StepDone
from nxmi_export.compression.training import snapshot_step
from nxmi_export.compression.training.fingerprint import fingerprint
from nxmi_export.compression.training.session import Evaluate
from nxmi_export.compression.training.snapshots import (
    FILE,
    drop_snapshot,
    keep_snapshot,
    write_snapshot,
)
from nxmi_export.errors import OutputError, TruncatedCheckpoint, UsageError
from nxmi_export.recipe import (
    DistillationSettings,
    Recipe,
    Scheme,
    SparsitySettings,
    TrainingSettings,
    WeightSettings,
    preset,
)
from tests.tiny_models import logits_of, tiny_model, toy_batch, toy_data

# Every mechanism once: proximal and gradient ADMM, masks that follow, masks that stay, late QAT.
DIFFERENT = ("deploy", "w4", "paper", "sr-ste", "sequential")
WITH_ATTENTION = DistillationSettings(attention=1.0)
DENSE = TrainingSettings(epochs=2, batch_size=8, learning_rate=3e-3, dropout=None)


class Stopped(BaseException):
    """What a test stops a run with, as little expected as a power cut."""


def _stop_after(step: int, heard: list[Progress]) -> Any:
    def listen(progress: Progress) -> None:
        heard.append(progress)
        if isinstance(progress, StepDone) and progress.number == step:
            raise Stopped

    return listen


def _short(name: str, **training: Any) -> Recipe:
    recipe = preset(name)
    changes = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "dropout": 0.1, **training}
    settings = recipe.training.model_copy(update=changes)
    return recipe.model_copy(update={"training": settings})


def _compressed(
    recipe: Recipe,
    options: RunOptions,
    stop_after: int = 0,
    evaluate: Evaluate | None = None,
    *,
    model_type: str = "bert",
) -> tuple[dict[str, Tensor], list[Progress]]:
    # ALBERT's one block runs twice: one set of weights and quantizers for both.
    model = tiny_model(model_type, num_hidden_layers=2 if model_type == "albert" else 1)
    data, heard = toy_data(30, model_type=model_type), list[Progress]()
    listen = _stop_after(stop_after, heard)
    compress(model, data, recipe, options, evaluate=evaluate, on_progress=listen)
    return model.state_dict(), heard


def _reports(heard: list[Progress]) -> list[Progress]:
    return [each for each in heard if isinstance(each, StepDone | EpochDone)]


@pytest.mark.parametrize(
    ("name", "precision"),
    [*((name, "fp32") for name in DIFFERENT), ("deploy", "bf16"), ("deploy", "fp16")],
)
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path: Path, name: str, precision: Any) -> None:
    recipe = _short(name)
    whole, heard = _compressed(recipe, RunOptions(precision=precision))
    options = RunOptions(precision=precision, snapshots=tmp_path, snapshot_seconds=0, resume=True)
    # before and after the switch to quantizers, within both epochs, right before the projection,
    # which comes after 6 steps, and after it; of a precision, what it may change once it is there
    for stop in (2, 5, 7, 8) if precision == "fp32" else (5, 8):
        with pytest.raises(Stopped):
            _compressed(recipe, options, stop_after=stop)
        assert snapshot_step(tmp_path) == stop - 1
    resumed, heard_last = _compressed(recipe, options)
    assert [key for key in whole if not torch.equal(resumed[key], whole[key])] == []
    assert _reports(heard_last) == _reports(heard)[-2:]


@pytest.mark.parametrize(
    ("changes", "accumulation", "model_type"),
    [
        pytest.param({}, 3, "bert", id="micro-batches"),
        pytest.param({"distillation": WITH_ATTENTION}, 1, "bert", id="attention of the teacher"),
        pytest.param({"embeddings": "int8"}, 1, "bert", id="int8 embeddings"),
        pytest.param({}, 1, "albert", id="albert"),
        pytest.param(
            {"distillation": WITH_ATTENTION, "embeddings": "int8"}, 2, "albert", id="all of them"
        ),
    ],
)
def test_a_stopped_run_of_another_kind_goes_on_to_the_same_bits(
    tmp_path: Path, changes: dict[str, Any], accumulation: int, model_type: str
) -> None:
    # Tables of embeddings are trained, and quantizers begin late, so that both are in a snapshot.
    recipe = _short("deploy", trained="all", quantize_after=0.3).model_copy(update=changes)
    whole, heard = _compressed(recipe, RunOptions(accumulation=accumulation), model_type=model_type)
    options = RunOptions(
        accumulation=accumulation, snapshots=tmp_path, snapshot_seconds=0, resume=True
    )
    for stop in (2, 5, 7, 8):  # quantizers begin after 2 steps, the projection comes after 6
        with pytest.raises(Stopped):
            _compressed(recipe, options, stop, model_type=model_type)
        assert snapshot_step(tmp_path) == stop - 1
    resumed, heard_last = _compressed(recipe, options, model_type=model_type)
    assert [key for key in whole if not torch.equal(resumed[key], whole[key])] == []
    assert _reports(heard_last) == _reports(heard)[-2:]


@pytest.mark.parametrize(("sparsity", "learned"), [("admm", False), ("magnitude", True)])
def test_a_run_from_reconstruction_that_is_measured_goes_on_to_the_same_bits(
    tmp_path: Path, sparsity: Any, learned: bool
) -> None:
    recipe = _short("deploy").model_copy(
        update={
            "sparsity": SparsitySettings(method=sparsity, initial="reconstruction"),
            "weights": WeightSettings(learned=learned),
        }
    )

    def evaluate(model: PreTrainedModel) -> dict[str, float]:
        assert not model.training
        return {"drawn": torch.rand(()).item(), "mean": float(logits_of(model, toy_batch()).mean())}

    whole, heard = _compressed(recipe, RunOptions(), evaluate=evaluate)
    options = RunOptions(snapshots=tmp_path, snapshot_seconds=0, resume=True)
    for stop in (3, 8):
        with pytest.raises(Stopped):
            _compressed(recipe, options, stop, evaluate)
    resumed, heard_last = _compressed(recipe, options, evaluate=evaluate)
    assert [key for key in whole if not torch.equal(resumed[key], whole[key])] == []
    assert _reports(heard_last) == _reports(heard)[-2:]
    # and measuring has changed nothing
    unmeasured, _ = _compressed(recipe, RunOptions())
    assert [key for key in whole if not torch.equal(unmeasured[key], whole[key])] == []


def test_the_moments_of_scales_start_anew_at_the_projection(tmp_path: Path) -> None:
    options = RunOptions(snapshots=tmp_path, snapshot_seconds=0, resume=True)
    ages: list[set[int]] = []
    for stop in (7, 8):  # the projection comes after 6 steps
        with pytest.raises(Stopped):
            _compressed(_short("deploy"), options, stop_after=stop)
        optimizer = torch.load(tmp_path / FILE, weights_only=True)["optimizer"]
        *weights, scales = (group["params"] for group in optimizer["param_groups"])
        ages += [{int(optimizer["state"][index]["step"]) for index in scales}]
        assert {int(optimizer["state"][i]["step"]) for group in weights for i in group} == {
            stop - 1
        }
    assert ages == [{6}, {1}]


@pytest.mark.parametrize("name", ["deploy", "paper", "sr-ste"])
def test_pruned_weights_have_no_moments_after_the_projection(tmp_path: Path, name: str) -> None:
    options = RunOptions(snapshots=tmp_path, snapshot_seconds=0, resume=True)
    recipe = _short(name)
    sparsity = recipe.sparsity.model_copy(update={"recovery": 0.3})
    recipe = recipe.model_copy(update={"sparsity": sparsity})
    before = {}
    for stop in (6, 7, 8):  # the snapshots before it, which comes after 6 steps, and behind it
        with pytest.raises(Stopped):
            _compressed(recipe, options, stop_after=stop)
        state = torch.load(tmp_path / FILE, weights_only=True)
        moments = {
            tuple(each["exp_avg"].shape): each
            for each in state["optimizer"]["state"].values()
            if each["exp_avg"].dim() == 2
        }
        weight = "bert.encoder.layer.0.intermediate.dense"  # the only one of its shape
        of_weight, masks = moments[64, 32], state["sparsifier"]["masks"]
        if stop == 8:
            gone = ~masks[weight]
            for moment in (of_weight["exp_avg"], of_weight["exp_avg_sq"]):
                assert moment[gone].count_nonzero() == 0
                assert not torch.signbit(moment[gone]).any()
                assert moment[~gone].count_nonzero() > 0
        else:
            assert masks is None
            before[stop] = of_weight["exp_avg_sq"]
    # Before the projection every weight had moments.
    assert all((moment > 0).all() for moment in before.values())


def test_a_dense_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole, stopped, resumed = tiny_model(), tiny_model(), tiny_model()
    fine_tune(whole, toy_data(30), DENSE)
    options = RunOptions(snapshots=tmp_path, snapshot_seconds=0, resume=True)
    with pytest.raises(Stopped):
        fine_tune(stopped, toy_data(30), DENSE, options, on_progress=_stop_after(6, []))
    fine_tune(resumed, toy_data(30), DENSE, options)
    found = resumed.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in whole.state_dict().items())


def test_epochs_end_with_a_snapshot_whatever_the_clock_says(tmp_path: Path) -> None:
    options = RunOptions(snapshots=tmp_path, snapshot_seconds=1e9)
    with pytest.raises(Stopped):
        _compressed(_short("asp"), options, stop_after=7)
    assert snapshot_step(tmp_path) == 4


def test_without_resume_a_run_begins_anew(tmp_path: Path) -> None:
    options = RunOptions(snapshots=tmp_path, snapshot_seconds=0)
    with pytest.raises(Stopped):
        _compressed(_short("asp"), options, stop_after=7)
    _, heard = _compressed(_short("asp"), options)
    assert [step.number for step in heard if isinstance(step, StepDone)] == list(range(1, 9))


def test_a_folder_without_a_snapshot_has_no_step(tmp_path: Path) -> None:
    assert snapshot_step(tmp_path / "absent") is None


def _stopped(folder: Path) -> RunOptions:
    options = RunOptions(snapshots=folder, snapshot_seconds=0, resume=True)
    with pytest.raises(Stopped):
        fine_tune(tiny_model(), toy_data(30), DENSE, options, on_progress=_stop_after(3, []))
    return options


def test_the_snapshot_of_another_run_is_refused_by_what_differs(tmp_path: Path) -> None:
    _stopped(tmp_path)
    other = RunOptions(seed=7, accumulation=2, snapshots=tmp_path, resume=True)
    with pytest.raises(UsageError) as refusal:
        fine_tune(tiny_model(), toy_data(30), DENSE, other)
    assert str(refusal.value) == (
        f"{tmp_path / FILE}: expected a snapshot of this run (seed 7, accumulation 2), found one "
        "of another run (seed 0, accumulation 1); resume with the settings it was made with, or "
        "pass --overwrite without --resume to start anew"
    )


def test_a_snapshot_from_before_there_was_compiling_goes_on_uncompiled(tmp_path: Path) -> None:
    options = _stopped(tmp_path)
    content = torch.load(tmp_path / FILE, weights_only=True)
    del content["fingerprint"]["compiled"]
    torch.save(content, tmp_path / FILE)
    with pytest.raises(UsageError, match=r"\(compiled yes\), found one of .* \(compiled no\)"):
        fine_tune(tiny_model(), toy_data(30), DENSE, replace(options, compiled=True))
    heard = list[Progress]()
    fine_tune(tiny_model(), toy_data(30), DENSE, options, on_progress=heard.append)
    assert [each.number for each in heard if isinstance(each, StepDone)] == [3, 4, 5, 6, 7, 8]


SLOWER = DENSE.model_copy(update={"learning_rate": 1e-4, "clip_norm": 0.5})


def test_another_learning_rate_is_another_run_unless_it_was_named(tmp_path: Path) -> None:
    options = _stopped(tmp_path)
    with pytest.raises(UsageError) as refusal:
        fine_tune(tiny_model(), toy_data(30), SLOWER, options)
    assert str(refusal.value) == (
        f"{tmp_path / FILE}: expected a snapshot of this run (learning rate 0.0001, clip norm "
        "0.5), found one of another run (learning rate 0.003, clip norm 1.0); resume with the "
        "settings it was made with, name another rate with --learning-rate, or pass --overwrite "
        "without --resume to start anew"
    )


def test_a_run_goes_on_at_another_rate_and_tells_it_ever_after(tmp_path: Path) -> None:
    options = replace(_stopped(tmp_path), adjusted=True)
    model, heard = tiny_model(), list[Progress]()
    with pytest.raises(Stopped):
        fine_tune(model, toy_data(30), SLOWER, options, on_progress=_stop_after(5, heard))
    told = Continued(
        "continuing after step 2, until then with learning rate 0.003, clip norm 1.0",
        2,
        {"learning rate": "0.003", "clip norm": "1.0"},
    )
    assert heard[0] == told
    steps = [each for each in heard if isinstance(each, StepDone)]
    # 8 steps in all, of which the rate falls over the last two
    assert [step.number for step in steps] == [3, 4, 5]
    assert [step.learning_rate for step in steps] == pytest.approx([1e-4] * 3)
    # It is a run of its own now, which goes on as any other and still knows where it came from.
    again, heard = tiny_model(), list[Progress]()
    options = replace(options, adjusted=False)
    fine_tune(again, toy_data(30), SLOWER, options, on_progress=heard.append)
    assert heard[0] == told
    assert [each.number for each in heard if isinstance(each, StepDone)] == [5, 6, 7, 8]


def test_what_goes_on_at_another_rate_uses_it_for_scales_and_decay_too(tmp_path: Path) -> None:
    options = RunOptions(snapshots=tmp_path, snapshot_seconds=0)
    with pytest.raises(Stopped):
        _compressed(_short("deploy"), options, stop_after=4)
    other = {"learning_rate": 5e-4, "scale_learning_rate": 2e-4, "weight_decay": 0.1}
    options = replace(options, resume=True, adjusted=True)
    with pytest.raises(Stopped):
        _compressed(_short("deploy", **other), options, stop_after=6)
    optimizer = torch.load(tmp_path / FILE, weights_only=True)["optimizer"]
    groups = [(each["peak"], each["weight_decay"]) for each in optimizer["param_groups"]]
    assert groups == [(5e-4, 0.1), (5e-4, 0.0), (2e-4, 0.0)]


def test_the_steps_of_a_run_cannot_be_laid_out_anew(tmp_path: Path) -> None:
    options = replace(_stopped(tmp_path), adjusted=True)
    longer = SLOWER.model_copy(update={"epochs": 3})
    with pytest.raises(UsageError, match=r"this run \(recipe \w{12}, learning rate 0\.0001, clip"):
        fine_tune(tiny_model(), toy_data(30), longer, options)


def test_other_weights_data_or_recipe_are_another_run(tmp_path: Path) -> None:
    options = _stopped(tmp_path)
    shorter = DENSE.model_copy(update={"epochs": 1})
    for differs, model, examples, training in (
        ("model weights", tiny_model(seed=1), 30, DENSE),
        ("training data", tiny_model(), 29, DENSE),
        ("recipe", tiny_model(), 30, shorter),
    ):
        with pytest.raises(UsageError, match=rf"this run \({differs} [0-9a-f]{{12}}\)"):
            fine_tune(model, toy_data(examples), training, options)


def test_another_version_of_transformers_is_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = _stopped(tmp_path)
    # not by the module itself, which replaces itself while it is imported
    place = "nxmi_export.compression.training.fingerprint.transformers.__version__"
    monkeypatch.setattr(place, "0.0.1")
    with pytest.raises(UsageError, match=r"of this run \(transformers version 0\.0\.1\)"):
        fine_tune(tiny_model(), toy_data(30), DENSE, options)


def test_a_run_is_bound_to_the_kind_of_its_device() -> None:
    bound_to = fingerprint(tiny_model(), toy_data(4), {}, RunOptions(), processes=1)
    assert bound_to["device"] == "cpu"


def test_a_damaged_snapshot_is_refused(tmp_path: Path) -> None:
    options = _stopped(tmp_path)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TruncatedCheckpoint) as refusal:
        fine_tune(tiny_model(), toy_data(30), DENSE, options)
    assert str(refusal.value) == (
        f"{path}: expected a complete torch file, found an archive without its directory at the "
        "end; pass --overwrite without --resume to start anew"
    )


def test_a_file_that_is_no_snapshot_is_refused(tmp_path: Path) -> None:
    torch.save({"format": "nxmi-export/1"}, tmp_path / FILE)
    with pytest.raises(UsageError) as refusal:
        snapshot_step(tmp_path)
    assert str(refusal.value) == (
        f"{tmp_path / FILE}: expected a training snapshot of the format nxmi-export/snapshot-2, "
        "found the format nxmi-export/1; pass --overwrite without --resume to start anew"
    )


def test_a_full_disk_leaves_the_snapshot_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stopped(tmp_path)
    before = (tmp_path / FILE).read_bytes()

    def full(_: object, file: Any) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    options = RunOptions(snapshots=tmp_path, snapshot_seconds=0, resume=True)
    with pytest.raises(OutputError) as refusal:
        fine_tune(tiny_model(), toy_data(30), DENSE, options)
    assert str(refusal.value) == (
        f"{tmp_path / FILE}: expected room for the whole output, found no space left on the "
        "device; free some space or choose another output path; nothing was written"
    )
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert (tmp_path / FILE).read_bytes() == before


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    options = RunOptions(snapshots=tmp_path / "file" / "snapshots", snapshot_seconds=0)
    with pytest.raises(OutputError) as refusal:
        fine_tune(tiny_model(), toy_data(8), DENSE, options)
    assert str(refusal.value) == (
        f"{tmp_path / 'file' / 'snapshots'}: expected a folder for snapshots, found Not a "
        "directory; choose another output path"
    )


def test_the_order_of_overrides_is_part_of_the_run(tmp_path: Path) -> None:
    """The first that matches wins."""
    schemes = {"*query": Scheme.parse("2:4"), "*": Scheme.parse("int8")}
    recipe = _short("deploy").model_copy(update={"overrides": schemes})
    swapped = recipe.model_copy(update={"overrides": dict(reversed(schemes.items()))})
    options = RunOptions(snapshots=tmp_path, snapshot_seconds=0, resume=True)
    with pytest.raises(Stopped):
        _compressed(recipe, options, stop_after=2)
    with pytest.raises(UsageError, match=r"expected a snapshot of this run \(recipe "):
        _compressed(swapped, options)


def test_a_snapshot_is_good_once_a_step_from_it_was(tmp_path: Path) -> None:
    options = RunOptions(snapshots=tmp_path, snapshot_seconds=0, resume=True)
    with pytest.raises(Stopped):
        _compressed(_short("deploy"), options, stop_after=3)
    # Stopped in the third step's report: after its losses, before its snapshot.
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    wanted = torch.load(tmp_path / FILE, weights_only=True)["fingerprint"]
    write_snapshot(tmp_path, wanted, {"step": 3})
    assert snapshot_step(tmp_path) == 3
    (tmp_path / FILE).rename(tmp_path / "newest")  # killed between the two renames
    assert snapshot_step(tmp_path) == 2
    keep_snapshot(tmp_path)  # a step from it was good
    assert sorted(path.name for path in tmp_path.iterdir()) == ["newest", FILE]
    assert snapshot_step(tmp_path) == 2
    write_snapshot(tmp_path, wanted, {"step": 3})
    (tmp_path / "newest").unlink()
    assert drop_snapshot(tmp_path) == 2
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    write_snapshot(tmp_path, wanted, {"step": 3})
    keep_snapshot(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert drop_snapshot(tmp_path) is None  # and the only one is left alone
    assert snapshot_step(tmp_path) == 3
