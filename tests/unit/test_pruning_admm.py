"""ADMM against its formulas, written out in numpy with Z and U apart."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from nxmi_export.compression import CompressedLinear
from nxmi_export.compression.pruning import Admm, ProximalAdmm
from nxmi_export.recipe import Pattern
from passes import numerics
from tests.unit.pruned_linears import backward, patterned, some_goals, some_linears, weights_of

Doubles = NDArray[np.float64]
RHO = 0.3


@dataclass
class Reference:
    """METHOD's steps for one weight, in float64."""

    w: Doubles
    goal: Doubles
    pattern: Pattern

    def __post_init__(self) -> None:
        self.z = self._nearest(self.w)
        self.u = self.w - self.z

    def step(self, rho: float, rate: float) -> None:
        self.w = self.w - rate * ((self.w - self.goal) + rho * (self.w - self.z + self.u))

    def update(self) -> None:
        self.z = self._nearest(self.w + self.u)
        self.u = self.u + self.w - self.z

    def _nearest(self, x: Doubles) -> Doubles:
        return numerics.project(x, self.pattern.keep, self.pattern.group)


def _double(tensor: Tensor) -> Doubles:
    return np.asarray(tensor.detach().numpy(), dtype=np.float64)


def _references(
    linears: dict[str, CompressedLinear], goals: dict[str, Tensor]
) -> dict[str, Reference]:
    return {
        name: Reference(_double(linear.weight), _double(goals[name]), linear.scheme.pattern)
        for name, linear in linears.items()
        if linear.scheme.pattern is not None
    }


def _z_and_u(admm: Admm, name: str) -> tuple[Doubles, Doubles]:
    state = admm.state_dict()
    towards, mask = state["towards"][name], state["mask"][name]
    zero = torch.zeros_like(towards)
    return _double(torch.where(mask, towards, zero)), _double(torch.where(mask, zero, -towards))


def _descend(linears: dict[str, CompressedLinear], rate: float) -> None:
    torch.optim.SGD([linear.weight for linear in linears.values()], lr=rate).step()


def test_weights_z_and_u_follow_the_formulas() -> None:
    linears, goals = some_linears(), some_goals()
    references = _references(linears, goals)
    admm = Admm(linears, RHO)
    admm.start()
    for step in range(24):
        backward(linears, goals)
        admm.add_gradients(step / 24)
        _descend(linears, 0.1)
        admm.after_step(0.0)
        for reference in references.values():
            reference.step(RHO, 0.1)
        if step % 4 == 3:
            admm.update()
            for reference in references.values():
                reference.update()
        for name, reference in references.items():
            z, u = _z_and_u(admm, name)
            np.testing.assert_allclose(_double(linears[name].weight), reference.w, atol=2e-6)
            np.testing.assert_allclose(z, reference.z, atol=2e-6)
            np.testing.assert_allclose(u, reference.u, atol=2e-6)


def test_z_is_on_its_pattern_exactly_and_never_where_u_is() -> None:
    linears, goals = some_linears(), some_goals()
    admm = Admm(linears, RHO)
    admm.start()
    for _ in range(5):
        backward(linears, goals)
        admm.add_gradients(0)
        _descend(linears, 0.2)
        admm.update()
        for name, linear in patterned(linears).items():
            pattern = linear.scheme.pattern
            assert pattern is not None
            z, u = _z_and_u(admm, name)
            assert not len(numerics.group_violations(z, pattern.keep, pattern.group, axis=1))
            assert not np.any((z != 0) & (u != 0))


def test_linears_without_a_pattern_are_left_alone() -> None:
    linears, goals = some_linears(), some_goals()
    admm = Admm(linears, RHO)
    admm.start()
    backward(linears, goals)
    before = linears["middle"].weight.grad
    assert before is not None
    before = before.clone()
    admm.add_gradients(0)
    admm.project()
    gradient = linears["middle"].weight.grad
    assert gradient is not None
    assert torch.equal(gradient, before)
    assert torch.equal(linears["middle"].weight, some_linears()["middle"].weight)
    assert set(admm.state_dict()["masks"]) == {"first", "second", "third"}


