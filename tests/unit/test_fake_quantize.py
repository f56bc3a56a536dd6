import functools
from dataclasses import dataclass

import hypothesis.extra.numpy as hnp
import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nxmi_export.capture import OPSET
from nxmi_export.capture.translate import TRANSLATIONS
from nxmi_export.fake_quantize import (
    ACTIVATION_INT8,
    IntegerRange,
    fake_quantize,
    quantize,
    weight_range,
)
from passes import numerics
from passes.unsigned_activations import UnsignedActivations

Session = onnxruntime.InferenceSession
Floats = NDArray[np.float32]
INT8_WEIGHT, INT4_WEIGHT = weight_range(8), weight_range(4)
ROWS = 6

VALUES = st.floats(width=32, allow_nan=False, allow_subnormal=True)
SCALES = st.floats(2**-126, 2**100, width=32)


class _Rounded(torch.nn.Module):
    """One quantizer, for the exporter."""

    def __init__(self, limits: IntegerRange, axis: int | None) -> None:
        super().__init__()
        self.limits, self.axis = limits, axis

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return fake_quantize(x, scale, self.limits, self.axis)


@functools.cache
def _exported(limits: IntegerRange, axis: int | None) -> ir.Model:
    program = torch.onnx.export(
        _Rounded(limits, axis).eval(),
        (torch.ones(ROWS, 67), torch.ones(() if axis is None else ROWS)),
        dynamo=True,
        opset_version=OPSET,
        input_names=["x", "scale"],
        output_names=["y"],
        dynamic_shapes=({each: torch.export.Dim.AUTO for each in (0, 1) if each != axis}, None),
        custom_translation_table=TRANSLATIONS,
        verbose=False,
    )
    assert program is not None
    model: ir.Model = program.model
    return model


@functools.cache
def _session(limits: IntegerRange, axis: int | None, unsigned: bool) -> Session:
    model = _exported(limits, axis).clone()
    if unsigned:
        UnsignedActivations()(model)
    (dequantize,) = [node for node in model.graph if node.op_type == "DequantizeLinear"]
    codes = dequantize.inputs[0]
    assert codes is not None
    model.graph.outputs.append(codes)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return Session(ir.to_proto(model).SerializeToString(), options)


@dataclass(frozen=True)
class Case:
    """A quantizer of the package: its range, how many rows share a scale, what it is lowered to."""

    limits: IntegerRange
    shared: int = ROWS
    axis: int | None = 0
    unsigned: bool = False  # as in graphs for x86

    def run(self, x: Floats, scale: Floats) -> tuple[NDArray[np.integer], Floats]:
        """The codes and values of the exported graph, by onnxruntime."""
        session = _session(self.limits, self.axis, self.unsigned)
        y, codes = session.run(None, {"x": x, "scale": scale})
        return codes, y


ACTIVATION = Case(ACTIVATION_INT8, axis=None)
CASES = {
    "activation": ACTIVATION,
    "activation on x86": Case(ACTIVATION_INT8, axis=None, unsigned=True),
    "int8 weight by channel": Case(INT8_WEIGHT, shared=1),
    "int8 weight by four rows": Case(INT8_WEIGHT, shared=4),
    "int8 weight by tensor": Case(INT8_WEIGHT),
    "int4 weight by channel": Case(INT4_WEIGHT, shared=1),
    "int4 weight by four rows": Case(INT4_WEIGHT, shared=4),
    "int4 weight by tensor": Case(INT4_WEIGHT),
}


