"""A small quantized encoder as an ONNX file, and TensorRT-RTX where it is installed."""

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

from nxmi_export.backends.tensorrt_engine import Library, find_library
from nxmi_export.errors import CapabilityMissing

HIDDEN, HEADS, FFN, VOCABULARY, POSITIONS = 64, 2, 128, 32, 16
HEAD = HIDDEN // HEADS  # 32; attention with heads of 8 is not fused


def _quantized(name: str) -> str:
    return f"""
      {name}_codes = QuantizeLinear ({name}, {name}_scale, zero)
      {name}_8 = DequantizeLinear ({name}_codes, {name}_scale, zero)"""


def _linear(name: str, source: str, result: str) -> str:
    return f"""
      {name}_weight = DequantizeLinear <axis = 1> ({name}_weight_codes, {name}_weight_scale)
      ["layer.0.{name}/MatMul"] {name}_product = MatMul ({source}, {name}_weight)
      {result} = Add ({name}_product, {name}_bias)"""


def _heads(name: str, order: str) -> str:
    return f"""
      {name}_split = Reshape ({name}_8, split_shape)
      {name}_heads = Transpose <perm = [{order}]> ({name}_split)"""


ENCODER = f"""
    <ir_version: 10, opset_import: ["": 20]>
    encoder (int64[batch, sequence] input_ids, int64[batch, sequence] attention_mask)
        => (float[batch, 2] logits) {{
      words = Gather (word_table, input_ids)
      length = Shape <start = 1, end = 2> (input_ids)
      places = Slice (position_table, begin, length, begin)
      embeddings = Add (words, places)
      hidden = LayerNormalization <axis = -1> (embeddings, gain)
      {_quantized("hidden")}
      {_linear("query", "hidden_8", "query")}
      {_linear("key", "hidden_8", "key")}
      {_linear("value", "hidden_8", "value")}
      {"".join(map(_quantized, ("query", "key", "value")))}
      {_heads("query", "0, 2, 1, 3")}
      {_heads("key", "0, 2, 3, 1")}
      {_heads("value", "0, 2, 1, 3")}
      ["layer.0.attention/scores"] scores = MatMul (query_heads, key_heads)
      scaled = Mul (scores, root)
      present = Cast <to = 9> (attention_mask)
      visible = Unsqueeze (present, mask_axes)
      masked = Where (visible, scaled, lowest)
      shares = Softmax <axis = -1> (masked)
      {_quantized("shares")}
      ["layer.0.attention/context"] mixed = MatMul (shares_8, value_heads)
      ordered = Transpose <perm = [0, 2, 1, 3]> (mixed)
      context = Reshape (ordered, join_shape)
      {_quantized("context")}
      {_linear("output", "context_8", "projected")}
      attended = Add (projected, hidden_8)
      middle = LayerNormalization <axis = -1> (attended, gain)
      {_quantized("middle")}
      {_linear("up", "middle_8", "raised")}
      active = Gelu (raised)
      {_quantized("active")}
      {_linear("down", "active_8", "lowered")}
      encoded = Add (lowered, middle_8)
      first = Gather <axis = 1> (encoded, first_token)
      ["classifier/MatMul"] logits = MatMul (first, classifier)
    }}"""

LINEARS = {
    "query": (HIDDEN, HIDDEN),
    "key": (HIDDEN, HIDDEN),
    "value": (HIDDEN, HIDDEN),
    "output": (HIDDEN, HIDDEN),
    "up": (HIDDEN, FFN),
    "down": (FFN, HIDDEN),
}


def _initializers() -> dict[str, np.ndarray]:
    numbers = np.random.default_rng(0)

    def floats(*shape: int) -> np.ndarray:
        return numbers.normal(scale=0.5, size=shape).astype(np.float32)

    values = {
        "word_table": floats(VOCABULARY, HIDDEN),
        "position_table": floats(POSITIONS, HIDDEN),
        "gain": np.ones(HIDDEN, np.float32),
        "classifier": floats(HIDDEN, 2),
        "zero": np.int8(0),
        "root": np.float32(HEAD**-0.5),
        "lowest": np.float32(-1e9),
        "begin": np.array([0]),
        "mask_axes": np.array([1, 2]),
        "first_token": np.array(0),
        "split_shape": np.array([0, 0, HEADS, HEAD]),
        "join_shape": np.array([0, 0, HIDDEN]),
    }
    for name in ("hidden", "query", "key", "value", "context", "middle", "active"):
        values[f"{name}_scale"] = np.float32(0.03)
    values["shares_scale"] = np.float32(1 / 127)
    for name, shape in LINEARS.items():
        values[f"{name}_weight_codes"] = numbers.integers(-127, 128, shape, dtype=np.int8)
        values[f"{name}_weight_scale"] = np.full(shape[1], 0.004, np.float32)
        values[f"{name}_bias"] = floats(shape[1])
    return {name: np.asarray(value) for name, value in values.items()}


@pytest.fixture(scope="session")
def encoder_model() -> onnx.ModelProto:
    """One encoder layer, every linear and the attention quantized; 16 positions."""
    model = onnx.parser.parse_model(ENCODER)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(value, name) for name, value in _initializers().items()
    )
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.fixture(scope="session")
def encoder_path(encoder_model: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encoder") / "model.onnx"
    onnx.save(encoder_model, path)
    return path


@pytest.fixture(scope="session")
def rtx() -> Library:
    try:
        return find_library("tensorrt_rtx")
    except CapabilityMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def batch() -> dict[str, np.ndarray]:
    """Two sequences of seven tokens, the second padded to the right."""
    mask = np.ones((2, 7), np.int64)
    mask[1, 4:] = 0
    return {"input_ids": np.arange(14).reshape(2, 7), "attention_mask": mask}
