"""Whole compression runs as real processes: killed and continued, and several at once."""

import json
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nxmi_export.recipe import (
    ActivationSettings,
    Calibration,
    DistillationSettings,
    Recipe,
    Scheme,
    SparsitySettings,
    TrainingSettings,
    WeightSettings,
)
from tests.pipeline.training_program import run_program

pytestmark = pytest.mark.slow

# Everything at once: reconstruction, ADMM with two updates an epoch, quantizers that begin after a
# quarter, learned steps, distillation, the final projection after 11 of 15 steps, and dropout.
ALL_PARTS = Recipe(
    sparsity=SparsitySettings(initial="reconstruction", updates_per_epoch=2, recovery=0.3),
    training=TrainingSettings(
        epochs=3, batch_size=8, learning_rate=1e-3, dropout=0.1, quantize_after=0.25
    ),
)
FLOAT = Recipe(
    default=Scheme.parse("2:4"),
    distillation=DistillationSettings(attention=1.0),
    sparsity=SparsitySettings(penalty="gradient", rho=1e-2, recovery=0.3),
    training=TrainingSettings(epochs=2, batch_size=8, learning_rate=1e-3, dropout=0.0),
)


def _weights(folder: Path, name: str = "weights.pt") -> dict[str, Tensor]:
    return torch.load(folder / name, weights_only=True)


def _losses(folder: Path) -> dict[int, float]:
    return {
        int(step): loss for step, loss in json.loads((folder / "losses.json").read_text()).items()
    }


def _finished(recipe: Recipe, folder: Path, *arguments: str, processes: int = 1) -> Path:
    done = run_program(recipe, folder, *arguments, processes=processes)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_run_killed_again_and_again_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = _finished(ALL_PARTS, tmp_path / "whole")
    folder = tmp_path / "killed"
    for kill in (
        ("--kill-at", "1"),  # before the first snapshot
        ("--kill-at", "3"),  # quantizers still off
        ("--kill-in-save", "4"),  # learned steps, and a snapshot cut in half
        ("--kill-at", "13"),  # under the final masks
    ):
        died = run_program(ALL_PARTS, folder, "--resume", *kill)
        assert died.returncode == -signal.SIGKILL, died.stderr
    _finished(ALL_PARTS, folder, "--resume")
    # No step was made from the newest, so the one before it is there as well.
    left = {path.name for path in (folder / "snapshots").iterdir()}
    assert left == {"snapshot.pt", "snapshot.before.pt"}
    assert sorted(_losses(folder)) == [13, 14, 15]  # the snapshot after step 12 was continued
    expected, found = _weights(whole), _weights(folder)
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    every = _losses(whole)
    assert _losses(folder) == {step: every[step] for step in (13, 14, 15)}


def test_two_processes_give_the_losses_and_weights_of_one(tmp_path: Path) -> None:
    # 41 examples: the last batch of an epoch has one, and the second process none
    one = _finished(FLOAT, tmp_path / "one", "--examples", "41")
    two = _finished(FLOAT, tmp_path / "two", "--examples", "41", "--accumulation=2", processes=2)
    expected, found = _losses(one), _losses(two)
    assert len(found) == 12
    assert [found[step] for step in expected] == pytest.approx(list(expected.values()), rel=2e-5)
    weights = _weights(two)
    for name, weight in _weights(one).items():
        # Softmax takes the key's bias away: its gradient is rounding and nothing else.
        if not name.endswith("key.bias"):
            torch.testing.assert_close(weights[name], weight, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    "sparsity",
    [
        SparsitySettings(updates_per_epoch=2, initial="reconstruction"),
        SparsitySettings(method="sr-ste"),
    ],
    ids=lambda sparsity: sparsity.method,
)
def test_what_one_process_computes_holds_for_all(
    sparsity: SparsitySettings, tmp_path: Path
) -> None:
    recipe = Recipe(
        sparsity=sparsity,
        weights=WeightSettings(learned=False, calibration=Calibration(method="mse")),
        activations=ActivationSettings(learned=False, calibration_batches=4),
        training=TrainingSettings(epochs=1, batch_size=8, learning_rate=1e-3, quantize_after=0.25),
    )
    _finished(recipe, tmp_path, "--disturb", processes=2)
    expected, found = _weights(tmp_path), _weights(tmp_path, "weights-1.pt")
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def test_two_processes_train_quantized_weights_and_resume_together(tmp_path: Path) -> None:
    recipe = ALL_PARTS.model_copy(
        update={"training": ALL_PARTS.training.model_copy(update={"dropout": 0.0})}
    )
    one = _finished(recipe, tmp_path / "one")
    two = _finished(recipe, tmp_path / "two", processes=2)
    # A sum in another order moves values across rounding ties, which then differ by a step.
    assert list(_losses(two).values()) == pytest.approx(list(_losses(one).values()), rel=0.02)
    died = run_program(recipe, tmp_path / "killed", "--kill-at", "9", processes=2)
    assert died.returncode != 0
    killed = _finished(recipe, tmp_path / "killed", "--resume", processes=2)
    expected, found = _weights(two), _weights(killed)
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


@pytest.mark.parametrize("scheme", ["2:4+int8", "2:4+int4"])
def test_gradients_of_weights_and_steps_do_not_depend_on_the_processes(
    scheme: str, tmp_path: Path
) -> None:
    """At the first step, where weights and steps are equal still."""
    training = ALL_PARTS.training.model_copy(
        update={"epochs": 1, "dropout": 0.0, "quantize_after": 0.0}
    )
    recipe = ALL_PARTS.model_copy(update={"default": Scheme.parse(scheme), "training": training})
    weights, steps = torch.load(_finished(recipe, tmp_path / "one") / "gradients.pt")
    two = _finished(recipe, tmp_path / "two", "--accumulation=2", processes=2)
    of_two = torch.load(two / "gradients.pt")
    assert len(weights) > 10
    assert len(steps) > 10
    for expected, found in zip([*weights, *steps], [*of_two[0], *of_two[1]], strict=True):
        assert (expected is None) == (found is None)
        if expected is not None:
            # Sums in another order, and a rounding tie that one of them moves.
            difference = (found - expected).norm().item()
            assert difference <= 0.02 * expected.norm().item() + 1e-6


def test_two_processes_train_towards_what_does_not_reach_the_classifier(tmp_path: Path) -> None:
    only = DistillationSettings(labels=0, logits=0, hidden=1)
    recipe = FLOAT.model_copy(update={"distillation": only})
    one = _finished(recipe, tmp_path / "one")
    two = _finished(recipe, tmp_path / "two", processes=2)
    assert list(_losses(two).values()) == pytest.approx(list(_losses(one).values()), rel=2e-5)


def test_two_processes_train_a_model_that_does_not_use_all_of_itself(tmp_path: Path) -> None:
    """MobileBERT with its values' bottleneck for all of them has one more for queries."""
    model = ("--model-type", "mobilebert", "--config", '{"use_bottleneck_attention": true}')
    one = _finished(FLOAT, tmp_path / "one", *model)
    two = _finished(FLOAT, tmp_path / "two", *model, processes=2)
    assert list(_losses(two).values()) == pytest.approx(list(_losses(one).values()), rel=1e-4)


def test_where_one_process_cannot_write_all_of_them_say_so(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "snapshots").write_text("in the way")
    ended = run_program(FLOAT, tmp_path / "run", processes=2)
    assert ended.returncode != 0
    assert ended.stderr.count("expected a folder for snapshots, found File exists") > 1
    assert "RuntimeError" not in ended.stderr
