"""What holds for every method of pruning, whichever the recipe names."""

import io
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from nxmi_export.compression import CompressedLinear, compressed_linears, insert_quantizers
from nxmi_export.compression.pruning import (
    Admm,
    FixedMasks,
    ProximalAdmm,
    Sparsifier,
    SrSte,
    sparsifier,
)
from nxmi_export.compression.sparsity import magnitude_masks
from nxmi_export.errors import InternalError
from nxmi_export.recipe import Recipe, Scheme, SparsitySettings
from tests.tiny_models import tiny_model, toy_batch
from tests.unit.pruned_linears import (
    backward,
    is_on_pattern,
    patterned,
    some_goals,
    some_linears,
    weights_of,
)

METHODS = {
    "admm": SparsitySettings(method="admm", penalty="gradient", rho=0.2, rho_final=0.4),
    "proximal": SparsitySettings(method="admm", pull=0.5, pull_final=0.9),
    "magnitude": SparsitySettings(method="magnitude"),
    "sr-ste": SparsitySettings(method="sr-ste", decay=0.1),
}
GOALS = some_goals()


@pytest.fixture(params=METHODS)
def settings(request: pytest.FixtureRequest) -> SparsitySettings:
    return METHODS[request.param]


class Run:
    """Some linears in training: six steps of ADMM, projection, three of recovery."""

    def __init__(self, settings: SparsitySettings, seed: int = 0) -> None:
        self.linears = some_linears(seed)
        self.pruning: Sparsifier = sparsifier(self.linears, settings)
        weights = [linear.weight for linear in self.linears.values()]
        self.optimizer = torch.optim.AdamW(weights, lr=0.05)

    def steps(self, first: int, last: int) -> None:
        for step in range(first, last):
            if step == 6:
                self.pruning.project()
            backward(self.linears, GOALS)
            self.pruning.add_gradients(min(step / 6, 1))
            self.optimizer.step()
            self.pruning.after_step(min((step + 1) / 6, 1))
            if step % 2:
                self.pruning.update()

    def state(self) -> dict[str, Any]:
        """As a file would give it back."""
        buffer = io.BytesIO()
        torch.save(
            {
                "weights": weights_of(self.linears),
                "optimizer": self.optimizer.state_dict(),
                "pruning": self.pruning.state_dict(),
            },
            buffer,
        )
        buffer.seek(0)
        state: dict[str, Any] = torch.load(buffer, weights_only=True)
        return state

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        for name, linear in self.linears.items():
            linear.weight.copy_(state["weights"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.pruning.load_state_dict(state["pruning"])


def _same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(
        torch.equal(first[name].view(torch.int32), second[name].view(torch.int32)) for name in first
    )


@pytest.mark.parametrize("stop", [0, 1, 3, 6, 8])
def test_a_run_that_continues_ends_with_the_bits_of_one_that_was_never_stopped(
    settings: SparsitySettings, stop: int
) -> None:
    whole, second = Run(settings), Run(settings, seed=9)
    whole.pruning.start()
    whole.steps(0, stop)
    second.restore(whole.state())
    whole.steps(stop, 9)
    second.steps(stop, 9)
    assert _same(weights_of(whole.linears), weights_of(second.linears))


def test_a_loaded_state_is_a_copy(settings: SparsitySettings) -> None:
    run = Run(settings)
    run.pruning.start()
    state = run.pruning.state_dict()
    other = Run(settings)
    other.pruning.load_state_dict(state)
    mine = {t.data_ptr() for group in state.values() for t in _tensors(group)}
    theirs = {t.data_ptr() for g in other.pruning.state_dict().values() for t in _tensors(g)}
    assert mine
    assert mine & theirs == set()


def _tensors(group: object) -> list[Tensor]:
    return list(group.values()) if isinstance(group, dict) else []


def test_projection_puts_every_weight_on_its_pattern_and_recovery_keeps_it_there(
    settings: SparsitySettings,
) -> None:
    run = Run(settings)
    run.pruning.start()
    run.steps(0, 6)
    run.pruning.project()
    masks = {name: linear.weight != 0 for name, linear in patterned(run.linears).items()}
    run.steps(7, 12)
    for name, linear in patterned(run.linears).items():
        assert is_on_pattern(linear)
        assert torch.equal(linear.weight != 0, masks[name])


def test_projecting_keeps_the_largest_weights_and_their_bits(settings: SparsitySettings) -> None:
    run = Run(settings)
    run.pruning.start()
    run.steps(0, 5)
    before = weights_of(run.linears)
    masks = magnitude_masks(run.linears)
    run.pruning.project()
    projected = weights_of(run.linears)
    run.pruning.project()
    for name, mask in masks.items():
        assert torch.equal(projected[name], torch.where(mask, before[name], 0))
    assert _same(projected, weights_of(run.linears))
    assert torch.equal(projected["middle"], before["middle"])


def test_weights_are_on_their_pattern_for_a_while(settings: SparsitySettings) -> None:
    run = Run(settings)
    run.pruning.start()
    run.steps(0, 5)
    before = weights_of(run.linears)
    expected = {
        name: torch.where(mask, before[name], 0)
        for name, mask in magnitude_masks(run.linears).items()
    }
    with run.pruning.projected():
        inside = weights_of(run.linears)
    assert all(torch.equal(inside[name], weight) for name, weight in expected.items())
    assert _same(before, weights_of(run.linears))


def test_weights_come_back_when_the_block_fails(settings: SparsitySettings) -> None:
    run = Run(settings)
    run.pruning.start()
    run.steps(0, 5)
    with torch.no_grad():  # -0.0 and NaN come back as well
        run.linears["middle"].weight[0, 0] = torch.nan
        run.linears["first"].weight[0, :4] = torch.tensor([3.0, -0.0, -2.0, 0.0])
    before = weights_of(run.linears)
    with pytest.raises(KeyboardInterrupt), run.pruning.projected():
        raise KeyboardInterrupt
    assert _same(before, weights_of(run.linears))


def test_a_measurement_on_projected_weights_leaves_no_trace(settings: SparsitySettings) -> None:
    looked, straight = Run(settings), Run(settings)
    for run in (looked, straight):
        run.pruning.start()
        run.steps(0, 4)
    with looked.pruning.projected():
        pass
    looked.steps(4, 9)
    straight.steps(4, 9)
    assert _same(weights_of(looked.linears), weights_of(straight.linears))


def test_no_step_waits_for_the_device(settings: SparsitySettings) -> None:
    # Fake tensors have no values, so whatever needs one on the host raises.
    with FakeTensorMode():
        run = Run(settings)
        goals = {name: torch.zeros(6, 16) for name in run.linears}
        run.pruning.start()
        for _ in ("before", "behind the projection"):
            backward(run.linears, goals)
            run.pruning.add_gradients(0.5)
            run.optimizer.step()
            run.pruning.after_step(0.0)
            run.pruning.project()


def test_only_the_residuals_wait_for_the_device() -> None:
    with FakeTensorMode():
        run = Run(METHODS["admm"])
        run.pruning.start()
        with pytest.raises(DataDependentOutputException):
            run.pruning.update()


def test_the_method_of_the_recipe_is_taken() -> None:
    kinds = {name: type(sparsifier(some_linears(), each)) for name, each in METHODS.items()}
    assert kinds == {
        "admm": Admm,
        "proximal": ProximalAdmm,
        "magnitude": FixedMasks,
        "sr-ste": SrSte,
    }


def test_without_patterns_every_call_is_without_effect(settings: SparsitySettings) -> None:
    linears = {"middle": some_linears()["middle"]}
    before = weights_of(linears)
    pruning = sparsifier(linears, settings)
    pruning.start()
    backward(linears, GOALS)
    gradient = linears["middle"].weight.grad
    assert gradient is not None
    copy = gradient.clone()
    pruning.add_gradients(0.5)
    pruning.after_step(0.0)
    assert pruning.update() is None
    with pruning.projected():
        pass
    pruning.project()
    pruning.load_state_dict(pruning.state_dict())
    assert torch.equal(gradient, copy)
    assert _same(before, weights_of(linears))


def test_repeated_layers_of_albert_are_pruned_once() -> None:
    model = tiny_model("albert")
    insert_quantizers(model, Recipe(default=Scheme.parse("2:4")))
    linears: dict[str, CompressedLinear] = compressed_linears(model)
    weights = [linear.weight for linear in linears.values()]
    assert len({id(weight) for weight in weights}) == len(weights)
    admm = sparsifier(linears, SparsitySettings(penalty="gradient", rho=1.0))
    admm.start()
    model(**toy_batch("albert")).logits.sum().backward()
    before = {name: _gradient(linear).clone() for name, linear in linears.items()}
    admm.add_gradients(0)
    for name, linear in linears.items():
        added = _gradient(linear) - before[name]
        mask = magnitude_masks({name: linear})[name]
        # ρ·(W − Z + U) at the start: nothing where Z is, twice the weight elsewhere
        expected = 2 * linear.weight.detach() * ~mask
        torch.testing.assert_close(added, expected, rtol=1e-4, atol=1e-5)


def _gradient(linear: CompressedLinear) -> Tensor:
    assert linear.weight.grad is not None
    return linear.weight.grad


def test_sr_ste_refuses_initial_weights() -> None:
    linears = some_linears()
    settings = SparsitySettings(method="sr-ste")
    initial = weights_of(patterned(linears))
    with pytest.raises(InternalError) as refusal:
        sparsifier(linears, settings, initial)
    assert str(refusal.value) == (
        "initial weights of sr-ste: expected none, as its masks follow the weights, "
        f"found those of {len(initial)} linears; please report it with the recipe"
    )


@pytest.mark.parametrize("method", ["admm", "magnitude"])
def test_initial_weights_must_cover_every_pattern(method: str) -> None:
    linears = some_linears()
    initial = weights_of(linears)
    del initial["third"]
    settings = SparsitySettings.model_validate({"method": method, "initial": "reconstruction"})
    with pytest.raises(InternalError) as missing:
        sparsifier(linears, settings, initial)
    assert str(missing.value) == (
        "initial weights of third: expected shape (6, 16), found none; "
        "please report it with the recipe"
    )
    with pytest.raises(InternalError) as unfit:
        sparsifier(linears, settings, initial | {"third": torch.zeros(6, 8)})
    assert str(unfit.value) == (
        "initial weights of third: expected shape (6, 16), found shape (6, 8); "
        "please report it with the recipe"
    )
