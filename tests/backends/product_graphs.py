"""Graphs of one product whose sums or floats a library may not keep."""

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import onnx_ir as ir

from passes.spell_out_products import CONTRIB
from passes.spell_out_products import PRODUCT as INTEGER_PRODUCT

LARGEST, K, N = 127, 64, 32


def largest_product(signed: bool) -> onnx.ModelProto:
    """Every activation code and every weight at its largest: each output is 127 · 127 · 64.

    Their 16-bit pair sums overflow on x86 without VNNI.
    """
    codes, point = ("int8", 0) if signed else ("uint8", 128)
    model = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["": 20]>
        product (int64[batch, sequence] input_ids) => (float[batch, sequence, {N}] logits)
        <float one = {{1.0}}, {codes} point = {{{point}}}>
        {{
          x = Gather (table, input_ids)
          x_codes = QuantizeLinear (x, one, point)
          x_8 = DequantizeLinear (x_codes, one, point)
          weight = DequantizeLinear <axis = 1> (weight_codes, weight_scale, weight_point)
          logits = MatMul (x_8, weight)
        }}""")
    constants = {
        "table": np.full((1, K), LARGEST, np.float32),
        "weight_codes": np.full((K, N), LARGEST, np.int8),
        "weight_scale": np.ones(N, np.float32),
        "weight_point": np.zeros(N, np.int8),
    }
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in constants.items()
    )
    return model


def floats_by_integers() -> onnx.ModelProto:
    """Floats that no 8-bit code has, times stored integers."""
    model = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["": 20]>
        product (int64[batch, sequence] input_ids) => (float[batch, sequence, {N}] logits)
        {{
          x = Gather (table, input_ids)
          weight = DequantizeLinear <axis = 1> (weight_codes, weight_scale, weight_point)
          logits = MatMul (x, weight)
        }}""")
    draw = np.random.default_rng(0)
    constants = {
        "table": draw.normal(size=(4, K)).astype(np.float32),
        "weight_codes": draw.integers(-LARGEST, LARGEST, (K, N)).astype(np.int8),
        "weight_scale": draw.uniform(0.01, 0.02, N).astype(np.float32),
        "weight_point": np.zeros(N, np.int8),
    }
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in constants.items()
    )
    return model


def largest_integer_product() -> ir.Model:
    """Codes of shape (rows, 64) in, the sums of 64 channels out; all codes as large as they get.

    What lies as `largest_product.onnx` in the package: save this there to make it anew.
    """
    codes = ir.val("codes", ir.DataType.UINT8, ("rows", K))
    sums = ir.val("sums", ir.DataType.FLOAT, ("rows", K))
    arrays = {
        "weight": np.full((K, K), LARGEST, np.int8),
        "codes_scale": np.ones((), np.float32),
        "weight_scale": np.ones(K, np.float32),
        "codes_point": np.full((), 128, np.uint8),
        "weight_point": np.zeros(K, np.int8),
    }
    stored = [ir.Value(name=name, const_value=ir.tensor(each)) for name, each in arrays.items()]
    node = ir.node(
        INTEGER_PRODUCT, [codes, *stored], domain=CONTRIB, outputs=[sums], name="product"
    )
    versions = {"": 20, CONTRIB: 1}
    graph = ir.Graph(
        [codes], [sums], nodes=[node], initializers=stored, opset_imports=versions, name="product"
    )
    return ir.Model(graph, ir_version=10)
