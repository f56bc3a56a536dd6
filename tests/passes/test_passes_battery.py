"""One battery for every pass over every sample graph: the promises that all passes share."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from passes import (
    CanonicalLinear,
    CertifySparsity,
    Float16OutsideIslands,
    FoldWeightQuantization,
    FuseAttention,
    GatherCodes,
    GraphPass,
    IntegerProducts,
    NameNodes,
    OwnZeroPoints,
    PackInt4Blocks,
    Rewritten,
    ScaleGatheredRows,
    ShareQuantizers,
    UnsignedActivations,
    module_of,
)
from passes.spell_out_products import spell_out_products
from tests.passes.sample_graphs import (
    LINEARS,
    Writer,
    encoder,
    feeds_of,
    layer_in_a_branch,
    looked_up_rows,
    run,
    serialized,
    tied_layers,
    typed,
)


@dataclass(frozen=True)
class Sample:
    """A captured graph, and the modules of it that were pruned or are to be packed."""

    make: Callable[[], ir.Model]
    pruned: tuple[str, ...] = ()
    packed: tuple[str, ...] = ()  # 4-bit weights beside float inputs


SAMPLES = {
    "float layers": Sample(lambda: encoder("none", Writer(weights="float"))),
    "sparse float layers": Sample(
        lambda: encoder("none", Writer(weights="float", sparse=True)), LINEARS
    ),
    "linear placement": Sample(lambda: encoder("linear")),
    "attention placement": Sample(lambda: encoder("attention")),
    "sparse placement": Sample(lambda: encoder("sparse", Writer(sparse=True)), LINEARS),
    "4-bit weights": Sample(lambda: encoder("linear", Writer(weights="int4"))),
    "4-bit weights alone": Sample(
        lambda: encoder("none", Writer(weights="int4", sparse=True)), LINEARS, LINEARS
    ),
    "tied 4-bit weights alone": Sample(
        lambda: tied_layers("int4", quantized=False), packed=("first", "second", "third")
    ),
    "a quantizer per reader": Sample(lambda: encoder("attention", shared=False)),
    "Constant nodes": Sample(lambda: encoder("sparse", Writer(constant_nodes=True), shared=False)),
    "tied layers": Sample(lambda: tied_layers("int8")),
    "tied 4-bit layers": Sample(lambda: tied_layers("int4")),
    "a layer in a branch": Sample(layer_in_a_branch),
    "embedding tables": Sample(looked_up_rows),
}
PASSES = (
    FoldWeightQuantization,
    ScaleGatheredRows,
    CanonicalLinear,
    ShareQuantizers,
    CertifySparsity,
    Float16OutsideIslands,
    GatherCodes,
    UnsignedActivations,
    OwnZeroPoints,
    FuseAttention,
    PackInt4Blocks,
    IntegerProducts,
    NameNodes,
)


# Float16 tips codes by one, each worth 1/128 of its range.
FEW_CODES = 0.05


def make(kind: type[GraphPass], sample: Sample) -> GraphPass:
    if kind is CertifySparsity:
        return CertifySparsity(dict.fromkeys(sample.pruned, (2, 4)))
    if kind is PackInt4Blocks:
        return PackInt4Blocks(sample.packed, 4)
    return kind()


@dataclass(frozen=True)
class Ran:
    """One run of a pass, in the place of the order where it stands."""

    graph_pass: GraphPass
    before: bytes
    after: ir.Model
    result: Rewritten


@pytest.fixture(params=list(SAMPLES.values()), ids=list(SAMPLES))
def sample(request: pytest.FixtureRequest) -> Sample:
    chosen: Sample = request.param
    return chosen


@pytest.fixture(params=range(len(PASSES)), ids=lambda index: PASSES[index].__name__)
def ran(request: pytest.FixtureRequest, sample: Sample) -> Ran:
    model = typed(sample.make())
    for kind in PASSES[: request.param]:
        if kind.preserves_values:  # what rounds is the last of its target
            make(kind, sample)(model)
    graph_pass = make(PASSES[request.param], sample)
    before = serialized(model)
    return Ran(graph_pass, before, model, graph_pass(model))


def test_a_change_is_reported_exactly_if_the_bytes_differ(ran: Ran) -> None:
    assert ran.result.modified == (serialized(ran.after) != ran.before)


def test_a_second_run_changes_nothing(ran: Ran) -> None:
    once = serialized(ran.after)
    assert not ran.graph_pass(ran.after).modified
    assert serialized(ran.after) == once


def test_the_model_stays_valid(ran: Ran) -> None:
    onnx.checker.check_model(ir.to_proto(ran.after), full_check=True)


def test_every_entry_names_a_node_and_its_module(ran: Ran) -> None:
    assert all(entry.node and entry.module for entry in ran.result.entries)


def test_every_node_still_knows_its_module(ran: Ran) -> None:
    assert all(module_of(node) for graph in ran.after.graphs() for node in graph)


def test_nothing_is_stored_that_nothing_reads(ran: Ran) -> None:
    unread = [
        name
        for graph in ran.after.graphs()
        for name, value in graph.initializers.items()
        if not value.uses()
    ]
    assert unread == []


def test_values_are_preserved_to_the_last_bit_or_as_near_as_float16_is(ran: Ran) -> None:
    before = ir.from_proto(onnx.ModelProto.FromString(ran.before))
    feeds = feeds_of(before)
    after = spell_out_products(ran.after)  # as written, its kernel saturates without VNNI
    for expected, found in zip(run(before, feeds), run(after, feeds), strict=True):
        if ran.graph_pass.preserves_values or isinstance(ran.graph_pass, IntegerProducts):
            np.testing.assert_array_equal(found, expected)
        else:
            near = FEW_CODES * np.abs(expected).max()
            np.testing.assert_allclose(found, expected, rtol=0, atol=near)


def test_the_battery_sees_every_pass_change_something() -> None:
    """Otherwise a pass that matches nothing would satisfy every promise above."""
    changed = set()
    for sample in SAMPLES.values():
        model = typed(sample.make())
        for kind in PASSES:
            target = model if kind.preserves_values else model.clone()
            changed |= {kind} if make(kind, sample)(target).modified else set()
    assert changed == set(PASSES)
