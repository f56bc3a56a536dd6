"""Which kind every linear runs as, and what they take together."""

from dataclasses import replace

import pytest

from nxmi_export.errors import UsageError
from nxmi_export.latency.table import Gemm, Kind, LatencyTable
from nxmi_export.recipe import Placement, Scheme
from nxmi_export.search.acceleration import seconds_of
from nxmi_export.search.latency_model import LatencyModel
from nxmi_export.search.program import Program
from nxmi_export.search.space import SearchSpace
from tests.tiny_models import tiny_model

DENSE, INT8, SPARSE, PRUNED = (Scheme.parse(text) for text in ("dense", "int8", "2:4+int8", "2:4"))
BLOCK = "bert.encoder.layer.0"
ROWS = 48
SHAPES = ((32, 32), (32, 64), (64, 32))
# milliseconds by kind and shape
TIMES: dict[Kind, dict[tuple[int, int], float]] = {
    "float": {(32, 32): 4.0, (32, 64): 10.0, (64, 32): 12.0},
    "int8": {(32, 32): 2.0, (32, 64): 5.0, (64, 32): 6.0},
    "int8 out": {(32, 32): 1.8, (32, 64): 4.0, (64, 32): 5.5},
    "int8 2:4": {(32, 32): 1.5, (32, 64): 3.0, (64, 32): 4.0},
}


def table(rows: int = ROWS, **rest: float) -> LatencyTable:
    entries = {
        Gemm(rows, *shape, kind): milliseconds / 1e3
        for kind, times in TIMES.items()
        for shape, milliseconds in times.items()
    }
    return LatencyTable(entries, source="analytical", device="a100", rest=rest)


def bert(placement: Placement = Placement.SPARSE, **rest: float) -> LatencyModel:
    return LatencyModel.of(tiny_model(num_hidden_layers=1), table(**rest), placement, ROWS)


def everywhere(model: LatencyModel, scheme: Scheme, **others: Scheme) -> dict[str, Scheme]:
    """One scheme for all linears but those whose name ends as told (dots as underscores)."""
    schemes = {linear.name: scheme for linear in model.linears}
    for ending, other in others.items():
        [name] = [name for name in schemes if name.replace(".", "_").endswith(ending)]
        schemes[name] = other
    return schemes


def kinds(model: LatencyModel, schemes: dict[str, Scheme]) -> dict[str, Kind]:
    return {linear.name.removeprefix(f"{BLOCK}."): linear.kind(schemes) for linear in model.linears}


def milliseconds(model: LatencyModel, schemes: dict[str, Scheme]) -> float:
    return 1e3 * model.seconds(schemes)


def test_seconds_add_up_by_kind() -> None:
    model = bert()
    assert milliseconds(model, everywhere(model, DENSE)) == pytest.approx(4 * 4 + 10 + 12)
    assert milliseconds(model, everywhere(model, INT8)) == pytest.approx(4 * 1.8 + 4 + 5.5)
    assert milliseconds(model, everywhere(model, SPARSE)) == pytest.approx(4 * 1.5 + 3 + 4)


def test_what_lies_outside_the_linears_is_added() -> None:
    model = bert(attention=0.003, norms=0.001)
    assert model.rest == pytest.approx(0.004)
    assert model.dense_seconds == pytest.approx(0.038 + 0.004)
    assert model.dense_seconds == pytest.approx(model.seconds(everywhere(model, DENSE)))


def test_a_pattern_without_bits_runs_as_floats() -> None:
    model = bert()
    assert set(kinds(model, everywhere(model, PRUNED)).values()) == {"float"}


@pytest.mark.parametrize("text", ["1:4+int8", "4:8+int8", "1:2+int4"])
def test_other_patterns_are_not_accelerated(text: str) -> None:
    model = bert()
    assert set(kinds(model, everywhere(model, Scheme.parse(text))).values()) == {"int8 out"}


