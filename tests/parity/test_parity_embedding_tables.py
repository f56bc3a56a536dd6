"""INT8 embedding tables: every code and scale compared, and one that is off found where it is."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from parity_models import Exported, edited, replace_constant

from nxmi_export.parity import weight_parity
from passes import MODULE_KEY, module_of

WORDS = "bert.embeddings.word_embeddings"


def _nodes(model: ir.Model, op_type: str) -> list[ir.Node]:
    return [n for n in model.graph if n.op_type == op_type and module_of(n) == WORDS]


def _complaints(exported: Exported, path: Path) -> list[str]:
    return [str(each) for each in weight_parity(exported.model, path).mismatches]


@pytest.mark.parametrize("name", ["path", "cpu_path"])
def test_both_files_store_the_tables_that_run(mixed: Exported, name: str) -> None:
    parity = weight_parity(mixed.model, getattr(mixed, name))
    assert (parity.tables, parity.mismatches) == (3, ())


def test_a_flipped_code_is_found_with_its_place(mixed: Exported, tmp_path: Path) -> None:
    trained = int(mixed.model.get_submodule(WORDS).codes()[7, 2])

    def flip(codes: np.ndarray) -> np.ndarray:
        codes[7, 2] = trained ^ 1
        return codes

    def edit(model: ir.Model) -> None:
        replace_constant(_nodes(model, "DequantizeLinear")[0], 0, flip)

    assert _complaints(mixed, edited(mixed.path, tmp_path, edit)) == [
        f"{WORDS}: code at [7, 2] is {trained ^ 1}, not {trained}"
    ]


def test_a_scale_that_is_off_is_found(mixed: Exported, tmp_path: Path) -> None:
    trained = mixed.model.get_submodule(WORDS).weight_quantizer.scale[5].numpy()

    def double(scales: np.ndarray) -> np.ndarray:
        scales[5] *= 2
        return scales

    def edit(model: ir.Model) -> None:
        replace_constant(_nodes(model, "Gather")[1], 0, double)

    for path in (mixed.path, mixed.cpu_path):
        (found,) = _complaints(mixed, edited(path, tmp_path, edit))
        assert found == f"{WORDS}: scale at [5] is {2 * trained!s}, not {trained!s}"


def test_codes_that_something_else_multiplies_are_found(mixed: Exported, tmp_path: Path) -> None:
    def edit(model: ir.Model) -> None:
        replace_constant(_nodes(model, "DequantizeLinear")[0], 1, lambda one: one * np.float32(3))

    (found,) = _complaints(mixed, edited(mixed.path, tmp_path, edit))
    assert found.startswith(f"{WORDS}: scale at [0] is ")
    assert found.endswith("the first of 96")


def test_scales_that_are_gathered_otherwise_are_found(mixed: Exported, tmp_path: Path) -> None:
    def edit(model: ir.Model) -> None:
        _nodes(model, "Gather")[1].replace_input_with(1, model.graph.inputs[2])

    found = _complaints(mixed, edited(mixed.cpu_path, tmp_path, edit))
    assert found[0] == f"{WORDS}: scale is values that the graph computes, or none, not constants"


def test_a_table_of_floats_is_found(mixed: Exported, tmp_path: Path) -> None:
    table = mixed.model.get_submodule(WORDS).weight.detach().numpy()

    def edit(model: ir.Model) -> None:
        gather = _nodes(model, "Gather")[0]
        replace_constant(gather, 0, lambda _: table)

    found = _complaints(mixed, edited(mixed.cpu_path, tmp_path, edit))
    assert found[0] == f"{WORDS}: storage is float32 values, not int8 codes"


def test_a_table_that_the_graph_lacks_is_found(mixed: Exported, tmp_path: Path) -> None:
    def edit(model: ir.Model) -> None:
        for node in _nodes(model, "Gather"):
            node.metadata_props[MODULE_KEY] = "elsewhere"

    assert _complaints(mixed, edited(mixed.path, tmp_path, edit)) == [
        f"{WORDS}: table is missing from the graph, not a look-up of stored codes",
        "elsewhere: embedding is a table, not none in the PyTorch model",
    ]
