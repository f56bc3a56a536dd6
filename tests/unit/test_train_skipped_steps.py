"""What a step that fp16's loss scaler skips leaves alone, and what keeps its place all the same."""

import functools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from nxmi_export.compression import RunOptions, compress, compressed_linears
from nxmi_export.compression.progress import Progress, StageBegun, StepDone
from nxmi_export.compression.training.snapshots import FILE
from nxmi_export.recipe import Recipe, preset
from passes import numerics
from tests.tiny_models import tiny_model, toy_data

# 8 steps: Z and U are updated after the fourth, the projection comes after the sixth.
UPDATED, PROJECTED, LAST = 4, 6, 8


class Stopped(BaseException):
    """What a test stops a run with."""


@pytest.fixture(autouse=True)
def no_overflow_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the scale that a scaler begins with, 2^16, the first steps of these models overflow."""
    scaler = functools.partial(torch.amp.GradScaler, init_scale=2.0**8)
    monkeypatch.setattr(torch.amp, "GradScaler", scaler)


def _recipe(penalty: str = "proximal") -> Recipe:
    recipe = preset("deploy")
    training = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "dropout": 0.1}
    return recipe.model_copy(
        update={
            "sparsity": recipe.sparsity.model_copy(update={"penalty": penalty}),
            "training": recipe.training.model_copy(update=training),
        }
    )


def _compressed(
    recipe: Recipe,
    options: RunOptions,
    overflows: Collection[int] = (),
    listen: Callable[[Progress], None] = lambda progress: None,
) -> PreTrainedModel:
    """A model compressed under gradients that are infinite in the steps `overflows`."""
    model = tiny_model(num_hidden_layers=1)
    done = 0

    def note(progress: Progress) -> None:
        nonlocal done
        done = progress.number if isinstance(progress, StepDone) else done
        listen(progress)

    def overflow(gradient: Tensor) -> Tensor:
        return gradient * torch.inf if done + 1 in overflows else gradient

    model.get_parameter("classifier.bias").register_hook(overflow)
    compress(model, toy_data(30), recipe, options, on_progress=note)
    return model


def _snapshots(
    folder: Path, recipe: Recipe, overflows: Collection[int]
) -> tuple[dict[int, dict[str, Any]], PreTrainedModel]:
    """The snapshot after every step, and the model in the end."""
    states: dict[int, dict[str, Any]] = {}

    def read(progress: Progress) -> None:
        if isinstance(progress, StepDone) and progress.number > 1:
            states[progress.number - 1] = torch.load(folder / FILE, weights_only=True)

    options = RunOptions(precision="fp16", snapshots=folder, snapshot_seconds=0)
    model = _compressed(recipe, options, overflows, read)
    states[LAST] = torch.load(folder / FILE, weights_only=True)
    assert [state["step"] for state in states.values()] == list(range(1, LAST + 1))
    assert [n for n, state in states.items() if state["skipped"]] == sorted(overflows)
    return states, model


def _differs(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return not torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() != other.keys() or any(_differs(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) != len(other) or any(map(_differs, one, other))
    return bool(one != other)


def _changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """The parts of a snapshot that differ; rates of learning and ρ are the timeline's own."""
    for state in (before, after):
        for group in state["optimizer"]["param_groups"]:
            group.pop("lr", None)
        state["sparsifier"].pop("rho", None)
    return {name for name in before if name != "random" and _differs(before[name], after[name])}


@pytest.mark.parametrize("penalty", ["proximal", "gradient"])
@pytest.mark.parametrize("skipped", [UPDATED, UPDATED + 1, LAST])
def test_a_skipped_step_moves_nothing_but_the_scaler(
    tmp_path: Path, penalty: str, skipped: int
) -> None:
    states, _ = _snapshots(tmp_path, _recipe(penalty), [skipped])
    assert _changed(states[skipped - 1], states[skipped]) == {"step", "scaler", "skipped"}
    before, after = (states[step]["scaler"]["scale"] for step in (skipped - 1, skipped))
    assert after == before / 2


@pytest.mark.parametrize("skipped", [[], [UPDATED], [UPDATED, UPDATED + 1]])
def test_a_due_update_comes_after_the_next_step_that_is_taken(
    tmp_path: Path, skipped: list[int]
) -> None:
    states, _ = _snapshots(tmp_path, _recipe(), skipped)
    towards = {n: states[n]["sparsifier"]["towards"] for n in range(1, PROJECTED + 1)}
    moved = [n for n in range(2, PROJECTED + 1) if _differs(towards[n - 1], towards[n])]
    assert moved == [UPDATED + len(skipped)]
    known = [n for n in range(1, PROJECTED + 1) if states[n]["residuals"]]
    assert known == list(range(UPDATED + len(skipped), PROJECTED + 1))


@pytest.mark.parametrize("skipped", [[UPDATED], [UPDATED, UPDATED + 1, PROJECTED], [PROJECTED + 1]])
def test_the_projection_keeps_its_place(tmp_path: Path, skipped: list[int]) -> None:
    states, model = _snapshots(tmp_path, _recipe(), skipped)
    final = [n for n, state in states.items() if state["sparsifier"]["masks"] is not None]
    assert final == [PROJECTED + 1, LAST]
    for linear in compressed_linears(model).values():
        assert not len(numerics.group_violations(linear.codes().numpy(), 2, 4, axis=1))


def test_a_run_stopped_between_a_skipped_step_and_its_update_goes_on_to_the_same_bits(
    tmp_path: Path,
) -> None:
    skipped = (UPDATED, UPDATED + 1)
    whole = _compressed(_recipe(), RunOptions(precision="fp16"), skipped).state_dict()
    options = RunOptions(precision="fp16", snapshots=tmp_path, snapshot_seconds=0, resume=True)

    def stop(progress: Progress) -> None:
        if isinstance(progress, StepDone) and progress.number == UPDATED + 1:
            raise Stopped

    with pytest.raises(Stopped):
        _compressed(_recipe(), options, skipped, stop)
    heard: list[Progress] = []
    # the fifth step is this run's first
    resumed = _compressed(_recipe(), options, (1,), heard.append).state_dict()
    assert [key for key in whole if not torch.equal(resumed[key], whole[key])] == []
    assert [each.number for each in heard if isinstance(each, StepDone)] == [5, 6, 7, 8]
    assert StageBegun("projecting the weights onto their patterns") in heard