@pytest.mark.parametrize("text", ["int8", "int4"])
def test_what_an_int8_output_saves_is_no_merit_of_2_4(text: str) -> None:
    model = bert()
    schemes = everywhere(
        model, SPARSE, attention_output_dense=Scheme.parse(text), intermediate_dense=INT8
    )
    assert kinds(model, schemes) == {
        "attention.self.query": "int8 2:4",
        "attention.self.key": "int8 2:4",
        "attention.self.value": "int8 2:4",
        "attention.output.dense": "int8 out",
        "intermediate.dense": "int8 out",
        "output.dense": "int8 2:4",
    }


def test_four_bits_are_accelerated_as_eight_are() -> None:
    model = bert()
    schemes = everywhere(model, Scheme.parse("2:4+int4"))
    assert set(kinds(model, schemes).values()) == {"int8 2:4"}


def test_a_linear_before_floats_is_not_accelerated() -> None:
    model = bert()
    schemes = everywhere(model, SPARSE, attention_self_key=PRUNED, layer_0_output_dense=DENSE)
    assert kinds(model, schemes) == {
        "attention.self.query": "int8",  # the attention is float as a whole
        "attention.self.key": "float",
        "attention.self.value": "int8",
        "attention.output.dense": "int8 2:4",
        "intermediate.dense": "int8",
        "output.dense": "float",
    }


def test_linear_placement_accelerates_only_what_a_gelu_follows() -> None:
    model = bert(Placement.LINEAR)
    found = kinds(model, everywhere(model, SPARSE))
    assert {name for name, kind in found.items() if kind == "int8 2:4"} == {"intermediate.dense"}
    found = kinds(model, everywhere(model, INT8))
    assert {name for name, kind in found.items() if kind == "int8 out"} == {"intermediate.dense"}


@pytest.mark.parametrize("scheme", [INT8, SPARSE, Scheme.parse("int4")])
def test_where_weights_alone_are_quantized_all_runs_as_floats(scheme: Scheme) -> None:
    model = bert(Placement.WEIGHTS)
    assert set(kinds(model, everywhere(model, scheme)).values()) == {"float"}
    space = SearchSpace.of(tiny_model(num_hidden_layers=1), "layer", (scheme,))
    program = Program(space)
    seconds = seconds_of(program, model)
    assert 1e3 * sum(seconds.values()) == pytest.approx(4 * 4 + 10 + 12)
    assert program.add_column() == len(space.groups)  # and no other


def test_a_linear_counts_as_often_as_it_runs() -> None:
    model = LatencyModel.of(
        tiny_model("albert", num_hidden_layers=3), table(), Placement.SPARSE, ROWS
    )
    assert len(model.linears) == 6
    assert model.dense_seconds == pytest.approx(3 * 0.038)


def test_the_times_are_those_of_the_rows_asked_for() -> None:
    with pytest.raises(UsageError) as caught:
        LatencyModel.of(tiny_model(), table(), Placement.SPARSE, 64)
    assert str(caught.value) == (
        "latency table of a100: expected the time of a linear of 64 rows, 32 inputs and "
        "32 outputs as 'float', found that linear at 48 rows; make the table of this model with "
        "nxmi-export latency, at the batch and sequence of the search"
    )


def test_a_kind_that_is_missing_is_named() -> None:
    whole = table()
    entries = {gemm: each for gemm, each in whole.entries.items() if gemm.kind != "int8 out"}
    with pytest.raises(UsageError) as caught:
        LatencyModel.of(tiny_model(), replace(whole, entries=entries), Placement.SPARSE, ROWS)
    assert caught.value.expected.endswith(" as 'int8 out'")
    assert caught.value.found == "only 'float', 'int8', 'int8 2:4' of that shape"


def test_counting_the_runs_leaves_no_hook_behind() -> None:
    model = tiny_model()
    LatencyModel.of(model, table(), Placement.SPARSE, ROWS)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_knows_every_linear_of_the_search_space() -> None:
    model = tiny_model()
    linears = LatencyModel.of(model, table(), Placement.SPARSE, ROWS).linears
    groups = SearchSpace.of(model, "layer").groups
    assert [linear.name for linear in linears] == [group.name for group in groups]
