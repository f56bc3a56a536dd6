"""Masks that never change (ASP) and masks that follow the weights (SR-STE)."""

import pytest
import torch

from nxmi_export.compression.pruning import FixedMasks, SrSte
from nxmi_export.compression.sparsity import magnitude_masks
from tests.unit.pruned_linears import (
    backward,
    is_on_pattern,
    patterned,
    some_goals,
    some_linears,
    weights_of,
)

DECAY = 0.25


def test_fixed_masks_are_those_of_the_first_weights() -> None:
    linears = some_linears()
    masks, dense = magnitude_masks(linears), weights_of(linears)
    fixed = FixedMasks(linears)
    fixed.start()
    for name, mask in masks.items():
        assert torch.equal(linears[name].weight, dense[name] * mask)
        assert torch.equal(fixed.state_dict()["masks"][name], mask)
    assert torch.equal(linears["middle"].weight, dense["middle"])


def test_initial_weights_replace_the_dense_ones_and_bring_their_masks() -> None:
    linears, others = some_linears(), some_linears(seed=5)
    FixedMasks(others).start()
    initial = {name: linear.weight.detach().clone() for name, linear in patterned(others).items()}
    fixed = FixedMasks(linears, initial)
    fixed.start()
    for name, weight in initial.items():
        assert torch.equal(linears[name].weight, weight)
        assert torch.equal(fixed.state_dict()["masks"][name], weight != 0)


def test_a_kept_weight_that_was_rounded_to_zero_may_grow_again() -> None:
    linears = some_linears()
    weight = torch.zeros(6, 16)
    weight[:, ::4] = 1.0  # one non-zero where the pattern allows two
    fixed = FixedMasks({"first": linears["first"]}, {"first": weight})
    fixed.start()
    kept = fixed.state_dict()["masks"]["first"].reshape(-1, 4)
    assert (kept == torch.tensor([True, True, False, False])).all()


def test_what_momentum_moves_is_zero_again_after_every_step() -> None:
    linears, goals = some_linears(), some_goals()
    optimizer = torch.optim.AdamW(
        [linear.weight for linear in linears.values()], lr=0.1, weight_decay=0.1
    )
    backward(linears, goals)
    optimizer.step()  # dense moments, as ADMM leaves them
    fixed = FixedMasks(linears)
    fixed.start()
    masks = fixed.state_dict()["masks"]
    for _ in range(4):
        backward(linears, goals)
        fixed.add_gradients(0)
        optimizer.step()
        assert any(bool((linears[name].weight[~mask] != 0).any()) for name, mask in masks.items())
        fixed.after_step(0.0)
        for name, mask in masks.items():
            weight = linears[name].weight
            assert torch.equal(weight != 0, mask)
            assert not torch.signbit(weight[~mask]).any()


def test_gradients_of_pruned_weights_take_no_part_in_clipping() -> None:
    linears, goals = some_linears(), some_goals()
    fixed = FixedMasks(linears)
    fixed.start()
    backward(linears, goals)
    expected = {
        name: (linears[name].weight - goals[name]) * mask
        for name, mask in fixed.state_dict()["masks"].items()
    }
    fixed.add_gradients(0)
    for name, gradient in expected.items():
        found = linears[name].weight.grad
        assert found is not None
        assert torch.equal(found, gradient)


def test_a_gradient_that_is_no_number_is_not_hidden_by_a_mask() -> None:
    linears = some_linears()
    fixed = FixedMasks(linears)
    fixed.start()
    weight = linears["first"].weight
    weight.grad = torch.full_like(weight, torch.nan)
    fixed.add_gradients(0)
    assert weight.grad.isnan().all()


def test_the_forward_pass_of_sr_ste_sees_pruned_weights_and_its_gradient_reaches_all() -> None:
    linears = some_linears()
    dense = weights_of(linears)
    masks = magnitude_masks(linears)
    SrSte(linears, DECAY).start()
    linear = linears["first"]
    x = torch.randn(5, 16)
    output = linear(x)
    expected = torch.nn.functional.linear(x, dense["first"] * masks["first"], linear.bias)
    torch.testing.assert_close(output, expected)
    output.sum().backward()
    assert linear.weight.grad is not None
    torch.testing.assert_close(linear.weight.grad, x.sum(0).expand(6, 16))
    assert torch.equal(linear.weight, dense["first"])