def test_residuals_are_those_of_all_layers_together() -> None:
    linears, goals = some_linears(), some_goals()
    references = _references(linears, goals)
    admm = Admm(linears, RHO)
    admm.start()
    for _ in range(3):
        backward(linears, goals)
        admm.add_gradients(0)
        _descend(linears, 0.4)
        for reference in references.values():
            reference.step(RHO, 0.4)
    before = {name: reference.z for name, reference in references.items()}
    residuals = admm.update()
    for reference in references.values():
        reference.update()

    def norm(parts: list[Doubles]) -> float:
        return float(np.linalg.norm(np.concatenate([part.ravel() for part in parts])))

    size = norm([reference.w for reference in references.values()])
    off = norm([reference.w - reference.z for reference in references.values()])
    moved = norm([reference.z - before[name] for name, reference in references.items()])
    changed = [(r.z != 0) != (before[name] != 0) for name, r in references.items()]
    assert residuals is not None
    assert residuals.primal == pytest.approx(off / size, rel=1e-5)
    assert residuals.dual == pytest.approx(RHO * moved / size, rel=1e-5)
    assert residuals.churn == np.mean(changed)
    assert residuals.churn > 0
    assert residuals.rho == RHO


def test_a_weight_that_stands_still_on_its_pattern_has_no_residuals() -> None:
    linears = some_linears()
    Admm(linears, RHO).project()
    admm = Admm(linears, RHO)
    admm.start()
    residuals = admm.update()
    assert residuals is not None
    assert (residuals.primal, residuals.dual, residuals.churn) == (0, 0, 0)


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_rho_goes_geometrically_from_first_to_last(progress: float) -> None:
    linears = some_linears()
    admm = Admm(linears, rho=1e-3, rho_final=1e-1)
    admm.start()
    linear = linears["first"]
    linear.weight.grad = torch.zeros_like(linear.weight)
    admm.add_gradients(progress)
    z, u = _z_and_u(admm, "first")
    penalty = 1e-3 * 100**progress * (_double(linear.weight) - z + u)
    np.testing.assert_allclose(_double(linear.weight.grad), penalty, rtol=1e-5)
    residuals = admm.update()
    assert residuals is not None
    assert residuals.rho == pytest.approx(1e-3 * 100**progress)


def test_the_penalty_is_added_to_what_the_task_gave() -> None:
    linears, goals = some_linears(), some_goals()
    admm = Admm(linears, RHO)
    admm.start()
    weight = linears["first"].weight
    z, u = map(torch.from_numpy, _z_and_u(admm, "first"))
    backward(linears, goals)
    admm.add_gradients(0)
    assert weight.grad is not None
    free = weight.detach().double().requires_grad_()
    loss = 0.5 * (free - goals["first"]).square().sum()
    (loss + RHO / 2 * (free - z + u).square().sum()).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(weight.grad.double(), free.grad, rtol=1e-5, atol=1e-6)


def test_sparse_initial_weights_are_the_first_z_and_what_the_penalty_pulls_to() -> None:
    linears = some_linears()
    initial = weights_of(some_linears(seed=5))
    projection = Admm(some_linears(seed=5), RHO)
    projection.project()
    masks = projection.state_dict()["masks"]
    sparse = {name: initial[name] * mask for name, mask in masks.items()}
    dense = weights_of(linears)
    admm = Admm(linears, RHO, initial=sparse)
    admm.start()
    for name, mask in masks.items():
        z, u = _z_and_u(admm, name)
        np.testing.assert_array_equal(z, _double(sparse[name]))
        np.testing.assert_array_equal(u, _double(dense[name] * ~mask))
        assert torch.equal(linears[name].weight, dense[name])


def test_weights_reach_a_constrained_optimum_where_rho_exceeds_the_curvature() -> None:
    linears, goals = some_linears(), some_goals()
    admm = Admm(linears, rho=4.0)  # the task's curvature is 1
    admm.start()
    for step in range(300):
        backward(linears, goals)
        admm.add_gradients(0)
        _descend(linears, 0.1)
        residuals = admm.update() if step % 5 == 4 else None
    assert residuals is not None
    assert residuals.primal < 1e-6
    assert residuals.dual < 1e-4
    assert residuals.churn == 0
    before = weights_of(linears)
    admm.project()
    for name, mask in admm.state_dict()["masks"].items():
        torch.testing.assert_close(linears[name].weight, before[name], rtol=0, atol=1e-5)
        # among the weights on this support, the one that the task likes best
        torch.testing.assert_close(
            linears[name].weight.detach(), goals[name] * mask, rtol=0, atol=1e-4
        )


