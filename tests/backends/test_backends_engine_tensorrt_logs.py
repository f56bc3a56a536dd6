"""Logs of full TensorRT, 10 and 11, from layers and sparse kernels to verdicts.

No full TensorRT was at hand, since it builds on a GPU only. The text is written for these tests:
one block of BERT in the form of NVIDIA's documented layer information and of public build logs
(10: `Format/Datatype: Half`, weights among the inputs, "_" for "." in layer names, U+001E between
nodes; 11: `Datatype: Half, Format: …`, weights as constants). Kernels bear cask's public names.
Logs of TensorRT-RTX, which is at hand, are in the `.log` files beside this one.
"""

from types import ModuleType

import pytest

from nxmi_export.backends.tensorrt_engine import (
    EngineLayer,
    Library,
    ProductNodes,
    Verdict,
    engine_mapping,
    int8_coverage,
    merge_evidence,
    parse_layers,
    sparse_evidence,
)

TENSORRT = Library(ModuleType("tensorrt"), "tensorrt", "of the log")
SPARSE = (
    "sm80_xmma_sparse_gemm_i8i8_i8i32_f32_tn_n_tilesize128x128x128_stage4"
    "_warpsize2x2x1_sptensor16x8x64"
)
DENSE = "sm80_xmma_gemm_i8i8_i8i32_f32_tn_n_tilesize64x64x64_stage3_warpsize2x2x1_tensor16x8x32"
FLOAT = "sm80_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize32x32x64_stage6_warpsize2x2x1_tensor16x8x16"
TIME = "[11/27/2026-10:00:00]"
LAYER = "bert.encoder.layer.0."
QKV = tuple(f"{LAYER}attention.self.{name}/MatMul" for name in ("query", "key", "value"))
SCORES, CONTEXT = f"{LAYER}attention.self/scores", f"{LAYER}attention.self/context"
OUTPUT, UP, DOWN = (
    f"{LAYER}{name}.dense/MatMul" for name in ("attention.output", "intermediate", "output")
)
POOLER = "bert.pooler.dense/Gemm"
MODULE_OF = {node: node.rpartition("/")[0] for node in (*QKV, SCORES, CONTEXT, OUTPUT, UP, DOWN)}
LINEARS = [MODULE_OF[node] for node in (*QKV, OUTPUT, UP, DOWN)]
ATTENTION = f"{LAYER}attention.self"


def _operand(version: int, name: str, kind: str, dimensions: str = "32,128,768") -> str:
    start = f"{{ Name: {name}, Dimensions: [{dimensions}], "
    if version == 10:
        return f"{start}Format/Datatype: {kind} }}"
    return f"{start}Strides: [98304,768,1], Datatype: {kind}, Format: (Linear) Row major }}"


def _layer(
    version: int,
    nodes: tuple[str, ...],
    kinds: str,
    tactic: str,
    *,
    weight: str = "",
    name: str = "",
    neighbours: tuple[str, ...] = (),
    type_: str = "gemm",
) -> str:
    """One line of the log; `kinds` are the data types of inputs and output: "Int8 Int8>Half"."""
    reads, writes = kinds.split(">")
    inputs = [_operand(version, f"in{i}", kind) for i, kind in enumerate(reads.split())]
    constants = [_operand(version, "w", weight, "768,768")] if weight else []
    stem = name or "+".join(nodes)
    if version == 10:
        stem, inputs, constants = stem.replace(".", "_"), inputs + constants, []
    between = "\x1e" if version == 10 else ""
    constant_list = f"Constants: [ {', '.join(constants)}], " if version == 11 else ""
    metadata = between.join(f"[ONNX Layer: {node}]" for node in (*nodes, *neighbours))
    return (
        f"{TIME} [V] [TRT] Name: {stem}_myl0_7, LayerType: {type_}, "
        f"Inputs: [ {', '.join(inputs)}], {constant_list}"
        f"Outputs: [ {_operand(version, 'out', writes)}], TacticName: {tactic}, StreamId: 0, "
        f"Metadata: {metadata}"
    )


def _log(version: int, *, chosen: int = 3, kernel: str = SPARSE, merged: bool = True) -> str:
    products = [QKV[::-1]] if merged else [(node,) for node in QKV]
    lines = [
        f"{TIME} [I] [TRT] (Sparsity) Found 4 layer(s) eligible to use sparse tactics",
        f"{TIME} [I] [TRT] (Sparsity) Chose {chosen} layer(s) using sparse tactics",
        f"{TIME} [V] [TRT] Engine Layer Information:",
        *(
            _layer(version, nodes, "Int8>Int8", DENSE, weight="Int8", neighbours=("quantize",))
            for nodes in products
        ),
        _layer(
            version,
            (SCORES, CONTEXT),
            "Int8 Int8 Int8 Half>Int8",
            "_gemm_mha_v2_0x123456",
            name="_gemm_mha_v2",
            type_="kgen",
        ),
        *(_layer(version, (node,), "Int8>Int8", kernel, weight="Int8") for node in (OUTPUT, UP)),
        _layer(version, (DOWN,), "Int8>Int8", kernel, weight="Int8", neighbours=(UP,)),
        _layer(version, (POOLER,), "Half>Half", FLOAT, weight="Half"),
    ]
    return "\n".join(lines)


