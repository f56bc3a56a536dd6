from pathlib import Path

import pytest

from nxmi_export.backends.tensorrt_engine import EngineLayer, Operand, parse_layers
from nxmi_export.backends.tensorrt_engine.build_log import exhausted_memory, tight_workspace

# Layers of a real TensorRT-RTX 1.7.1 build: a 384-wide encoder in the `sparse` placement.
LOG = (Path(__file__).parent / "rtx_1_7_fused_attention.log").read_text()

# TensorRT 10 spells data types differently, lists weights as inputs and mangles dots in names.
# Written after public logs of 10.x: no full TensorRT was at hand. Whole blocks of 10 and of 11 are
# in test_backends_engine_tensorrt_logs.py.
TENSORRT_10 = (
    "[11/01/2024-10:32:57] [V] [TRT] Name: /layer_0/query/MatMul_myl0_3, LayerType: gemm, "
    "Inputs: [ { Name: x, Dimensions: [8,384], Format/Datatype: Int8 }, "
    "{ Name: w, Dimensions: [384,384], Format/Datatype: Int8 }, "
    "{ Name: alpha, Dimensions: [1], Format/Datatype: Float }], "
    "Outputs: [ { Name: y, Dimensions: [8,384], Format/Datatype: Half }], "
    "TacticName: sm80_xmma_gemm_i8f16_i8i32_f32_tn_n, StreamId: 0, "
    "Metadata: [ONNX Layer: /layer.0/query/MatMul]\x1e[ONNX Layer: /layer.0/query/Quantize]"
)
CONVOLUTION = (
    "Name: Conv_0 + Relu_1, LayerType: CaskConvolution, Inputs: [ { Name: image, "
    "Location: Device, Dimensions: [1,64,56,56], Format/Datatype: "
    "Thirty-two wide channel vectorized row major Int8 format }], Outputs: [ { Name: features, "
    "Location: Device, Dimensions: [1,64,56,56], Format/Datatype: Row major linear FP32 }], "
    'ParameterType: Convolution, Kernel: [1,1], Weights: {"Type": "Int8", "Count": 4096}, '
    "TacticName: sm80_xmma_fprop_i8i8, TacticValue: 0x1, StreamId: 0, Metadata: "
    "[ONNX Layer: Conv_0][ONNX Layer: Relu_1]"
)


def _layer(name: str, *nodes: str) -> EngineLayer:
    return EngineLayer(name, "gemm", (), (), (), "", nodes, "")


def test_every_layer_of_a_real_log_is_read() -> None:
    layers = parse_layers(LOG)
    assert [layer.type for layer in layers] == [
        *("shape_call", "gemm", "kgen", "kgen", "gemm", "gemm", "gemm", "runtime_fusion", "gemm")
    ]


def test_no_data_type_of_a_real_log_is_lost() -> None:
    for layer in parse_layers(LOG):
        operands = (*layer.inputs, *layer.constants, *layer.outputs)
        assert len(operands) == layer.line.count("Datatype: ")


def test_operands_have_names_dimensions_and_data_types() -> None:
    merged = parse_layers(LOG)[1]
    assert merged.inputs == (Operand("__mye30699_21_myl0", (-1, 384), "Int8"),)
    assert [operand.dimensions for operand in merged.constants] == [(384, 1152), (1,), (1,)]
    assert [operand.is_scalar for operand in merged.constants] == [False, True, True]
    assert merged.outputs == (Operand("__mye30699_myl0", (-1, 1152), "Float"),)
    assert merged.tactic == "__myelin_CASK_STUB"


@pytest.mark.parametrize(
    ("dimensions", "is_scalar"),
    [((), True), ((1,), True), ((1, 1), True), ((2,), False), ((-1, -1), False), ((-1, 1), False)],
)
def test_only_what_surely_holds_one_number_is_a_scalar(
    dimensions: tuple[int, ...], is_scalar: bool
) -> None:
    assert Operand("x", dimensions, "Float").is_scalar is is_scalar


def test_a_merged_gemm_is_named_after_all_its_products() -> None:
    merged = parse_layers(LOG)[1]
    assert set(merged.named_nodes) == {*("node_MatMul_90", "node_MatMul_102", "node_MatMul_114")}
    assert "node_QuantizeLinear_112" in merged.onnx_nodes


def test_the_line_itself_is_kept_as_evidence() -> None:
    assert all(layer.line in LOG for layer in parse_layers(LOG))


def test_tensorrt_10_lines_are_read() -> None:
    [layer] = parse_layers(TENSORRT_10)
    assert [operand.datatype for operand in layer.inputs] == ["Int8", "Int8", "Float"]
    assert layer.constants == ()
    assert layer.outputs == (Operand("y", (8, 384), "Half"),)
    assert layer.onnx_nodes == ("/layer.0/query/MatMul", "/layer.0/query/Quantize")
    assert layer.named_nodes == ("/layer.0/query/MatMul",)


