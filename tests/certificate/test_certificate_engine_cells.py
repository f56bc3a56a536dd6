"""What one engine shows about each module, of logs made up by hand: one linear, one attention."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from nxmi_export.backends.tensorrt_engine import (
    EngineLayer,
    Operand,
    ProductNodes,
    sparse_evidence,
)
from nxmi_export.backends.tensorrt_engine.engine_facts import EngineFacts
from nxmi_export.certificate.claims import Answer, Cell, Claim
from nxmi_export.certificate.engine import Witness
from nxmi_export.certificate.engine_cells import EngineReading, attention_cells, linear_cells
from nxmi_export.certificate.products import Products
from nxmi_export.certificate.promises import AttentionPromise, LinearPromise, Promises
from nxmi_export.certificate.whole_model import engine_claims
from nxmi_export.recipe import Pattern, Scheme
from tests.engine_documents import engine_document, profiles_of

PROVED, REFUTED, UNPROVEN, _ = Answer
SPARSE = "sm80_xmma_sparse_gemm_i8i8_i8i32"
COUNTS = (
    "[I] (Sparsity) Found {0} layer(s) eligible to use sparse tactics\n"
    "[I] (Sparsity) Chose {0} layer(s) using sparse tactics\n"
)
SCHEME = Scheme(pattern=Pattern(keep=2, group=4), bits=8)
LINEAR = LinearPromise("block.up", "block", SCHEME, 512, 512, int8_output=True)
ATTENTION = AttentionPromise("block.attention", "block", quantized=True)
NODES = ProductNodes({"up": LINEAR.module, "qk": ATTENTION.module, "pv": ATTENTION.module})
INT8, HALF, INT4 = (Operand("x", (-1, 64), kind) for kind in ("Int8", "Half", "Int4"))


def gemm(*nodes: str, at: str, reads: Operand = INT8, tactic: str = "") -> EngineLayer:
    name = f"{'+'.join(nodes)}_{at}"
    return EngineLayer(name, "gemm", (reads,), (reads,), (INT8,), tactic, nodes, name)


def fused(at: str) -> EngineLayer:
    name = f"_gemm_mha_v2_{at}"
    return EngineLayer(name, "kgen", (INT8,) * 3, (), (INT8,), "", ("qk", "pv"), name)


FIRST = (gemm("up", at="myl0_1", tactic=SPARSE), fused("myl0_2"))
SECOND = (gemm("up", at="myl1_1", tactic=SPARSE), fused("myl1_2"))


@pytest.fixture
def facts(tmp_path_factory: pytest.TempPathFactory) -> EngineFacts:
    """Of an engine with two profiles."""
    profiles = profiles_of(([1, 1], [1, 8], [1, 16]), ([8, 8], [8, 16], [8, 16]))
    document = engine_document(tmp_path_factory.mktemp("nothing"), profiles=profiles)
    return EngineFacts.model_validate(document)


def read(facts: EngineFacts, *layers: EngineLayer, counted: int = 2) -> EngineReading:
    evidence = sparse_evidence(COUNTS.format(counted), layers, facts.library)
    witness = Witness("build.log", layers, evidence, facts, None, None)
    products = Products(NODES, frozenset({LINEAR.module}))
    return EngineReading(witness, products, (LINEAR,), (ATTENTION,))


def cells(facts: EngineFacts, *layers: EngineLayer, counted: int = 2) -> Mapping[Claim, Cell]:
    """Of the linear, but for FUSED; the attention's INT8_IN is left out."""
    reading = read(facts, *layers, counted=counted)
    attention = attention_cells(ATTENTION, reading, "")
    return linear_cells(LINEAR, reading, "") | {Claim.FUSED: attention[Claim.FUSED]}


def answers(found: Mapping[Claim, Cell]) -> Mapping[Claim, Answer]:
    return {claim: cell.answer for claim, cell in found.items()}


def every(facts: EngineFacts, layers: Sequence[EngineLayer]) -> set[Answer]:
    return set(answers(cells(facts, *layers)).values())


def test_kernels_in_both_profiles_prove_every_claim(facts: EngineFacts) -> None:
    assert every(facts, (*FIRST, *SECOND)) == {PROVED}


@pytest.mark.parametrize("layers", [FIRST, SECOND], ids=["the first", "the second"])
def test_kernels_in_one_of_two_profiles_prove_no_claim(
    facts: EngineFacts, layers: tuple[EngineLayer, ...]
) -> None:
    assert every(facts, layers) == {UNPROVEN}
    found = cells(facts, *layers)
    assert found[Claim.FUSED].why.startswith("fused in 1 of 2 profiles: ")
    assert found[Claim.SPARSE].why == (
        f"not every profile shows its kernel ({found[Claim.INT8_IN].why}); "
        f"of those that do: the kernel is {SPARSE}"
    )


def test_two_kernels_of_one_profile_prove_no_claim(facts: EngineFacts) -> None:
    again = (gemm("up", at="myl0_8", tactic=SPARSE), fused("myl0_9"))
    assert every(facts, (*FIRST, *again)) == {UNPROVEN}


