import numpy as np
import pytest

from passes import (
    SPARSITY_KEY,
    CertifySparsity,
    Change,
    InvalidGroups,
    InvariantViolated,
    Skip,
    SparsityRefuted,
)
from tests.passes.sample_graphs import model_of, serialized

LAYERS = """
layers (float[S,8] x) => (float[S,2] y, float[S,2] z)
<float[2] scale = {1, 2}, int8[2] zero = {0, 0}, float[8,2] dense = {
   1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8}> {
  [query__weight_quantizer__DQ] w = DequantizeLinear<axis: int = 1>(codes, scale, zero)
  [query__MatMul] y = MatMul(x, w)
  [key__MatMul] z = MatMul(x, dense)
}
"""
SPARSE = np.array([[1, 0, 0, -3, 0, 5, 0, 0], [0, 0, 0, 0, 7, 0, 7, 0]], np.int8).T  # (K, N)


def test_a_sparse_layer_is_stamped_and_a_dense_one_skipped_with_the_reason() -> None:
    model = model_of(LAYERS, {"codes": SPARSE})
    result = CertifySparsity({"query": (2, 4)})(model)
    assert result.entries == (
        Change("node_MatMul_1", "query", "stored weight codes is 2:4"),
        Skip("node_MatMul_2", "key", "not expected to be sparse"),
    )
    stamps = [node.metadata_props.get(SPARSITY_KEY) for node in model.graph]
    assert stamps == [None, "2:4", None]


def test_one_non_zero_too_many_is_refused_by_name_place_and_value() -> None:
    codes = SPARSE.copy()
    codes[6, 1], codes[7, 1] = 9, -1
    codes[5, 1] = 4
    with pytest.raises(SparsityRefuted) as error:
        CertifySparsity({"query": (2, 4)})(model_of(LAYERS, {"codes": codes}))
    assert str(error.value) == (
        "query (MatMul node_MatMul_1): expected at most 2 non-zeros in every 4 weights along its "
        "input, found [7, 4, 9, -1] at inputs 4 to 7 of output channel 1, one of 1 such groups; "
        "project the weight before it is exported, or record the layer as dense"
    )


def test_sparsity_along_the_output_axis_does_not_count() -> None:
    square = np.kron(np.ones((4, 1), np.int8), np.array([[1, 1, 0, 0]], np.int8))  # (K=4, N=4)
    text = """wrong (float[S,4] x) => (float[S,4] y) {
      [query__MatMul] y = MatMul(x, weight)
    }"""
    with pytest.raises(SparsityRefuted, match=r"found \[1\.0, 1\.0, 1\.0, 1\.0\] at inputs 0 to 3"):
        CertifySparsity({"query": (2, 4)})(model_of(text, {"weight": square.astype(np.float32)}))


@pytest.mark.parametrize("trans_b", [0, 1])
def test_a_gemm_is_read_along_the_axis_that_it_sums_over(trans_b: int) -> None:
    text = f"""gemm (float[S,8] x) => (float[S,2] y) {{
      [pooler__Gemm] y = Gemm<transB: int = {trans_b}>(x, weight)
    }}"""
    weight = (SPARSE.T if trans_b else SPARSE).astype(np.float32)
    assert CertifySparsity({"pooler": (2, 4)})(model_of(text, {"weight": weight})).modified


def test_an_expected_module_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvariantViolated) as error:
        CertifySparsity({"value": (2, 4)})(model_of(LAYERS, {"codes": SPARSE}))
    assert str(error.value) == (
        "value: expected a linear layer stamped 2:4, found no linear layer of that module; "
        "check that the graph was captured from the model that was pruned"
    )


def test_a_stamp_is_not_believed() -> None:
    model = model_of(LAYERS, {"codes": np.ones_like(SPARSE)})
    list(model.graph)[1].metadata_props[SPARSITY_KEY] = "2:4"
    with pytest.raises(SparsityRefuted):
        CertifySparsity({"query": (2, 4)})(model)
    with pytest.raises(SparsityRefuted):
        CertifySparsity({})(model)


def test_a_stamp_that_is_no_pattern_is_refused() -> None:
    model = model_of(LAYERS, {"codes": SPARSE})
    list(model.graph)[1].metadata_props[SPARSITY_KEY] = "half"
    with pytest.raises(InvalidGroups) as error:
        CertifySparsity({})(model)
    assert str(error.value) == (
        "query (MatMul node_MatMul_1): expected a stamp such as 2:4, found 'half'; "
        "remove nxmi.sparsity from the node and certify again"
    )


def test_a_second_run_finds_its_own_stamp() -> None:
    model = model_of(LAYERS, {"codes": SPARSE})
    CertifySparsity({"query": (2, 4)})(model)
    once = serialized(model)
    result = CertifySparsity({"query": (2, 4)})(model)
    assert result.entries[0] == Skip("node_MatMul_1", "query", "already stamped 2:4")
    assert serialized(model) == once


def test_an_input_width_that_has_no_groups_is_refused() -> None:
    text = """odd (float[S,37] x) => (float[S,2] y) {
      [query__MatMul] y = MatMul(x, weight)
    }"""
    with pytest.raises(InvalidGroups) as error:
        CertifySparsity({"query": (2, 4)})(model_of(text, {"weight": np.zeros((37, 2), "f4")}))
    assert str(error.value) == (
        "2:4: expected an axis whose length is a multiple of 4, found length 37; "
        "exclude the layer in the recipe"
    )


def test_a_pattern_that_keeps_everything_is_refused_before_any_graph() -> None:
    with pytest.raises(InvalidGroups) as error:
        CertifySparsity({"query": (4, 4)})
    assert str(error.value) == (
        "query: expected a pattern that keeps at least one and drops at least one of a group, "
        "found 4:4; leave dense layers out of the expectation"
    )