def test_a_layer_with_parameters_and_a_described_format_is_read() -> None:
    [layer] = parse_layers(CONVOLUTION)
    assert [operand.datatype for operand in layer.inputs] == ["Int8"]
    assert [operand.datatype for operand in layer.outputs] == ["FP32"]
    assert layer.tactic == "sm80_xmma_fprop_i8i8"
    assert layer.named_nodes == ("Conv_0", "Relu_1")


def test_a_neighbour_in_the_metadata_is_not_a_principal_node() -> None:
    layer = _layer("b/MatMul_myl0_4", "b/MatMul", "a/MatMul")
    assert layer.named_nodes == ("b/MatMul",)


def test_a_name_that_only_starts_alike_is_not_a_principal_node() -> None:
    layer = _layer("node_matmul_1_myl0_4", "node_matmul", "node_matmul_1")
    assert layer.named_nodes == ("node_matmul_1",)


def test_a_fused_kernel_is_named_after_no_node() -> None:
    layer = _layer("__myl_FcTanh_myl0_26", "node_Gemm_290", "node_tanh")
    assert layer.named_nodes == ()


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("a/MatMul_myl0_4", "myl0"),
        ("a/MatMul [profile 1]_myl1_4", "myl1"),
        ("_gemm_mha_v2_myl1_14", "myl1"),
        ("a/MatMul", "profile 0"),
        ("a/MatMul [profile 1]", "profile 1"),
    ],
)
def test_no_two_profiles_share_a_place(name: str, place: str) -> None:
    assert _layer(name).place == place


KNOWN = "{ Name: x, Dimensions: [-1,64], Strides: [64,1], Datatype: Int8, Format: (Linear) any }"
LINE = (
    "Name: a_myl0_1, LayerType: gemm, Inputs: [ %s], Constants: [], Outputs: [ %s], TacticName: t"
)
UNREAD = Operand("?", (-1,), "?")


@pytest.mark.parametrize(
    "other",
    [
        "{ Name: y, Dimensions: [-1,64], Type: Half}",
        "{ Name: y, Dimensions: [-1,?], Datatype: Half }",
        "{ Tensor: y, Dimensions: [-1,64], Datatype: Half }",
        "{ Name: {y}, Dimensions: [-1,64], Datatype: Half }",
        "y: Half",
    ],
)
def test_an_operand_in_another_form_is_kept_with_an_unknown_type(other: str) -> None:
    read = Operand("x", (-1, 64), "Int8")
    for listed in (f"{KNOWN}, {other}", f"{other}, {KNOWN}"):
        [layer] = parse_layers(LINE % (listed, other))
        assert (layer.inputs, layer.constants, layer.outputs) == ((read, UNREAD), (), (UNREAD,))


def test_a_layer_in_another_form_is_kept_with_unknown_operands() -> None:
    line = "Name: a_myl0_1, LayerType: gemm, Reads: [], TacticName: t, Metadata: [ONNX Layer: a]"
    [layer] = parse_layers(line)
    assert (layer.type, layer.inputs, layer.outputs) == ("gemm", (UNREAD,), (UNREAD,))
    assert (layer.tactic, layer.onnx_nodes) == ("t", ("a",))


def test_a_log_without_details_has_no_layers() -> None:
    assert parse_layers("[I] Engine generation completed in 0.61 seconds.\n") == ()


@pytest.mark.parametrize(
    "line",
    [
        "[W] Skipping tactic 0 due to insufficient memory on requested size of 1290442752",
        "[E] Error Code 2: OutOfMemory (Requested size was 2833252352 bytes.)",
        "[W] Requested amount of GPU memory (2833252352 bytes) could not be allocated.",
        "[W] Tactic Device request: 512MB. Device memory is insufficient to use tactic.",
        "[W] Skipping tactic 3 due to insuficient memory on requested size of 449 detected for 4.",
        "[E] Error Code 9: Skipping tactic 0x0000000000000000 due to exception "
        "[tunable_graph.cpp:create:117] autotuning: User allocator error allocating "
        "51539607552-byte buffer",
        "[W] Skipping tactic 0 due to Myelin error: autotuning: CUDA error 3 allocating "
        "0-byte buffer: ",
    ],
)
def test_memory_that_ran_out_is_noticed(line: str) -> None:
    assert exhausted_memory(f"[V] fine\n{line}\n[V] fine") == line


# In TensorRT 8.0 and in later releases.
@pytest.mark.parametrize(
    "more", ["may increase performance, please check", "will enable more tactics, please check"]
)
def test_a_limit_of_scratch_memory_is_told_apart_from_a_lack_of_memory(more: str) -> None:
    line = (
        "[I] Some tactics do not have sufficient workspace memory to run. "
        f"Increasing workspace size {more} verbose output."
    )
    assert tight_workspace(f"[V] fine\n{line}\n[V] fine") == line
    assert exhausted_memory(line) is None
    assert tight_workspace(LOG) is None


def test_memory_statistics_are_not_mistaken_for_a_lack_of_it() -> None:
    statistics = "[I] [MemUsageStats] Peak memory usage of TRT CPU/GPU memory allocators: CPU 5 MiB"
    assert exhausted_memory(LOG + statistics) is None
