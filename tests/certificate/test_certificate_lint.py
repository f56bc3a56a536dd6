"""What the linter finds is held against what the recipe means: a linear it leaves in float is."""

from pathlib import Path

import onnx_ir as ir
import pytest

from nxmi_export.certificate.claims import Answer
from nxmi_export.certificate.lint_cell import LintTarget, lint_cell
from nxmi_export.certificate.promises import LinearPromise
from nxmi_export.recipe import Pattern, Scheme
from passes.linear_layers import linear_layers
from samples.bad_graphs import BAD_GRAPHS
from samples.bad_graphs.good_graph import load_graph, write_good_artefact
from samples.bad_graphs.places import UP as NAME

TARGET = LintTarget((86,), None)
BLOCK = "bert.encoder.layer.0"
UP = f"{BLOCK}.{NAME}"
FLOATS = [Scheme(), Scheme(pattern=Pattern(keep=2, group=4))]
QUANTIZED = Scheme(pattern=Pattern(keep=2, group=4), bits=8)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_good_artefact(tmp_path_factory.mktemp("good"))


def promises(good: Path, up: Scheme, *, outputs: bool = True) -> tuple[LinearPromise, ...]:
    """Of every linear of the block; `outputs`: whether all but UP promise to write INT8."""
    names = {layer.module for layer in linear_layers(ir.load(good).graph)}
    return tuple(
        LinearPromise(
            name,
            BLOCK,
            up if name == UP else QUANTIZED,
            256,
            256,
            int8_output=outputs and name != UP,
        )
        for name in sorted(names)
        if name.startswith(f"{BLOCK}.")
    )


def broken(good: Path, rule: str) -> Path:
    """The good graph as the corpus breaks this rule."""
    [bad] = [each for each in BAD_GRAPHS if each.name == rule]
    model = load_graph(good)
    bad.mutate(model)
    path = good.with_name(f"{rule}.onnx")
    ir.save(model, path)
    return path


def test_a_graph_without_findings_is_proved(good: Path) -> None:
    assert lint_cell(good, promises(good, QUANTIZED), TARGET).answer is Answer.PROVED


@pytest.mark.parametrize("rule", ["float-layer", "float-weight"])
def test_a_linear_in_float_is_refuted_unless_the_recipe_leaves_it_so(good: Path, rule: str) -> None:
    path = broken(good, rule)
    refuted = lint_cell(path, promises(good, QUANTIZED), TARGET)
    assert refuted.answer is Answer.REFUTED
    assert f"degrade {rule}: {UP}" in refuted.why
    for scheme in FLOATS:
        cell = lint_cell(path, promises(good, scheme), TARGET)
        assert cell.answer is Answer.PROVED, cell.why
        assert "values in float that the recipe does not promise in INT8" in cell.why


def test_a_residual_in_float_is_refuted_where_no_linear_of_its_block_is(good: Path) -> None:
    path = broken(good, "float-residual")
    refuted = lint_cell(path, promises(good, QUANTIZED), TARGET)
    assert refuted.answer is Answer.REFUTED
    assert "degrade float-residual: " in refuted.why
    # What only a linear in float reads is not quantized, and is what is added.
    assert lint_cell(path, promises(good, Scheme()), TARGET).answer is Answer.PROVED
