from types import ModuleType

import pytest

from nxmi_export.backends.tensorrt_engine import (
    EngineLayer,
    Library,
    SparseEvidence,
    Verdict,
    sparse_evidence,
)

# As public logs of TensorRT 8.4 to 10.14 have them: no full TensorRT was at hand.
COUNTS = "[I] (Sparsity) Found {} layer(s) eligible to use sparse tactics\n"
CHOICES = "[I] (Sparsity) Chose {} layer(s) using sparse tactics\n"
SPARSE = EngineLayer("up", "gemm", (), (), (), "sm80_xmma_sparse_gemm_i8i8_i8i32", (), "")
DENSE = EngineLayer("down", "gemm", (), (), (), "sm80_xmma_gemm_i8i8_i8i32", (), "")
TENSORRT = Library(ModuleType("tensorrt"), "tensorrt", "10.14.1")
RTX = Library(ModuleType("tensorrt_rtx"), "tensorrt_rtx", "1.7.1")


def _facts(evidence: SparseEvidence) -> tuple[Verdict, int | None, int | None]:
    return evidence.verdict, evidence.eligible, evidence.chosen


def test_sparse_kernels_of_all_eligible_layers_are_proved() -> None:
    evidence = sparse_evidence(COUNTS.format(2) + CHOICES.format(2), [SPARSE] * 2, TENSORRT)
    assert _facts(evidence) == (Verdict.PROVED, 2, 2)
    assert evidence.reason == "the builder chose sparse kernels for 2 of 2 eligible layers"


def test_a_count_that_the_names_of_kernels_deny_proves_nothing() -> None:
    evidence = sparse_evidence(COUNTS.format(2) + CHOICES.format(2), [SPARSE, DENSE], TENSORRT)
    assert _facts(evidence) == (Verdict.UNPROVEN, 2, 2)
    assert evidence.reason == (
        "the builder chose sparse kernels for 2 of 2 eligible layers, but all products but 1 are "
        "named as dense ones"
    )


def test_none_chosen_is_refuted_whatever_was_eligible_before() -> None:
    log = COUNTS.format(39) + CHOICES.format(0) + COUNTS.format(20) + CHOICES.format(0)
    assert sparse_evidence(log, [], TENSORRT).verdict is Verdict.REFUTED


def test_some_sparse_kernels_are_not_all() -> None:
    evidence = sparse_evidence(COUNTS.format(196) + CHOICES.format(140), [SPARSE, DENSE], TENSORRT)
    assert _facts(evidence) == (Verdict.UNPROVEN, 196, 140)
    assert evidence.reason == "the builder chose sparse kernels for 140 of 196 eligible layers"
    assert evidence.layers == ("up",)
    assert len(evidence.lines) == 2


def test_eligible_layers_that_stay_dense_are_refuted() -> None:
    evidence = sparse_evidence(COUNTS.format(39) + CHOICES.format(0), [DENSE], TENSORRT)
    assert _facts(evidence) == (Verdict.REFUTED, 39, 0)
    assert evidence.reason == ("of 39 eligible layers the builder chose a sparse kernel for none")


def test_the_largest_of_several_counts_is_taken() -> None:
    log = COUNTS.format(2) + CHOICES.format(0) + COUNTS.format(24) + CHOICES.format(24)
    assert _facts(sparse_evidence(log, [], TENSORRT)) == (Verdict.PROVED, 24, 24)


@pytest.mark.parametrize(("found", "chosen"), [((39, 39), (39, 0)), ((39, 20), (39, 20))])
def test_counts_that_fall_prove_nothing(found: tuple[int, int], chosen: tuple[int, int]) -> None:
    counts = zip(found, chosen, strict=True)
    log = "".join(COUNTS.format(one) + CHOICES.format(other) for one, other in counts)
    evidence = sparse_evidence(log, [], TENSORRT)
    assert (evidence.verdict, evidence.grows) == (Verdict.UNPROVEN, False)
    assert evidence.reason == "the log's counts of sparse kernels fall"


def test_tensorrt_8_names_are_counted() -> None:
    log = (
        "[I] [TRT] (Sparsity) Layers eligible for sparse math: MatMul_51, MatMul_69\n"
        "[I] [TRT] (Sparsity) TRT inference plan picked sparse implementation for layers: \n"
    )
    assert _facts(sparse_evidence(log, [], TENSORRT)) == (Verdict.REFUTED, 2, 0)


def test_a_silent_log_proves_nothing() -> None:
    evidence = sparse_evidence("", [DENSE], TENSORRT)
    assert _facts(evidence) == (Verdict.UNPROVEN, None, None)
    assert evidence.reason == "the log neither counts sparse kernels nor names one"


def test_a_kernel_name_alone_proves_its_layer() -> None:
    evidence = sparse_evidence("", [SPARSE], None)
    assert evidence.verdict is Verdict.PROVED
    assert evidence.reason == "1 of 1 products run a kernel named as a sparse one"


def test_a_kernel_name_proves_nothing_of_the_others() -> None:
    evidence = sparse_evidence("", [SPARSE, DENSE], None)
    assert evidence.verdict is Verdict.UNPROVEN
    assert evidence.reason == "1 of 2 products run a kernel named as a sparse one"


def test_signals_that_disagree_prove_nothing() -> None:
    evidence = sparse_evidence(COUNTS.format(1) + CHOICES.format(0), [SPARSE], TENSORRT)
    assert evidence.verdict is Verdict.UNPROVEN
    assert evidence.reason == "the log counts no sparse kernel but names 1"


@pytest.mark.parametrize("log", ["", COUNTS.format(9) + CHOICES.format(9)])
def test_rtx_never_proves_sparse_kernels(log: str) -> None:
    evidence = sparse_evidence(log, [SPARSE], RTX)
    assert evidence.verdict is Verdict.UNPROVEN
    assert evidence.reason == (
        "TensorRT-RTX ignores SPARSE_WEIGHTS, so its plan says nothing about sparse kernels"
    )