def test_a_weight_without_a_gradient_gets_none() -> None:
    linears = some_linears()
    admm = Admm(linears, RHO)
    admm.start()
    admm.add_gradients(0)
    assert all(linear.weight.grad is None for linear in linears.values())


def test_nothing_moves_z_behind_the_projection() -> None:
    linears = some_linears()
    admm = Admm(linears, RHO)
    admm.start()
    admm.project()
    assert admm.update() is None


def test_u_is_rescaled_by_what_rho_has_changed() -> None:
    linears = some_linears()
    admm = Admm(linears, rho=1e-3, rho_final=1e-1)
    admm.start()
    weight, pattern = _double(linears["first"].weight), linears["first"].scheme.pattern
    assert pattern is not None
    _, u = _z_and_u(admm, "first")
    for progress, ratio in ((0.5, 0.1), (1.0, 0.1)):
        admm.add_gradients(progress)
        admm.update()
        total = weight + u * ratio
        z_expected = numerics.project(total, pattern.keep, pattern.group)
        z, u = _z_and_u(admm, "first")
        np.testing.assert_allclose(z, z_expected, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(u, total - z_expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.5), (1.0, 0.9)])
def test_the_proximal_steps_between_two_updates_close_their_share(
    progress: float, share: float
) -> None:
    linears = some_linears()
    admm = ProximalAdmm(linears, 0.5, 0.9, steps_per_update=7)
    admm.start()
    z, u = _z_and_u(admm, "first")
    gap = _double(linears["first"].weight) - z + u
    for _ in range(7):
        admm.after_step(progress)
    left = _double(linears["first"].weight) - z + u
    np.testing.assert_allclose(left, gap * (1 - share), rtol=1e-4, atol=1e-6)
    residuals = admm.update()
    assert residuals is not None
    assert residuals.rho == pytest.approx(-math.log(1 - share))


def test_the_proximal_form_leaves_the_gradients_of_the_task_alone() -> None:
    linears = some_linears()
    admm = ProximalAdmm(linears, 0.5, 0.9, steps_per_update=1)
    admm.start()
    backward(linears, some_goals())
    before = {name: weight - some_goals()[name] for name, weight in weights_of(linears).items()}
    admm.add_gradients(0.5)
    for name, linear in linears.items():
        assert linear.weight.grad is not None
        assert torch.equal(linear.weight.grad, before[name])
    admm.project()
    admm.add_gradients(1.0)
    for name, mask in admm.state_dict()["masks"].items():
        gradient = linears[name].weight.grad
        assert gradient is not None
        assert torch.equal(gradient, before[name] * mask)


def test_under_adam_and_clipping_the_proximal_form_reaches_the_pattern() -> None:
    linears, goals = some_linears(), some_goals()
    admm = ProximalAdmm(linears, 0.5, 0.9, steps_per_update=5)
    admm.start()
    parameters = [linear.weight for linear in linears.values()]
    adam = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0)
    seen = []
    for step in range(100):
        backward(linears, goals)
        admm.add_gradients(step / 100)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        adam.step()
        admm.after_step((step + 1) / 100)
        if step % 5 == 4:
            seen.append(admm.update())
    first, last = seen[0], seen[-1]
    assert first is not None
    assert last is not None
    assert last.primal < 0.1 * first.primal
    assert last.churn == 0


def test_the_proximal_form_continues_from_its_state() -> None:
    def run(steps: range, admm: ProximalAdmm) -> None:
        for step in steps:
            admm.after_step(step / 10)
            if step % 3 == 2:
                admm.update()

    whole, parted = some_linears(), some_linears()
    one, two = (ProximalAdmm(each, 0.3, 0.9, steps_per_update=3) for each in (whole, parted))
    one.start()
    run(range(10), one)
    two.start()
    run(range(4), two)
    three = ProximalAdmm(parted, 0.3, 0.9, steps_per_update=3)
    three.load_state_dict(two.state_dict())
    run(range(4, 10), three)
    for name, linear in whole.items():
        assert torch.equal(linear.weight, parted[name].weight)
