"""Small encoders as `torch.onnx.export` captures them, for the tests of the graph passes.

Hidden size 8, two heads, feed-forward 16. A node named `layer__query__MatMul` belongs to the
module `layer.query`; ONNX text allows neither dots nor slashes in names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime

from passes import MODULE_KEY
from passes.numerics import INT4_WEIGHT, INT8_WEIGHT, project, symmetric_scales

HIDDEN, HEADS, FFN = 8, 2, 16
Arrays = Mapping[str, npt.NDArray[Any]]


def model_of(text: str, arrays: Arrays | None = None) -> ir.Model:
    """The model of ONNX text, with `arrays` as further initializers and modules from node names."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]>\n{text}')
    for name, array in (arrays or {}).items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    model = ir.from_proto(proto)
    for graph in model.graphs():
        for index, node in enumerate(graph):
            module, _, kind = (node.name or "").rpartition("__")
            node.metadata_props[MODULE_KEY] = module.replace("__", ".")
            node.name = f"node_{kind}_{index}"  # as the exporter names them: unique, and opaque
    return model


def typed(model: ir.Model) -> ir.Model:
    """`model` with the types and shapes that a captured graph has on every value."""
    proto = onnx.shape_inference.infer_shapes(ir.to_proto(model), strict_mode=True, data_prop=True)
    return ir.from_proto(proto)


def described(model: ir.Model) -> dict[str, Any]:
    """Nodes and initializers of the main graph as plain data, to compare with `==`."""
    nodes = [
        (
            node.op_type,
            [None if value is None else value.name for value in node.inputs],
            [value.name for value in node.outputs],
            {name: attribute.value for name, attribute in node.attributes.items()},
        )
        for node in model.graph
    ]
    stored = {
        name: (value.const_value.dtype.name, value.const_value.numpy().tolist())
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }
    return {"nodes": nodes, "initializers": stored}


def serialized(model: ir.Model) -> bytes:
    """The model with all its tensors as bytes."""
    return bytes(ir.to_proto(model).SerializeToString(deterministic=True))