def test_counts_over_one_of_two_profiles_prove_nothing(facts: EngineFacts) -> None:
    found = cells(facts, gemm("up", at="myl0_1"), counted=1)
    assert {found[claim].answer for claim in (Claim.ELIGIBLE, Claim.SPARSE)} == {UNPROVEN}


def test_float_attention_in_pieces_in_the_second_profile_is_refuted(facts: EngineFacts) -> None:
    apart = (gemm("qk", at="myl1_2", reads=HALF), gemm("pv", at="myl1_3", reads=HALF))
    reading = read(facts, *FIRST, *apart)
    found = attention_cells(ATTENTION, reading, "")
    assert set(answers(found).values()) == {REFUTED}
    assert found[Claim.FUSED].why.startswith("not fused: gemm qk_myl1_2: Half")
    assert found[Claim.FUSED].evidence == ("qk_myl1_2", "pv_myl1_3")


def test_int8_attention_in_pieces_in_the_second_profile_is_int8_and_not_fused(
    facts: EngineFacts,
) -> None:
    apart = (gemm("qk", at="myl1_2"), gemm("pv", at="myl1_3"))
    found = answers(attention_cells(ATTENTION, read(facts, *FIRST, *apart), ""))
    assert found == {Claim.INT8_IN: PROVED, Claim.FUSED: REFUTED}
    one = answers(attention_cells(ATTENTION, read(facts, *FIRST, apart[0]), ""))
    assert one == {Claim.INT8_IN: UNPROVEN, Claim.FUSED: REFUTED}


def test_a_float_product_in_one_profile_refutes_it(facts: EngineFacts) -> None:
    found = cells(facts, *FIRST, gemm("up", at="myl1_1", reads=HALF), fused("myl1_2"))
    assert found[Claim.INT8_IN].answer is REFUTED
    assert found[Claim.INT8_OUT].answer is UNPROVEN


def test_an_int8_output_of_a_product_that_may_not_be_int8_is_unproven(facts: EngineFacts) -> None:
    packed = [replace(each, constants=(INT4,), tactic="") for each in (FIRST[0], SECOND[0])]
    found = answers(cells(facts, *packed))
    assert (found[Claim.INT8_IN], found[Claim.INT8_OUT]) == (UNPROVEN, UNPROVEN)


@pytest.mark.parametrize(
    ("outputs", "answer"),
    [
        ((), UNPROVEN),
        ((Operand("?", (-1,), "?"),), UNPROVEN),
        ((INT8, Operand("?", (-1,), "?")), UNPROVEN),
        ((HALF,), REFUTED),
        ((INT8, HALF), REFUTED),
    ],
    ids=["none", "unread", "one unread", "float", "one float"],
)
def test_an_output_is_int8_if_all_of_it_was_read(
    facts: EngineFacts, outputs: tuple[Operand, ...], answer: Answer
) -> None:
    layers = (replace(FIRST[0], outputs=outputs), SECOND[0])
    assert cells(facts, *layers)[Claim.INT8_OUT].answer is answer


def test_no_float_is_proved_only_of_what_every_profile_shows(facts: EngineFacts) -> None:
    promises = Promises((LINEAR,), (ATTENTION,), ())
    whole = engine_claims(promises, read(facts, *FIRST, *SECOND), "")
    assert {whole[claim].answer for claim in (Claim.MAPPING, Claim.NO_FLOAT)} == {PROVED}
    half = engine_claims(promises, read(facts, *FIRST), "")
    assert {half[claim].answer for claim in (Claim.MAPPING, Claim.NO_FLOAT)} == {UNPROVEN}


def test_a_product_that_may_be_a_modules_own_leaves_no_float_unproven(facts: EngineFacts) -> None:
    unclear = replace(gemm(at="__myl_FcMulAdd_myl0_5", reads=HALF), onnx_nodes=("up", "qk"))
    unclear = replace(unclear, name="__myl_FcMulAdd_myl0_5", type="fusion")
    found = engine_claims(
        Promises((LINEAR,), (ATTENTION,), ()), read(facts, *FIRST, *SECOND, unclear), ""
    )
    assert (found[Claim.NO_FLOAT].answer, found[Claim.MAPPING].answer) == (UNPROVEN, UNPROVEN)


def test_an_engine_that_was_to_have_no_sparse_kernels_refutes_them(facts: EngineFacts) -> None:
    dense = facts.options.model_copy(update={"sparsity": "disable"})
    forbidden = facts.model_copy(update={"options": dense})
    layers = [replace(each, tactic="") for each in (*FIRST, *SECOND)]
    found = cells(forbidden, *layers)
    assert (found[Claim.SPARSE].answer, found[Claim.SPARSE].why) == (
        REFUTED,
        "the engine was built with --sparsity disable",
    )
    rtx = facts.library.model_copy(update={"name": "tensorrt_rtx"})
    ignored = forbidden.model_copy(update={"library": rtx})
    assert cells(ignored, *layers)[Claim.SPARSE].answer is UNPROVEN
