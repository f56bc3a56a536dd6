"""What a graph promises of its engine, and what a build says of each promise."""

from pathlib import Path

import onnx_ir as ir
import pytest

from nxmi_export.backends.tensorrt_engine import (
    BuildResult,
    EngineOptions,
    Library,
    ProductNodes,
    SparseEvidence,
    Verdict,
    int8_coverage,
)
from nxmi_export.backends.tensorrt_engine.engine_facts import FileHash, GraphFacts
from nxmi_export.backends.tensorrt_engine.timing_cache import TimingCache
from nxmi_export.workflow.engine_files import IN_ARTEFACT
from nxmi_export.workflow.engine_report import EngineReport, QuantizedModules, coverage_of
from nxmi_export.workflow.lint_gate import LintTargets

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'
LINEAR = """
agraph (float[n, 8] x) => (float[n, 2] y)
<float s = {0.5}, int8 z = {0}, int8[8, 2] w = {WEIGHT}>
{
    BODY
    wf = DequantizeLinear (w, s, z)
    y = MatMul (data, wf)
}
"""
ROUNDED = "q = QuantizeLinear (x, s, z)\n    data = DequantizeLinear (q, s, z)"
FORGOTTEN = f"""
agraph (float[n, 16] x) => (float[n, 16] y)
<float s = {{0.5}}, int8 z = {{0}}, int8[16, 16] w = {{{",".join(["1"] * 256)}}},
 float[16, 16] floats = {{{",".join(["1"] * 256)}}}>
{{
    {ROUNDED}
    wf = DequantizeLinear (w, s, z)
    int8 = MatMul (data, wf)
    r = Relu (int8)
    y = KIND (r, floats)
}}
"""
PAIRS = "1,0, 0,2, 3,4, 0,0, 0,1, 0,0, 5,6, 7,0"  # two in every four along the first axis
DENSE = "1,1, 2,2, 3,4, 1,1, 1,1, 2,2, 5,6, 7,1"


def modules(*, weight: str = PAIRS, body: str = ROUNDED) -> QuantizedModules:
    text = LINEAR.replace("WEIGHT", weight).replace("BODY", body)
    model = ir.from_onnx_text(HEAD + text)
    for node in model.graph:
        node.name = f"{node.op_type}_{node.outputs[0].name}"
    return QuantizedModules.of(model)


def report(
    promised: QuantizedModules, sparsity: Verdict, options: EngineOptions | None = None
) -> EngineReport:
    """A build whose log says this of sparse kernels, and nothing of INT8."""
    nothing = FileHash(name="a", sha256="0")
    return EngineReport(
        result=BuildResult(
            plan=Path("model.plan"),
            size_bytes=1,
            sha256="0",
            seconds=1.0,
            library=Library(None, "tensorrt", "10.14.1"),
            compute_capabilities=(),
            profiles=(),
            input_names=(),
            is_fixed=False,
            options=options or EngineOptions(),
            ignored=(),
            timing_cache=TimingCache(),
            layers=(),
            log="",
        ),
        files=IN_ARTEFACT,
        graph=GraphFacts(name="model.onnx", sha256="0", tensors=()),
        log=nothing,
        layers=nothing,
        targets=LintTargets(("sm86",)),
        findings=(),
        modules=promised,
        coverage=int8_coverage((), ProductNodes({}), linears=[], attentions=[]),
        sparsity=SparseEvidence(sparsity, "so it says", 0, 0, (), ()),
        trtexec=(),
        timing_cache=None,
    )


def test_a_graph_promises_what_it_quantizes() -> None:
    found = modules()
    assert found.linears == ("MatMul_y",)
    assert found.products.module_of == {"MatMul_y": "MatMul_y"}
    assert (found.weights_alone, found.two_of_four) == (False, True)
    assert not modules(weight=DENSE).two_of_four


@pytest.mark.parametrize("kind", ["MatMul", "Gemm"])
def test_a_linear_over_tokens_that_is_left_in_float_leaves_int8_unproven(kind: str) -> None:
    model = ir.from_onnx_text(HEAD + FORGOTTEN.replace("KIND", kind))
    found = QuantizedModules.of(model)
    assert (len(found.linears), found.left_out) == (1, ("y",))
    coverage = coverage_of(report(found, Verdict.UNPROVEN).result, found)
    assert coverage.as_json()["linears"] == {"total": 2, "int8": 0, "int8_output": 0}
    last = coverage.as_json()["modules"][-1]
    assert last == {
        "module": "y",
        "verdict": Verdict.UNPROVEN,
        "reason": "in float in a graph that rounds activations, and no recipe says that it is "
        "to be",
    }


def test_a_recipe_says_which_linears_are_left_in_float() -> None:
    model = ir.from_onnx_text(HEAD + FORGOTTEN.replace("KIND", "MatMul"))
    assert QuantizedModules.of(model, floats_are_meant=True).left_out == ()


def test_no_linear_is_left_out_of_a_graph_that_rounds_nothing() -> None:
    text = FORGOTTEN.replace("KIND", "MatMul").replace(ROUNDED, "data = Identity (x)")
    assert QuantizedModules.of(ir.from_onnx_text(HEAD + text)).left_out == ()


def test_a_graph_that_rounds_no_activation_promises_neither_int8_nor_sparse_kernels() -> None:
    found = modules(body="data = Identity (x)")
    assert found.linears == ()
    assert (found.weights_alone, found.two_of_four) == (True, False)
    built = report(found, Verdict.REFUTED)
    assert (built.int8.told, built.int8.reason) == (
        "not claimed",
        "the graph quantizes weights alone",
    )
    assert built.proved
    assert not built.refuted


def test_a_graph_that_quantizes_nothing_is_not_taken_for_one_that_promises_nothing() -> None:
    found = QuantizedModules((), (), ProductNodes({}), weights_alone=False, two_of_four=False)
    built = report(found, Verdict.UNPROVEN)
    assert built.int8.verdict is Verdict.UNPROVEN
    assert not built.proved


@pytest.mark.parametrize("verdict", list(Verdict))
def test_sparse_kernels_are_judged_where_an_int8_product_has_2_4_weights(verdict: Verdict) -> None:
    built = report(modules(), verdict)
    assert (built.sparse_kernels.verdict, built.sparse_kernels.reason) == (verdict, "so it says")
    assert built.refuted is (verdict is Verdict.REFUTED)


def test_no_sparse_kernel_refutes_nothing_where_no_weights_are_2_4() -> None:
    built = report(modules(weight=DENSE), Verdict.REFUTED)
    assert (built.sparse_kernels.told, built.sparse_kernels.reason) == (
        "not claimed",
        "no INT8 product of the graph has 2:4 weights",
    )
    assert not built.refuted


def test_sparse_kernels_that_were_forbidden_are_not_claimed() -> None:
    built = report(modules(), Verdict.REFUTED, EngineOptions(sparse_weights=False))
    assert (built.sparse_kernels.told, built.sparse_kernels.reason) == (
        "not claimed",
        "--sparsity disable forbids them",
    )
    assert not built.refuted