def run(model: ir.Model, feeds: Arrays) -> list[npt.NDArray[Any]]:
    """The outputs of onnxruntime with its optimizations off."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        serialized(model), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, dict(feeds)))


def feeds_of(model: ir.Model, seed: int = 0) -> dict[str, npt.NDArray[Any]]:
    """Random floats for every input, dynamic dimensions set to 3; large enough to saturate."""
    generator = np.random.default_rng(seed)
    return {
        str(value.name): (
            generator.standard_normal([d if isinstance(d, int) else 3 for d in value.shape or ()])
            * 3
        ).astype(np.float32)
        for value in model.graph.inputs
    }


@dataclass
class Writer:
    """Collects the lines and constants of a captured encoder; modules read `layer__query`."""

    weights: str = "int8"  # int8, int4 or float
    sparse: bool = False
    constant_nodes: bool = False
    generator: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    lines: list[str] = field(default_factory=list)
    arrays: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    def constant(self, name: str, array: npt.NDArray[Any]) -> str:
        """Store a constant under `name`; the first of a name stays, as for tied weights."""
        self.arrays.setdefault(name, array)
        return name

    def quantized(self, value: str, module: str, scale: float = 0.03) -> str:
        """QuantizeLinear → DequantizeLinear of `value`; returns the dequantized value."""
        if self.constant_nodes:
            self.lines += [
                f"[{module}__S] {module}_s = Constant<value_float: float = {scale}>()",
                f"[{module}__Z] {module}_z = Constant<value: tensor = int8 {{0}}>()",
            ]
        else:
            self.constant(f"{module}_s", np.array(scale, np.float32))
            self.constant(f"{module}_z", np.array(0, np.int8))
        parameters = f"{module}_s, {module}_z"
        self.lines += [
            f"[{module}__Q] {module}_q = QuantizeLinear<axis: int = 1>({value}, {parameters})",
            f"[{module}__DQ] {module}_dq = DequantizeLinear<axis: int = 1>"
            f"({module}_q, {parameters})",
        ]
        return f"{module}_dq"

    def weight(self, module: str, name: str, shape: tuple[int, int]) -> str:
        """The weight (out, in) of `module`, quantized as `weights` says."""
        array = self.generator.standard_normal(shape).astype(np.float32)
        self.constant(name, project(array, 2, 4) if self.sparse else array)
        if self.weights == "float":
            return name
        limits = INT4_WEIGHT if self.weights == "int4" else INT8_WEIGHT
        scale = symmetric_scales(self.arrays[name], limits, axis=0)
        parameters = ", ".join(
            (
                self.constant(f"{name}_scale", scale),
                self.constant(f"zeros_{shape[0]}", np.zeros(shape[0], np.int8)),
            )
        )
        stem, out = f"{module}__weight_quantizer", f"{module}_w"
        self.lines.append(
            f"[{stem}__Q] {out}q = QuantizeLinear<axis: int = 0>({name}, {parameters})"
        )
        codes = f"{out}q"
        if self.weights == "int4":
            low = self.constant("low", np.array(-7, np.int8))
            high = self.constant("high", np.array(7, np.int8))
            self.lines.append(f"[{stem}__Clip] {out}c = Clip({codes}, {low}, {high})")
            codes = f"{out}c"
        self.lines.append(
            f"[{stem}__DQ] {out} = DequantizeLinear<axis: int = 0>({codes}, {parameters})"
        )
        return out

    def linear(self, module: str, data: str, shape: tuple[int, int], name: str = "") -> str:
        """`data × weightᵀ + bias` as Transpose, MatMul and Add; returns the sum.

        `name` is the stored weight, for layers that share one.
        """
        weight = self.weight(module, name or f"{module}_weight", shape)
        values = self.generator.standard_normal(shape[0]).astype(np.float32)
        bias = self.constant(f"{module}_bias", values)
        # Both orders are seen in captures.
        operands = f"{bias}, {module}_mm" if self.weights == "float" else f"{module}_mm, {bias}"
        self.lines += [
            f"[{module}__Transpose] {module}_wt = Transpose<perm = [1, 0]>({weight})",
            f"[{module}__MatMul] {module}_mm = MatMul({data}, {module}_wt)",
            f"[{module}__Add] {module}_y = Add({operands})",
        ]
        return f"{module}_y"

    def model(self) -> ir.Model:
        """Everything written so far, from x (batch, sequence, 8) to logits (batch, 2)."""
        body = "\n  ".join(self.lines)
        signature = f"(float[batch,sequence,{HIDDEN}] x) => (float[batch,2] logits)"
        return model_of(f"encoder {signature} {{\n  {body}\n}}", self.arrays)


def encoder(placement: str, writer: Writer | None = None, *, shared: bool = True) -> ir.Model:
    """One encoder block and a classifier, with the activation quantizers of `placement`.

    Placements: none, linear, attention, sparse. Without `shared`, query, key and value quantize
    their common input once each, with equal constants of their own.
    """
    w = writer or Writer()
    attention, outputs = placement in {"attention", "sparse"}, placement == "sparse"

    def maybe(wanted: bool, value: str, module: str, scale: float = 0.03) -> str:
        return w.quantized(value, module, scale) if wanted else value

    ones, zeros = np.ones(HIDDEN, np.float32), np.zeros(HIDDEN, np.float32)
    norm = f"{w.constant('gamma', ones)}, {w.constant('beta', zeros)}"
    w.lines.append(f"[embeddings__LN] h = LayerNormalization<axis: int = -1>(x, {norm})")
    quantized = placement != "none"
    inputs = ["h"] * 3
    if quantized and shared:
        inputs = [w.quantized("h", "embeddings__output_quantizer")] * 3
    elif quantized:
        inputs = [w.quantized("h", f"self__{name}__input_quantizer") for name in "qkv"]
    square = (HIDDEN, HIDDEN)
    heads = w.constant("heads", np.array([0, 0, HEADS, HIDDEN // HEADS], np.int64))
    for name, data, perm in zip("qkv", inputs, ("0,2,1,3", "0,2,3,1", "0,2,1,3"), strict=True):
        y = w.linear(f"self__{name}", data, square)
        y = maybe(attention, y, f"self__{name}__output_quantizer")
        w.lines += [
            f"[self__Reshape] {name}_heads = Reshape({y}, {heads})",
            f"[self__Transpose] {name} = Transpose<perm = [{perm}]>({name}_heads)",
        ]
    w.lines += [
        "[self__MatMul] scores = MatMul(q, k)",
        f"[self__Mul] scaled = Mul(scores, {w.constant('half', np.array(0.5, np.float32))})",
        "[self__Softmax] probabilities = Softmax<axis: int = -1>(scaled)",
    ]
    p = maybe(attention, "probabilities", "self__softmax_quantizer", 1 / 127)
    flat = w.constant("flat", np.array([0, 0, HIDDEN], np.int64))
    w.lines += [
        f"[self__MatMul] context = MatMul({p}, v)",
        "[self__Transpose] context_rows = Transpose<perm = [0,2,1,3]>(context)",
        f"[self__Reshape] context_flat = Reshape(context_rows, {flat})",
    ]
    context = maybe(quantized, "context_flat", "output__dense__input_quantizer")
    y = maybe(
        outputs, w.linear("output__dense", context, square), "output__dense__output_quantizer"
    )
    residual = inputs[0] if outputs else "h"
    w.lines += [
        f"[output__Add] summed = Add({y}, {residual})",
        f"[output__LN] h2 = LayerNormalization<axis: int = -1>(summed, {norm})",
    ]
    data = maybe(quantized, "h2", "output__output_quantizer")
    up = w.linear("up__dense", data, (FFN, HIDDEN))
    w.lines.append(f"[up__Gelu] gelu = Gelu({up})")
    hidden = maybe(quantized, "gelu", "down__dense__input_quantizer")
    down = maybe(
        outputs, w.linear("down__dense", hidden, (HIDDEN, FFN)), "down__dense__output_quantizer"
    )
    head = w.generator.standard_normal((2, HIDDEN)).astype(np.float32)
    w.lines += [
        f"[down__Add] summed2 = Add({down}, {data if outputs else 'h2'})",
        f"[pooler__Gather] first = Gather<axis: int = 1>"
        f"(summed2, {w.constant('zero', np.array(0, np.int64))})",
        f"[classifier__Gemm] logits = Gemm<transB: int = 1>(first, "
        f"{w.constant('classifier_weight', head)}, "
        f"{w.constant('classifier_bias', np.array([0.1, -0.2], np.float32))})",
    ]
    return w.model()


LINEARS = ("self.q", "self.k", "self.v", "output.dense", "up.dense", "down.dense")


def tied_layers(weights: str, *, quantized: bool = True) -> ir.Model:
    """Three layers of one module kind over one stored weight, as ALBERT has them.

    Their inputs are quantized too, unless `quantized` is False.
    """
    w = Writer(weights=weights)
    value = "x"
    for name in ("first", "second", "third"):
        data = w.quantized(value, f"{name}__in") if quantized else value
        value = w.linear(name, data, (HIDDEN, HIDDEN), name="tied")
    w.constant("zero", np.array(0, np.int64))
    w.constant("classifier_weight", np.ones((HIDDEN, 2), np.float32))
    w.lines += [
        f"[pooler__Gather] pooled = Gather<axis: int = 1>({value}, zero)",
        "[classifier__MatMul] logits = MatMul(pooled, classifier_weight)",
    ]
    return w.model()


def layer_in_a_branch() -> ir.Model:
    """A quantized linear inside both branches of an If, its weight in the graph around it."""
    branch = """
      {name} () => (float[batch,2] {name}_y) {{
        [{name}__Q] {name}_q = QuantizeLinear(x, s, z)
        [{name}__DQ] {name}_dq = DequantizeLinear({name}_q, s, z)
        [{name}__WQ] {name}_wq = QuantizeLinear<axis: int = 0>(weight, ws, wz)
        [{name}__WDQ] {name}_w = DequantizeLinear<axis: int = 0>({name}_wq, ws, wz)
        [{name}__Transpose] {name}_wt = Transpose<perm = [1, 0]>({name}_w)
        [{name}__MatMul] {name}_y = MatMul({name}_dq, {name}_wt)
      }}"""
    text = f"""
    branches (float[batch,8] x) => (float[batch,2] logits)
    <float zero = {{0}}, float s = {{0.05}}, int8 z = {{0}}, int8[2] wz = {{0, 0}},
     float[2] ws = {{0.01, 0.02}}> {{
      [net__Max] largest = ReduceMax<keepdims: int = 0>(x)
      [net__Greater] positive = Greater(largest, zero)
      [net__If] logits = If (positive) <
        then_branch = {branch.format(name="yes")},
        else_branch = {branch.format(name="no")}
      >
    }}"""
    weight = np.random.default_rng(3).standard_normal((2, 8)).astype(np.float32)
    return model_of(text, {"weight": weight})


def looked_up_rows() -> ir.Model:
    """Three look-ups of rows: two in one quantized table, and one in a table of floats."""
    text = """
    embeddings (float[batch,sequence,8] x) => (float[batch,2] logits)
    <float low = {0}, float high = {5}, int64 first = {0},
     int8[6] wz = {0, 0, 0, 0, 0, 0}, int8 bottom = {-127}, int8 top = {127},
     float[6] ws = {0.01, 0.02, 0.03, 0.04, 0.05, 0.06}> {
      [net__Gather] column = Gather<axis: int = 2>(x, first)
      [net__Clip] clipped = Clip(column, low, high)
      [net__Cast] ids = Cast<to: int = 7>(clipped)
      [net__Sub] back = Sub(five, ids)
      [words__Q] q = QuantizeLinear<axis: int = 0>(words, ws, wz)
      [words__Clip] c = Clip(q, bottom, top)
      [words__DQ] table = DequantizeLinear<axis: int = 0>(c, ws, wz)
      [words__Gather] word = Gather(table, ids)
      [last__Gather] other = Gather(table, back)
      [places__Gather] place = Gather(places, ids)
      [net__Sum] rows = Sum(word, other, place)
      [net__Pool] pooled = ReduceMean<keepdims: int = 0>(rows, one_axis)
      [classifier__MatMul] logits = MatMul(pooled, head)
    }"""
    generator = np.random.default_rng(5)
    arrays = {
        "words": generator.standard_normal((6, 8)).astype(np.float32),
        "places": generator.standard_normal((6, 8)).astype(np.float32),
        "head": generator.standard_normal((8, 2)).astype(np.float32),
        "five": np.array(5, np.int64),
        "one_axis": np.array([1], np.int64),
    }
    return model_of(text, arrays)
