import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nxmi_export.compression.reconstruction import solve
from nxmi_export.compression.reconstruction.choose import given as already
from nxmi_export.compression.reconstruction.choose import least_costly
from nxmi_export.compression.reconstruction.grid import Grid, anywhere
from nxmi_export.compression.reconstruction.objective import InputGram, OutputError
from nxmi_export.compression.reconstruction.solve import descend, eliminate
from nxmi_export.compression.sparsity import pattern_mask
from nxmi_export.errors import CheckpointError
from nxmi_export.fake_quantize import weight_range
from nxmi_export.recipe import Pattern

PATTERNS = [Pattern(keep=k, group=g) for k, g in ((2, 4), (1, 4), (4, 8), (1, 2), (8, 16))]


def _inputs(width: int, *, tokens: int = 400, seed: int = 0) -> Tensor:
    """Correlated inputs (tokens, width) of very different sizes, as encoders have them."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator)
    sizes = torch.logspace(-1, 1, width)[torch.randperm(width, generator=generator)]
    return torch.randn(tokens, width, generator=generator) @ mixing * sizes


def _weight(out: int, width: int, *, seed: int = 0) -> Tensor:
    return torch.randn(out, width, generator=torch.Generator().manual_seed(seed + 100))


def _objective(inputs: Tensor) -> OutputError:
    gram = InputGram(inputs.shape[1], inputs.device)
    gram.add(inputs, None)
    return OutputError.of(gram.total, "layer")


def _damped_error(objective: OutputError, weight: Tensor, approximation: Tensor) -> float:
    error = (weight - approximation).double()
    return float(((error @ objective.damped.double()) * error).sum())


def _pruned(weight: Tensor, objective: OutputError, pattern: Pattern) -> tuple[Tensor, Tensor]:
    choice = least_costly(pattern, objective)
    return eliminate(weight, objective, choice, anywhere, group=pattern.group)


def _int4(weight: Tensor) -> Grid:
    return Grid(weight.abs().amax(1) / 7, weight_range(4))


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_every_group_keeps_exactly_what_the_pattern_says(pattern: Pattern) -> None:
    weight, objective = _weight(6, 272), _objective(_inputs(272))  # more than two blocks of columns
    result, mask = _pruned(weight, objective, pattern)
    counts = mask.reshape(6, -1, pattern.group).sum(-1)
    assert (counts == pattern.keep).all()
    assert not result[~mask].any()


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_pruning_beats_magnitude_and_descending_beats_pruning(pattern: Pattern) -> None:
    weight, objective = _weight(16, 272), _objective(_inputs(272))
    result, mask = _pruned(weight, objective, pattern)
    refined = descend(weight, result, objective, mask, anywhere, sweeps=4)
    magnitude = weight * pattern_mask(weight, pattern)
    errors = [objective.of_weight(weight, w) for w in (magnitude, result, refined)]
    assert errors[0] > 1.5 * errors[1] > 1.5 * errors[2] > 0


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_uncorrelated_inputs_of_one_size_give_magnitude_projection(pattern: Pattern) -> None:
    weight = _weight(8, 64)
    objective = OutputError.of(3 * torch.eye(64, dtype=torch.float64), "layer")
    result, mask = _pruned(weight, objective, pattern)
    assert torch.equal(mask, pattern_mask(weight, pattern))
    assert torch.equal(result, weight * mask)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_ties_go_to_the_lowest_index(pattern: Pattern) -> None:
    objective = OutputError.of(torch.eye(32, dtype=torch.float64), "layer")
    _, mask = _pruned(torch.ones(3, 32), objective, pattern)
    assert mask.reshape(3, -1, pattern.group)[..., : pattern.keep].all()


def test_the_removal_that_costs_least_alone_is_chosen() -> None:
    """One weight per group goes; brute force removes each in turn and refits the others."""
    weight, objective = _weight(50, 4), _objective(_inputs(4))
    result, mask = _pruned(weight, objective, Pattern(keep=3, group=4))
    result = descend(weight, result, objective, mask, anywhere, sweeps=300)
    for row, target in enumerate(weight):
        costs = [_cost_without(target, objective, pruned) for pruned in range(4)]
        assert not mask[row, int(np.argmin(costs))]
        found = _damped_error(objective, target[None], result[row][None])
        assert found == pytest.approx(min(costs), rel=1e-3)


def _cost_without(row: Tensor, objective: OutputError, pruned: int) -> float:
    """The least damped error of any row whose weight `pruned` is zero."""
    gram = objective.damped.double()
    kept = [index for index in range(len(row)) if index != pruned]
    best = torch.zeros(len(row), dtype=torch.float64)
    best[kept] = torch.linalg.solve(gram[kept][:, kept], gram[kept] @ row.double())
    return _damped_error(objective, row[None], best[None])


@given(seed=st.integers(0, 10_000), bits=st.sampled_from([None, 4]))
@settings(max_examples=20)
def test_descending_never_raises_the_error(seed: int, bits: int | None) -> None:
    weight, objective = _weight(4, 24, seed=seed), _objective(_inputs(24, seed=seed))
    mask = pattern_mask(weight, Pattern(keep=2, group=4))
    snap = anywhere if bits is None else _int4(weight).nearest
    point = snap(weight) * mask
    for _ in range(3):
        lower = descend(weight, point, objective, mask, snap, sweeps=1)
        before, after = (_damped_error(objective, weight, w) for w in (point, lower))
        assert after <= before * (1 + 1e-5)
        assert not lower[~mask].any()
        point = lower


def test_descending_reaches_the_least_squares_solution_across_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(solve, "BLOCK", 8)
    weight, objective = _weight(1, 20), _objective(_inputs(20))
    mask = torch.ones_like(weight, dtype=torch.bool)
    mask[:, 13] = False
    start = weight * mask
    found = descend(weight, start, objective, mask, anywhere, sweeps=500)
    least = _cost_without(weight[0], objective, 13)
    assert _damped_error(objective, weight, start) > 1.5 * least
    assert _damped_error(objective, weight, found) == pytest.approx(least, rel=1e-2)


@pytest.mark.parametrize("pattern", [None, Pattern(keep=2, group=4)], ids=str)
def test_the_size_of_a_block_of_columns_changes_only_the_rounding(
    monkeypatch: pytest.MonkeyPatch, pattern: Pattern | None
) -> None:
    weight, objective = _weight(6, 40), _objective(_inputs(40))
    everything = torch.ones_like(weight, dtype=torch.bool)

    def run() -> Tensor:
        if pattern is None:
            snap, mask = _int4(weight).nearest, everything
            result, _ = eliminate(weight, objective, already(mask), snap, group=1)
        else:
            snap = anywhere
            result, mask = _pruned(weight, objective, pattern)
        return descend(weight, result, objective, mask, snap, sweeps=2)

    whole = run()
    monkeypatch.setattr(solve, "BLOCK", 8)
    torch.testing.assert_close(run(), whole, atol=1e-4, rtol=0)


def test_int4_weights_lie_on_the_grid_and_beat_rounding_to_nearest() -> None:
    weight, objective = _weight(16, 272), _objective(_inputs(272))
    grid = _int4(weight)
    everything = torch.ones_like(weight, dtype=torch.bool)
    result, _ = eliminate(weight, objective, already(everything), grid.nearest, group=1)
    refined = descend(weight, result, objective, everything, grid.nearest, sweeps=4)
    codes = refined / grid.scale[:, None]
    torch.testing.assert_close(codes, codes.round(), atol=1e-5, rtol=0)
    assert codes.abs().max() <= 7 + 1e-5
    errors = [objective.of_weight(weight, w) for w in (grid.nearest(weight), result, refined)]
    assert errors[0] > 1.5 * errors[1]
    assert errors[1] > errors[2]


def test_inputs_that_are_always_zero_are_pruned_first_and_cost_nothing() -> None:
    inputs = _inputs(64)
    dead = torch.zeros(64, dtype=torch.bool)
    dead[0::4] = dead[3::4] = True  # two of every four
    inputs[:, dead] = 0
    weight, objective = _weight(8, 64), _objective(inputs)
    weight[:, dead] *= 3  # magnitude would keep these
    result, mask = _pruned(weight, objective, Pattern(keep=2, group=4))
    assert torch.equal(mask, (~dead).expand(8, -1))
    torch.testing.assert_close(result[:, ~dead], weight[:, ~dead])
    assert objective.of_weight(weight, result) < 1e-9


def test_a_layer_that_reads_only_zeros_is_projected_by_magnitude() -> None:
    weight, objective = _weight(4, 16), _objective(torch.zeros(10, 16))
    pattern = Pattern(keep=2, group=4)
    result, _ = _pruned(weight, objective, pattern)
    torch.testing.assert_close(result, weight * pattern_mask(weight, pattern))
    assert objective.of_weight(weight, result) == 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_inputs_that_are_not_finite_are_refused_by_name(value: float) -> None:
    inputs = _inputs(8)
    inputs[3, 5] = value
    gram = InputGram(8, inputs.device)
    gram.add(inputs, None)
    with pytest.raises(CheckpointError) as error:
        OutputError.of(gram.total, "encoder.0.query")
    assert str(error.value) == (
        "encoder.0.query: expected finite inputs on the calibration data, found NaN or infinity; "
        "start from weights of a training run that did not diverge"
    )


def test_padding_is_not_counted() -> None:
    inputs = _inputs(8, tokens=12).reshape(3, 4, 8)
    real = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], dtype=torch.bool)
    counted, expected = InputGram(8, inputs.device), InputGram(8, inputs.device)
    counted.add(inputs, real)
    expected.add(inputs[real], None)
    assert torch.equal(counted.total, expected.total)
    counted.add(inputs[:, :1], real)  # pooled: nothing tells its tokens apart
    expected.add(inputs[:, :1], None)
    assert torch.equal(counted.total, expected.total)


def test_the_relative_error_is_that_of_the_outputs() -> None:
    inputs, weight = _inputs(16), _weight(4, 16)
    pruned = weight * pattern_mask(weight, Pattern(keep=2, group=4))
    outputs, others = (inputs.double() @ w.double().T for w in (weight, pruned))
    measured = float(((outputs - others) ** 2).sum() / (outputs**2).sum())
    assert _objective(inputs).of_weight(weight, pruned) == pytest.approx(measured, rel=1e-4)


def test_the_factor_gives_the_inverse_of_every_trailing_block() -> None:
    objective = _objective(_inputs(12))
    for start in (0, 5, 11):
        upper = objective.factor[start:, start:].double()
        product = upper.T @ upper @ objective.damped[start:, start:].double()
        torch.testing.assert_close(
            product, torch.eye(12 - start, dtype=torch.float64), atol=1e-4, rtol=0
        )
