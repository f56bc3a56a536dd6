"""INT8 embedding tables as they are deployed: nothing to find, and nothing that a fix touches."""

import onnx_ir as ir
import pytest

from nxmi_export.capture import capture
from nxmi_export.lowering import lower, tensorrt_passes
from nxmi_export.model_facts import model_facts
from nxmi_export.recipe import Recipe
from passes.lint import EXACT_FIXES, Finding, lint, mend
from tests.passes.sample_graphs import serialized
from tests.tiny_models import POSITION_LIMIT, compressed_model


@pytest.fixture(scope="module")
def lowered() -> ir.Model:
    """A dense encoder behind INT8 tables."""
    recipe = Recipe.from_mapping(
        {"default": "dense", "embeddings": "int8", "placement": "linear"}, source="test"
    )
    model = compressed_model(recipe=recipe, num_hidden_layers=1)
    names = model_facts(model.config.to_dict()).input_names
    graph = capture(model, input_names=names, position_limit=POSITION_LIMIT).model
    lower(graph, tensorrt_passes({}))
    return graph


def _of_tables(findings: tuple[Finding, ...]) -> list[str]:
    return [each.rule for each in findings if each.module.startswith("bert.embeddings")]


def test_int8_tables_have_no_finding(lowered: ir.Model) -> None:
    assert _of_tables(lint(lowered)) == []


def test_the_table_of_positions_is_found_by_its_codes_alone(lowered: ir.Model) -> None:
    findings = lint(lowered, sequence=POSITION_LIMIT + 1)
    assert _of_tables(findings) == ["position-limit"]
    assert "65 tokens and 64 positions" in [each.found for each in findings]


def test_no_fix_touches_int8_tables(lowered: ir.Model) -> None:
    mended = mend(lowered, EXACT_FIXES)
    assert mended.ledger.changes == 0
    assert serialized(mended.model) == serialized(lowered)