@pytest.fixture(params=[10, 11], ids=["TensorRT 10", "TensorRT 11"])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_every_linear_and_attention_is_proved(version: int) -> None:
    layers = parse_layers(_log(version))
    assert len(layers) == 6
    coverage = int8_coverage(
        layers, ProductNodes(MODULE_OF), linears=LINEARS, attentions=[ATTENTION]
    )
    assert coverage.verdict is Verdict.PROVED
    # Unlike RTX's, full TensorRT's INT8 kernels write INT8, as sparse ones must.
    assert (coverage.int8_linears, coverage.int8_output_linears) == (6, 6)
    assert coverage.int8_attentions == 1


def test_a_float_product_is_refuted(version: int) -> None:
    layers = parse_layers(_log(version))
    coverage = int8_coverage(
        layers, ProductNodes({POOLER: "pooler"}), linears=["pooler"], attentions=[]
    )
    assert coverage.verdict is Verdict.REFUTED


def test_every_product_has_its_module(version: int) -> None:
    mapping = engine_mapping(
        parse_layers(_log(version)), ProductNodes(MODULE_OF | {POOLER: "bert.pooler"})
    )
    assert mapping.is_complete
    assert len(mapping.modules) == 6


@pytest.mark.parametrize(("merged", "verdict"), [(True, "proved"), (False, "refuted")])
def test_query_key_and_value_are_one_product_or_three(
    version: int, merged: bool, verdict: str
) -> None:
    layers = parse_layers(_log(version, merged=merged))
    [evidence] = merge_evidence(layers, [QKV], ProductNodes(MODULE_OF))
    assert evidence.verdict == verdict


def test_sparse_kernels_of_some_layers_are_counted_and_named(version: int) -> None:
    log = _log(version)
    evidence = sparse_evidence(log, parse_layers(log), TENSORRT)
    assert (evidence.verdict, evidence.eligible, evidence.chosen) == (Verdict.UNPROVEN, 4, 3)
    assert len(evidence.layers) == 3


def test_dense_kernels_of_eligible_layers_refute_sparsity(version: int) -> None:
    log = _log(version, chosen=0, kernel=DENSE)
    evidence = sparse_evidence(log, parse_layers(log), TENSORRT)
    assert (evidence.verdict, evidence.layers) == (Verdict.REFUTED, ())


def test_layer_names_of_tensorrt_8_may_hold_several_nodes() -> None:
    log = (
        "[08/05/2024-12:06:54] [I] [TRT] (Sparsity) Layers eligible for sparse math: MatMul_401, "
        "Conv_619 + Relu_620, Conv_234 + Add_240 + Relu_241\n"
        "[08/05/2024-12:06:54] [I] [TRT] (Sparsity) TRT inference plan picked sparse "
        "implementation for layers: MatMul_401, Conv_619 + Relu_620\n"
    )
    evidence = sparse_evidence(log, [], TENSORRT)
    assert (evidence.verdict, evidence.eligible, evidence.chosen) == (Verdict.UNPROVEN, 3, 2)


@pytest.mark.parametrize(
    ("kernel", "sparse"),
    [
        (SPARSE, True),
        ("sm86_xmma_sparse_gemm_f16f16_f16f32_f32_nt_n_tilesize256x128x64_sptensor16x8x32", True),
        ("sm80_xmma_fprop_sparse_conv_interleaved_i8i8_i8i32_f32_tilesize128x64", True),
        ("ampere_fp16_spgemm_128x128_tn", True),
        ("cusparselt_spmma_i8", True),
        ("__myl_TranspGemm_0xc5eac87ebdf4ec6badc814bfad413186", False),
        (DENSE, False),
        (FLOAT, False),
        (
            "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_warpsize2x2x1_tensor16x8x32",
            False,
        ),
        ("_gemm_mha_v2_0xc5eac87ebdf4ec6badc814bfad413186", False),
        ("__myl_MulAddDivErf_0x4dfa88e4507851cd99516fcc128d51ae", False),
        ("", False),
    ],
)
def test_a_sparse_kernel_is_known_by_its_name(kernel: str, sparse: bool) -> None:
    layer = EngineLayer("layer", "gemm", (), (), (), kernel, (), "HasSparseWeights: 1")
    assert bool(sparse_evidence("", [layer], TENSORRT).layers) is sparse
