"""Training through torch.compile: what is captured, and once what a C++ compiler makes of it."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch._inductor.exc import CppCompileError, InductorError

from nxmi_export.compression import RunOptions, compress
from nxmi_export.compression.objective import Objective
from nxmi_export.compression.progress import Progress, StageBegun, StepDone
from nxmi_export.compression.scales import learn_scales
from nxmi_export.compression.training import snapshot_step
from nxmi_export.compression.training.batches import Share, epoch_batches
from nxmi_export.compression.training.compiled import running_compiled
from nxmi_export.compression.training.gradients import Gradients
from nxmi_export.compression.training.options import Precision
from nxmi_export.compression.training.processes import join_processes
from nxmi_export.errors import CapabilityMissing, UsageError
from nxmi_export.recipe import Component, DistillationSettings, Placement, Recipe, Scheme, preset
from tests.cpp_compiler import needs_compiler
from tests.tiny_models import compressed_model, tiny_model, toy_data

pytestmark = [
    # torch's compiler warns of what it does itself, and takes such errors for the model's
    pytest.mark.filterwarnings("default", "ignore:.torch.jit.script_method. is:DeprecationWarning"),
]
DISTILLED = DistillationSettings(logits=1.0, hidden=1.0)
ALONE = DistillationSettings(logits=0.0, hidden=0.0)


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are captured as graphs, and these run as they are: C++ of them takes minutes."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


def _gradients(
    model_type: str,
    precision: Precision,
    recipe: Recipe,
    *,
    compiled: bool,
) -> tuple[float, dict[str, Tensor]]:
    """The loss of one step and what it puts into every `.grad`."""
    layers = {"bert": 1, "albert": 2}[model_type]  # ALBERT's are one block, run twice
    model = compressed_model(model_type=model_type, recipe=recipe, num_hidden_layers=layers)
    learn_scales(model)
    data = toy_data(16, model_type=model_type)
    teacher = tiny_model(model_type, num_hidden_layers=layers)
    gradients = Gradients(
        model.train(),
        Objective(recipe.distillation, teacher, is_regression=False),
        data,
        join_processes(),
        Share(),
        RunOptions(precision=precision, compiled=compiled),
    )
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # drawn by another generator where it is compiled
    (batch,) = epoch_batches(data, 16, seed=0, epoch=1)
    torch._dynamo.reset()
    counters.clear()
    losses = gradients.of(batch, torch.amp.GradScaler("cpu", enabled=False))
    # One graph, with nothing of the step outside of it.
    assert counters["stats"]["unique_graphs"] == compiled
    assert not counters["graph_break"]
    named = model.named_parameters()
    found = {name: each.grad for name, each in named if each.grad is not None}
    return losses["loss"].item(), found


def _assert_the_same(
    model_type: str, precision: Precision, recipe: Recipe, *, tolerance: float
) -> None:
    loss, expected = _gradients(model_type, precision, recipe, compiled=False)
    compiled_loss, found = _gradients(model_type, precision, recipe, compiled=True)
    assert compiled_loss == pytest.approx(loss, rel=tolerance / 10)
    assert found.keys() == expected.keys()
    assert any("log_step" in name for name in found)
    for kind in (True, False):  # one by one, some are sums of little more than roundings
        names = [name for name in expected if ("log_step" in name) is kind]
        wanted, own = (torch.cat([each[n].flatten() for n in names]) for each in (expected, found))
        error = ((own - wanted).norm() / wanted.norm()).item()
        assert error <= tolerance, f"of {'steps' if kind else 'weights'}: {error}"


@pytest.mark.usefixtures("captured")
@pytest.mark.parametrize(
    ("model_type", "precision", "tolerance"), [("bert", "bf16", 0.01), ("albert", "fp32", 1e-3)]
)
def test_a_step_is_one_graph_with_the_same_gradients(
    model_type: str, precision: Precision, tolerance: float
) -> None:
    recipe = preset("deploy").model_copy(update={"distillation": DISTILLED})
    _assert_the_same(model_type, precision, recipe, tolerance=tolerance)


@pytest.mark.slow
@needs_compiler
def test_gradients_are_those_of_the_step_that_is_not_compiled() -> None:
    """Through the real compiler; one linear alone is quantized and pruned, as it takes minutes."""
    dense = dict.fromkeys(set(Component) - {Component.QUERY}, Scheme.parse("dense"))
    changes = {"schemes": dense, "placement": Placement.LINEAR, "distillation": DISTILLED}
    recipe = preset("deploy").model_copy(update=changes)
    _assert_the_same("bert", "fp32", recipe, tolerance=1e-3)


class Stopped(BaseException):
    """What a test stops a run with."""


def _run(folder: Path, *, compiled: bool, stop_after: int = 0) -> list[Progress]:
    recipe = preset("deploy")
    changes = {"epochs": 2, "batch_size": 15, "dropout": 0.1, "learning_rate": 1e-4}
    recipe = recipe.model_copy(
        update={
            "training": recipe.training.model_copy(update=changes),
            "distillation": ALONE,
        }
    )
    heard: list[Progress] = []

    def listen(progress: Progress) -> None:
        heard.append(progress)
        if isinstance(progress, StepDone) and progress.number == stop_after:
            raise Stopped

    options = RunOptions(compiled=compiled, snapshots=folder, snapshot_seconds=0, resume=True)
    model = tiny_model(num_hidden_layers=1)
    compress(model, toy_data(31), recipe, options, on_progress=listen)
    return heard


@pytest.mark.usefixtures("captured")
def test_a_compiled_run_resumes_and_is_mixed_with_no_other(tmp_path: Path) -> None:
    whole = _run(tmp_path / "eager", compiled=False)
    with pytest.raises(Stopped):
        _run(tmp_path, compiled=True, stop_after=2)
    assert snapshot_step(tmp_path) == 1
    with pytest.raises(UsageError, match=r"\(compiled no\), found one of .* \(compiled yes\)"):
        _run(tmp_path, compiled=False)
    resumed = _run(tmp_path, compiled=True)
    stages = [each.stage for each in resumed if isinstance(each, StageBegun)]
    assert stages.count("compiling the training step, which takes minutes") == 1
    losses, expected = (
        [each.loss for each in heard if isinstance(each, StepDone)] for heard in (resumed, whole)
    )
    assert losses == pytest.approx(expected[1:], rel=1e-3)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (ValueError("no such operation\nand a long explanation"), "ValueError: no such operation"),
        (
            CppCompileError(["g++"], "In file:\n x.cpp:1: fatal error: Python.h: No such file"),
            "CppCompileError: C++ compile error: x.cpp:1: fatal error: Python.h: No such file",
        ),
    ],
)
def test_a_model_that_cannot_be_compiled_is_told_with_its_reason(
    reason: Exception, told: str
) -> None:
    with pytest.raises(CapabilityMissing) as refusal, running_compiled():
        raise InductorError(reason, None)
    assert str(refusal.value) == (
        f"--compile: expected a training step that torch.compile can compile, found {told}; "
        "begin anew without --compile, with --overwrite, and report what was found"
    )
