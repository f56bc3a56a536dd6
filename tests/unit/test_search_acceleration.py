"""How many columns the seconds of a model take; that they are right is the solver's test."""

import pytest

from nxmi_export.latency.encoder_shapes import encoder_shapes
from nxmi_export.latency.roofline import roofline
from nxmi_export.recipe import Placement, Scheme
from nxmi_export.search.acceleration import seconds_of
from nxmi_export.search.latency_model import LatencyModel
from nxmi_export.search.program import Program
from nxmi_export.search.space import Granularity, SearchSpace
from tests.tiny_models import tiny_model

BERT = tiny_model(num_hidden_layers=1)
TABLE = roofline("l4", encoder_shapes(BERT), rows=64)


def columns(schemes: str, granularity: Granularity, placement: Placement) -> int:
    parsed = tuple(map(Scheme.parse, schemes.split()))
    program = Program(SearchSpace.of(BERT, granularity, parsed))
    before = program.add_column()
    seconds_of(program, LatencyModel.of(BERT, TABLE, placement, rows=64))
    return program.add_column() - before - 1


@pytest.mark.parametrize(
    ("schemes", "count"),
    [
        # INT8 out of the attention's three together and of the FFN's first linear; each under 2:4
        ("int8 2:4+int8", 2 + 4),
        ("2:4 int8 int4", 2),
        ("dense 2:4+int8 2:4+int4", 2),
        ("dense 2:4", 0),
    ],
)
def test_linears_share_what_they_need_and_2_4_costs_nothing_where_it_is_no_choice(
    schemes: str, count: int
) -> None:
    assert columns(schemes, "layer", Placement.SPARSE) == count


def test_outputs_that_are_never_rounded_take_no_column() -> None:
    # In this placement that is all but the FFN's first linear.
    assert columns("int8 2:4+int8", "layer", Placement.LINEAR) == 2
