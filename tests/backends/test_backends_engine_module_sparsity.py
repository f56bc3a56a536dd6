"""One module's share of what a build says about sparse kernels.

The `(Sparsity)` lines are those that TensorRT 8 and 10 print, as public logs quote them; no GPU
made them here.
"""

import pytest

from nxmi_export.backends.tensorrt_engine import (
    EngineLayer,
    ModuleSparsity,
    Verdict,
    module_sparsity,
    sparse_evidence,
)

COUNTED = (
    "[I] (Sparsity) Found {} layer(s) eligible to use sparse tactics\n"
    "[I] (Sparsity) Chose {} layer(s) using sparse tactics\n"
)
NAMED = (
    "[I] [TRT] (Sparsity) Layers eligible for sparse math: a/MatMul, b/MatMul\n"
    "[I] [TRT] (Sparsity) TRT inference plan picked sparse implementation for layers: a/MatMul\n"
)
SPARSE, DENSE = "sm80_xmma_sparse_gemm_i8i8_i8i32", "sm80_xmma_gemm_i8i8_i8i32"
PROVED, REFUTED, UNPROVEN = Verdict


def layer(name: str, tactic: str) -> EngineLayer:
    return EngineLayer(f"{name}_myl0_1", "gemm", (), (), (), tactic, (name,), "")


A, B = layer("a/MatMul", SPARSE), layer("b/MatMul", DENSE)
BOTH = (A, B)
UNNAMED = layer("a/MatMul", ""), layer("b/MatMul", "")
Candidates = tuple[EngineLayer, ...] | None


def share(
    log: str, own: EngineLayer, candidates: Candidates = BOTH, *layers: EngineLayer
) -> ModuleSparsity:
    layers = layers or (A, B)
    return module_sparsity([own], sparse_evidence(log, layers, None), candidates)


def test_the_modules_own_kernel_proves_it() -> None:
    found = share(COUNTED.format(2, 1), A)
    assert (found.chosen, found.chosen_reason) == (PROVED, f"the kernel is {SPARSE}")


def test_another_modules_sparse_kernel_proves_nothing() -> None:
    found = share(COUNTED.format(2, 1), B)
    assert (found.chosen, found.chosen_reason) == (
        UNPROVEN,
        f"1 of 2 layers run a sparse kernel, and this one's name, {DENSE}, does not say so",
    )


@pytest.mark.parametrize(
    ("eligible", "chosen", "candidates", "verdicts"),
    [
        (2, 2, UNNAMED, (PROVED, PROVED)),
        (2, 0, UNNAMED, (PROVED, REFUTED)),
        (0, 0, UNNAMED, (REFUTED, REFUTED)),
        (1, 1, UNNAMED, (UNPROVEN, UNPROVEN)),
        (3, 3, UNNAMED, (UNPROVEN, UNPROVEN)),
        (3, 2, UNNAMED, (UNPROVEN, UNPROVEN)),
        (2, 2, None, (UNPROVEN, UNPROVEN)),
    ],
    ids=["all", "none", "none eligible", "some", "more than ours", "some of more", "ours unknown"],
)
def test_counts_decide_about_one_layer_where_they_are_all_or_none(
    eligible: int, chosen: int, candidates: Candidates, verdicts: tuple[Verdict, Verdict]
) -> None:
    found = share(COUNTED.format(eligible, chosen), UNNAMED[1], candidates, *UNNAMED)
    assert (found.eligible, found.chosen) == verdicts


def test_a_sparse_kernel_that_the_count_denies_proves_nothing() -> None:
    found = share(COUNTED.format(2, 0), A)
    assert (found.chosen, found.chosen_reason) == (
        UNPROVEN,
        f"the kernel is {SPARSE}, but the log counts no sparse one",
    )


def test_a_dense_kernel_that_the_count_denies_proves_nothing() -> None:
    found = share(COUNTED.format(2, 2), B)
    assert (found.eligible, found.chosen) == (PROVED, UNPROVEN)


def test_a_count_that_a_neighbours_kernel_denies_proves_nothing() -> None:
    own, dense = layer("a/MatMul", ""), B
    found = share(COUNTED.format(2, 2), own, (own, dense), own, dense)
    assert (found.eligible, found.chosen) == (PROVED, UNPROVEN)


def test_counts_that_fall_prove_nothing_of_one_layer() -> None:
    log = COUNTED.format(2, 2) + COUNTED.format(2, 1)
    found = share(log, UNNAMED[0], UNNAMED, *UNNAMED)
    assert (found.eligible, found.chosen) == (UNPROVEN, UNPROVEN)


def test_the_lists_of_tensorrt_8_decide_by_name() -> None:
    kernel_unnamed = layer("a/MatMul", ""), layer("b/MatMul", ""), layer("c/MatMul", "")
    first, second, third = (share(NAMED, each, None, *kernel_unnamed) for each in kernel_unnamed)
    assert (first.eligible, first.chosen) == (PROVED, PROVED)
    assert (second.eligible, second.chosen) == (PROVED, REFUTED)
    assert (third.eligible, third.chosen) == (REFUTED, REFUTED)
    assert second.chosen_reason == "not in the log's list of 1 layers with a sparse kernel"


def test_a_silent_log_and_a_kernel_without_a_name_prove_nothing() -> None:
    own = layer("a/MatMul", "")
    found = share("", own, BOTH, own)
    assert (found.eligible, found.chosen) == (UNPROVEN, UNPROVEN)
    assert found.eligible_reason == "the log does not say how many layers are eligible"
    assert found.chosen_reason == (
        "the log does not count sparse kernels, and the kernel names none"
    )


def test_a_module_that_runs_as_two_kernels_needs_both_to_be_sparse() -> None:
    evidence = sparse_evidence(COUNTED.format(2, 1), [A, B], None)
    assert module_sparsity([A, B], evidence, BOTH).chosen is UNPROVEN
