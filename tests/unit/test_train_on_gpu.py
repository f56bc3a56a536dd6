"""Training on CUDA, in the precisions that it is for.

Equal runs have equal bits there: on one device and stream cuBLAS repeats its results, histograms
count integers, and embeddings, whose gradients are added up in any order, are not trained.
"""

import math
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from nxmi_export.compression import RunOptions, compress, compressed_linears
from nxmi_export.compression.progress import Progress, StepDone
from nxmi_export.compression.training import snapshot_step
from nxmi_export.compression.training.options import Precision
from nxmi_export.recipe import Recipe, preset
from passes import numerics
from tests.tiny_models import tiny_model, toy_data

pytestmark = pytest.mark.gpu

STEPS = 8  # the projection comes after the sixth


class Stopped(BaseException):
    """What a test stops a run with."""


@pytest.fixture(autouse=True)
def cuda() -> None:
    if not torch.cuda.is_available():
        pytest.skip(f"torch {torch.__version__} does not reach the GPU of this machine")


@pytest.fixture(params=["bf16", "fp16"])
def precision(request: pytest.FixtureRequest) -> Precision:
    name: Precision = request.param
    return name


def _recipe() -> Recipe:
    recipe = preset("deploy")
    changes = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "dropout": 0.1}
    training = recipe.training.model_copy(update=changes)
    return recipe.model_copy(update={"training": training})


def _compressed(
    options: RunOptions, *, stop_after: int = STEPS + 1
) -> tuple[PreTrainedModel, list[StepDone]]:
    model = tiny_model(num_hidden_layers=1)
    steps: list[StepDone] = []

    def note(progress: Progress) -> None:
        if isinstance(progress, StepDone):
            steps.append(progress)
            if progress.number == stop_after:
                raise Stopped

    compress(model, toy_data(30), _recipe(), options, on_progress=note)
    assert model.device.type == "cuda"
    return model, steps


def test_losses_are_finite_and_the_integers_are_on_their_pattern(precision: Precision) -> None:
    model, steps = _compressed(RunOptions(precision=precision))
    assert [step.number for step in steps] == list(range(1, STEPS + 1))
    assert all(math.isfinite(loss) for step in steps for loss in (step.loss, *step.losses.values()))
    before = tiny_model(num_hidden_layers=1)
    linears = compressed_linears(model)
    assert len(linears) == 6
    for name, linear in linears.items():
        codes = linear.codes().cpu().numpy()
        assert codes.any()
        assert not len(numerics.group_violations(codes, 2, 4, axis=1))
        kept = linear.weight.detach().cpu() != 0
        assert not torch.equal(
            linear.weight.detach().cpu()[kept], before.get_parameter(f"{name}.weight")[kept]
        )


def test_a_stopped_run_goes_on_to_the_same_bits(precision: Precision, tmp_path: Path) -> None:
    whole, told = _compressed(RunOptions(precision=precision))
    options = RunOptions(precision=precision, snapshots=tmp_path, snapshot_seconds=0, resume=True)
    for stop in (5, 8):  # before the projection and after it
        with pytest.raises(Stopped):
            _compressed(options, stop_after=stop)
        assert snapshot_step(tmp_path) == stop - 1
    resumed, told_last = _compressed(options)
    assert told_last == told[-1:]
    found = resumed.state_dict()
    differing = [name for name, each in whole.state_dict().items() if not found[name].equal(each)]
    assert differing == []