def test_decay_of_sr_ste_pulls_at_what_is_pruned() -> None:
    linears, goals = some_linears(), some_goals()
    masks = magnitude_masks(linears)
    sr_ste = SrSte(linears, DECAY)
    sr_ste.start()
    backward(linears, goals)
    sr_ste.add_gradients(0)
    for name, mask in masks.items():
        weight = linears[name].weight
        expected = (weight - goals[name]) + DECAY * torch.where(mask, 0, weight)
        assert weight.grad is not None
        torch.testing.assert_close(weight.grad, expected)


@pytest.mark.parametrize(("size", "share"), [(0.0, 1.0), (1.0, 1e-3)])
def test_adam_divides_the_decay_of_sr_ste_by_the_size_of_the_tasks_gradient(
    size: float, share: float
) -> None:
    """Where the task asks nothing, a pruned weight loses the learning rate whatever λ is."""
    rate, steps, lost = 1e-4, 200, []
    for decay in (1e-3, 2e-3):
        linears = {"first": some_linears()["first"]}
        weight = linears["first"].weight
        with torch.no_grad():
            weight.copy_(torch.tensor([2.0, 2.0, 1.0, 1.0]).repeat(6, 4))
        sr_ste = SrSte(linears, decay)
        sr_ste.start()
        optimizer = torch.optim.AdamW([weight], lr=rate, weight_decay=0.0)
        for step in range(steps):
            weight.grad = torch.full_like(weight, size * (-1) ** step)  # no direction, some size
            sr_ste.add_gradients(0)
            optimizer.step()
            sr_ste.after_step(0.0)
        lost.append(float(1.0 - weight.detach()[:, 2:4].mean()) / (rate * steps))
    if size == 0.0:
        assert lost == pytest.approx([share, share], rel=0.01)
    else:
        # Adam's first steps, on averages of few, are larger.
        assert lost[1] - lost[0] == pytest.approx(share, rel=0.2)


def test_masks_of_sr_ste_follow_the_weights() -> None:
    linears, goals = some_linears(), some_goals()
    before = magnitude_masks(linears)
    sr_ste = SrSte(linears, DECAY)
    sr_ste.start()
    optimizer = torch.optim.SGD([linear.weight for linear in linears.values()], lr=0.3)
    for _ in range(4):
        backward(linears, goals)
        sr_ste.add_gradients(0)
        optimizer.step()
        sr_ste.after_step(0.0)
    after = magnitude_masks(linears)
    for name, linear in patterned(linears).items():
        assert linear.straight_through_mask is not None
        assert torch.equal(linear.straight_through_mask, after[name])
        assert not torch.equal(after[name], before[name])
        assert not is_on_pattern(linear)
    assert linears["middle"].straight_through_mask is None


def test_behind_the_projection_sr_ste_runs_and_trains_the_weight_as_it_is() -> None:
    linears, goals = some_linears(), some_goals()
    sr_ste = SrSte(linears, DECAY)
    sr_ste.start()
    x = torch.randn(5, 16)
    before = linears["first"](x)
    sr_ste.project()
    assert linears["first"].straight_through_mask is None
    torch.testing.assert_close(linears["first"](x), before)
    backward(linears, goals)
    sr_ste.add_gradients(1.0)
    gradient = linears["first"].weight.grad
    assert gradient is not None
    # masked like any final mask's, and without decay
    mask = sr_ste.state_dict()["masks"]["first"]
    assert torch.equal(gradient, (linears["first"].weight - goals["first"]) * mask)


@pytest.mark.parametrize("method", [FixedMasks, lambda linears: SrSte(linears, DECAY)])
def test_masks_have_no_slow_step(method: type[FixedMasks]) -> None:
    pruning = method(some_linears())
    pruning.start()
    assert pruning.update() is None