@st.composite
def wide(draw: st.DrawFn, case: Case) -> tuple[Floats, Floats]:
    """Values on ties, a bit beside them and anywhere, within the range and beyond; and scales.

    Most rows are wide enough for vectorized kernels, and end within a vector.
    """
    columns = draw(st.integers(64, 200) | st.integers(1, 8))
    groups = draw(hnp.arrays(np.float32, -(-ROWS // case.shared), elements=SCALES))
    scale = np.repeat(groups, case.shared)[:ROWS]
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    low, high = 2 * case.limits.low - 20, 2 * case.limits.high + 20
    halves = generator.integers(low, high, (ROWS, columns), endpoint=True).astype(np.float32)
    ties = halves * np.float32(0.5) * scale[:, None]
    beside = np.nextafter(
        ties, generator.choice(np.array([-np.inf, np.inf], np.float32), ties.shape)
    )
    x = np.where(generator.random(ties.shape) < 0.5, ties, beside)
    anywhere = draw(st.lists(VALUES, max_size=x.size))
    x.flat[generator.choice(x.size, len(anywhere), replace=False)] = anywhere
    return x, scale if case.axis == 0 else np.asarray(scale[0])


@st.composite
def quantizations(draw: st.DrawFn) -> tuple[Floats, Floats, int | None]:
    """Values, scales and axis; half of the values are ties of the scale."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=5))
    axis = draw(st.sampled_from([None, 0, 1]))
    scale = draw(hnp.arrays(np.float32, () if axis is None else shape[axis], elements=SCALES))
    if draw(st.booleans()):
        return draw(hnp.arrays(np.float32, shape, elements=VALUES)), scale, axis
    halves = draw(hnp.arrays(np.int16, shape, elements=st.integers(-520, 520)))
    return (halves * np.float32(0.5) * _along(scale, axis)).astype(np.float32), scale, axis


def _along(scale: Floats, axis: int | None) -> Floats:
    return scale[:, None] if axis == 0 else scale


def _bits(array: Floats) -> NDArray[np.int32]:
    """Zero has two signs and one value; which one a multiplication gives is compared too."""
    return np.ascontiguousarray(array).view(np.int32)


@pytest.mark.parametrize("name", CASES)
@given(data=st.data())
def test_codes_and_values_are_those_of_the_exported_graph(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    x, scale = data.draw(wide(case))
    codes, y = case.run(x, scale)
    tensors = torch.from_numpy(x), torch.from_numpy(np.asarray(scale))
    own = quantize(*tensors, case.limits, case.axis).numpy()
    np.testing.assert_array_equal(own.astype(np.int32) + 128 * case.unsigned, codes)
    fake = fake_quantize(*tensors, case.limits, case.axis).numpy()
    # DequantizeLinear multiplies an integer, which has no negative zero.
    np.testing.assert_array_equal(_bits(fake + np.float32(0)), _bits(y + np.float32(0)))


@pytest.mark.parametrize("limits", [INT8_WEIGHT, INT4_WEIGHT], ids=str)
def test_a_range_narrower_than_int8_is_clipped_in_the_exported_graph(limits: IntegerRange) -> None:
    activation = [node.op_type for node in _exported(ACTIVATION_INT8, None).graph]
    weight = [node.op_type for node in _exported(limits, 0).graph]
    assert activation == ["QuantizeLinear", "DequantizeLinear"]
    assert weight == ["QuantizeLinear", "Clip", "DequantizeLinear"]


@pytest.mark.parametrize("limits", [ACTIVATION_INT8, INT8_WEIGHT, INT4_WEIGHT], ids=str)
@given(case=quantizations())
def test_codes_and_values_are_those_of_the_passes(
    limits: IntegerRange, case: tuple[Floats, Floats, int | None]
) -> None:
    x, scale, axis = case
    expected = numerics.quantize(
        x, scale, numerics.IntegerRange(limits.low, limits.high), axis=axis
    )
    tensors = torch.from_numpy(x), torch.from_numpy(np.asarray(scale))
    np.testing.assert_array_equal(quantize(*tensors, limits, axis).numpy(), expected)
    np.testing.assert_array_equal(
        fake_quantize(*tensors, limits, axis).numpy(),
        numerics.dequantize(expected, scale, axis=axis),
    )


@pytest.mark.parametrize(
    ("ratio", "code"),
    [
        (0.5, 0),
        (1.5, 2),
        (2.5, 2),
        (-0.5, 0),
        (-1.5, -2),
        (126.5, 126),
        (127.5, 127),
        (-128.5, -128),
    ],
)
@pytest.mark.parametrize("scale", [2.0**-10, 1.0, 3.0])
def test_ties_round_to_even_before_they_saturate(ratio: float, code: int, scale: float) -> None:
    x, step = torch.tensor([[ratio * scale]]), torch.tensor(scale)
    assert quantize(x, step, ACTIVATION_INT8).item() == code
    assert fake_quantize(x, step, ACTIVATION_INT8).item() == code * scale
    assert ACTIVATION.run(x.numpy(), step.numpy())[0].item() == code


@pytest.mark.parametrize("value", [np.inf, -np.inf, 3.4e38, -3.4e38])
def test_what_lies_outside_saturates_at_the_limits(value: float) -> None:
    x, step = torch.tensor([[value]]), torch.tensor(2.0**-20)
    for limits in (ACTIVATION_INT8, INT8_WEIGHT, INT4_WEIGHT):
        wanted = limits.high if value > 0 else limits.low
        assert quantize(x, step, limits).item() == wanted
        assert fake_quantize(x, step, limits).item() == wanted * 2.0**-20
    assert ACTIVATION.run(x.numpy(), step.numpy())[0].item() == (127 if value > 0 else -128)


@pytest.mark.parametrize("value", [1e-45, -1e-45, 1e-40, 2.0**-127])
def test_denormals_are_not_flushed_before_the_division(value: float) -> None:
    x, step = torch.tensor([[value]]), torch.tensor(2.0**-126)
    assert quantize(x, step, ACTIVATION_INT8).item() == round(value / 2.0**-126)


@pytest.mark.parametrize("requires_grad", [False, True])
def test_a_nan_stays_visible(requires_grad: bool) -> None:
    x = torch.tensor([torch.nan, 1.0], requires_grad=requires_grad)
    y = fake_quantize(x, torch.tensor(1.0), ACTIVATION_INT8)
    assert y.isnan().tolist() == [True, False]


def test_a_nan_scale_poisons_everything() -> None:
    y = fake_quantize(torch.ones(3), torch.tensor(torch.nan), ACTIVATION_INT8)
    assert y.isnan().all()


@pytest.mark.parametrize(("bits", "limit"), [(4, 7), (8, 127)])
def test_weight_ranges_are_symmetric(bits: int, limit: int) -> None:
    assert weight_range(bits) == IntegerRange(-limit, limit)


def test_activations_saturate_where_quantize_linear_does() -> None:
    info = np.iinfo(np.int8)
    assert IntegerRange(info.min, info.max) == ACTIVATION_INT8


@given(quantizations(), st.sampled_from([ACTIVATION_INT8, INT8_WEIGHT, INT4_WEIGHT]))
def test_the_gradient_is_one_inside_the_range_and_zero_outside(
    case: tuple[Floats, Floats, int | None], limits: IntegerRange
) -> None:
    array, scale, axis = case
    x = torch.from_numpy(array).requires_grad_()
    fake_quantize(x, torch.from_numpy(np.asarray(scale)), limits, axis).sum().backward()
    with np.errstate(over="ignore", under="ignore"):
        ratio = array / _along(scale, axis)
    assert x.grad is not None
    gradient = x.grad.numpy()
    assert (gradient[(ratio > limits.low - 0.49) & (ratio < limits.high + 0.49)] == 1).all()
    assert (gradient[(ratio < limits.low - 0.51) | (ratio > limits.high + 0.51)] == 0).all()
    assert np.isin(gradient, [0, 1]).all()


def test_the_gradient_is_that_of_the_rounded_identity() -> None:
    """Differences over whole steps, which rounding leaves exact, agree with the gradient."""
    step = torch.tensor(0.25)
    x = torch.tensor([-40.0, -32.0, -3.25, 0.0, 3.25, 31.75, 40.0], requires_grad=True)
    weights = torch.arange(1.0, 8.0)
    (fake_quantize(x, step, ACTIVATION_INT8) * weights).sum().backward()
    with torch.no_grad():
        above = fake_quantize(x + step, step, ACTIVATION_INT8)
        below = fake_quantize(x - step, step, ACTIVATION_INT8)
        inside = (x > -32) & (x < 31.75)
        central = (above - below) / (2 * step) * weights
    assert x.grad is not None
    torch.testing.assert_close(x.grad[inside], central[inside], rtol=0, atol=0)
    assert x.grad[[0, -1]].tolist() == central[[0, -1]].tolist() == [0.0, 0.0]


@given(quantizations(), st.sampled_from([ACTIVATION_INT8, INT8_WEIGHT, INT4_WEIGHT]))
def test_training_rounds_to_the_bits_of_the_operator(
    case: tuple[Floats, Floats, int | None], limits: IntegerRange
) -> None:
    array, scale, axis = case
    x, step = torch.from_numpy(array), torch.from_numpy(np.asarray(scale))
    inferred = fake_quantize(x, step, limits, axis)
    trained = fake_quantize(x.clone().requires_grad_(), step, limits, axis)
    np.testing.assert_array_equal(_bits(trained.detach().numpy()), _bits(inferred.numpy()))


@pytest.mark.parametrize("limits", [ACTIVATION_INT8, INT8_WEIGHT, INT4_WEIGHT], ids=str)
@given(
    ratios=hnp.arrays(
        np.float64, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.floats(-200, 200)
    ),
    axis=st.sampled_from([None, 0, 1]),
)
def test_the_gradient_of_a_step_is_that_of_esser_et_al(
    limits: IntegerRange, ratios: NDArray[np.float64], axis: int | None
) -> None:
    """Equation 3: −v/s + ⌊v/s⌉ inside, Q_P or −Q_N outside, where rounding leaves the range."""
    steps = np.linspace(0.25, 1.5, 1 if axis is None else ratios.shape[axis]).astype(np.float32)
    x = (ratios * _along(steps, axis)).astype(np.float32)
    upstream = np.linspace(-1, 2, x.size, dtype=np.float32).reshape(x.shape)
    exact = (x / _along(steps, axis)).astype(np.float64)
    # On the limits themselves and at ties the derivative jumps, and either side is right.
    assume((np.abs(exact % 1 - 0.5) > 1e-4).all())
    between = (exact > limits.low - 0.5) & (exact < limits.high + 0.5)
    derivative = np.where(between, np.rint(exact) - exact, np.clip(exact, limits.low, limits.high))
    other = None if axis is None else 1 - axis
    expected = np.atleast_1d((upstream * derivative).sum(axis=other))

    shared = steps if axis is not None else steps.reshape(())
    scale = torch.from_numpy(shared).clone().requires_grad_()
    y = fake_quantize(torch.from_numpy(x), scale, limits, axis)
    (y * torch.from_numpy(upstream)).sum().backward()
    assert scale.grad is not None
    np.testing.assert_allclose(scale.grad.reshape(-1).numpy(), expected, rtol=1e-3, atol=2e-3)


def test_a_scale_that_asks_for_no_gradient_gets_none() -> None:
    x, scale = torch.ones(3, requires_grad=True), torch.tensor(0.5)
    fake_quantize(x, scale, ACTIVATION_INT8).sum().backward()
    assert scale.grad is None
    assert x.grad is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_second_backward_is_refused_where_the_first_used_up_what_was_saved(
    dtype: torch.dtype,
) -> None:
    x = torch.randn(4, 8).to(dtype).requires_grad_()
    scale = torch.tensor(0.1, requires_grad=True)
    loss = fake_quantize(x, scale, ACTIVATION_INT8).float().sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_without_a_learned_scale_a_second_backward_gives_the_gradient_again() -> None:
    x = torch.randn(4, 8, requires_grad=True)
    loss = fake_quantize(x, torch.tensor(0.1), ACTIVATION_INT8).sum()
    (first,) = torch.autograd.grad(loss, x, retain_graph=True)
    (second,) = torch.autograd.grad(loss, x)
    assert torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("rows", [1, 3, 700])  # 700 rows of 1000 take more than one block
def test_low_precision_is_rounded_in_float32_and_comes_back_in_its_own_type(
    dtype: torch.dtype, axis: int | None, rows: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(rows, 1000, generator=generator) * 40).to(dtype).requires_grad_()
    count = {None: (), 0: (rows,), 1: (1000,)}[axis]
    scale = (0.2 + torch.rand(count, generator=generator)).requires_grad_()
    y = fake_quantize(x, scale, ACTIVATION_INT8, axis)
    y.float().square().sum().backward()

    exact = x.detach().float().requires_grad_()
    reference = scale.detach().clone().requires_grad_()
    wanted = fake_quantize(exact, reference, ACTIVATION_INT8, axis)
    assert torch.equal(y, wanted.to(dtype))
    wanted.square().sum().backward()
    assert x.grad is not None
    assert scale.grad is not None
    assert exact.grad is not None
    assert reference.grad is not None
    torch.testing.assert_close(x.grad, exact.grad.to(dtype), rtol=0.02, atol=0)
    error = (scale.grad - reference.grad).norm() / reference.grad.norm()
    assert error < 0.02


def test_training_saves_one_tensor_in_the_type_of_the_values() -> None:
    saved: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor)
        return tensor

    x = torch.randn(4, 8).bfloat16().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        fake_quantize(x, torch.tensor(0.1, requires_grad=True), ACTIVATION_INT8)
    assert [(tensor.dtype, tensor.shape) for tensor in saved] == [(torch.bfloat16, x.shape)]


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_the_operator_meets_the_contract_of_torch_library(axis: int) -> None:
    x = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor(0.1) if axis < 0 else torch.full((3,), 0.1)
    results = torch.library.opcheck(
        torch.ops.nxmi.fake_quantize.default, (x, scale, -128, 127, axis)
    )
    assert set(results.values()) == {"SUCCESS"}


def test_the_input_is_left_as_it_was() -> None:
    x = torch.tensor([0.3, 200.0])
    fake_quantize(x, torch.tensor(1.0), ACTIVATION_INT8)
    assert x.tolist() == torch.tensor([0.3, 200.0]).tolist()
