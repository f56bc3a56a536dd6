"""The stored table of what TensorRT-RTX does with bad graphs, and a few of its rows again."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nxmi_export.backends.tensorrt_engine import Library, find_library
from nxmi_export.errors import CapabilityMissing
from passes.lint import RULES, Severity
from samples.bad_graphs import BAD_GRAPHS
from samples.bad_graphs.good_graph import load_graph, write_good_artefact
from samples.lint_corpus.__main__ import RESULTS, row_of
from samples.lint_corpus.outcome import Built, Effect, attempt, compare
from samples.lint_corpus.table import markdown

STORED: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
ROWS: dict[str, dict[str, str]] = {row["name"]: row for row in STORED["graphs"]}
REFUSED = {Effect.REFUSED_AT_PARSE, Effect.REFUSED_AT_BUILD}
PARSE, BUILD = {Effect.REFUSED_AT_PARSE}, {Effect.REFUSED_AT_BUILD}
LESS, SAME = {Effect.DEGRADED}, {Effect.SAME_KERNELS}
NO_LESS = {Effect.SAME_KERNELS, Effect.OTHER_KERNELS}

# What is known about the parser, the builder and the fusions, against the rules that look for it.
FACTS: dict[str, tuple[set[str], set[Effect]]] = {
    "a zero-point other than 0 is refused": (
        {"activation-zero-point", "uint8-around-128", "weight-zero-point"},
        PARSE,
    ),
    "uint8 weights are refused": ({"uint8-weight"}, PARSE),
    "a uint8 activation around 0 is taken for int8": ({"uint8-activation"}, SAME),
    "products in other forms build": ({"unread-product"}, NO_LESS | LESS),
    "an int32 bias behind DequantizeLinear is refused": ({"stored-bias"}, PARSE),
    "operators on integers are refused": ({"integer-operator"}, PARSE),
    "operators of com.microsoft are refused": ({"foreign-operator"}, PARSE),
    "a scale that is not positive is refused": ({"activation-scale", "weight-scale"}, PARSE),
    "INT16, UINT4 and FP8-E5M2 are refused": ({"code-type"}, PARSE),
    "an operator between int8 codes and DequantizeLinear is refused": ({"moved-codes"}, BUILD),
    "a weight scale on the K axis multiplies floats": ({"weight-scale-axis"}, LESS),
    "several scales for one activation multiply floats": ({"per-channel-activation"}, LESS),
    "a computed scale measures the range in every run": ({"computed-scale"}, LESS),
    "a table with row scales is scaled whole in every run": ({"scaled-table"}, NO_LESS),
    "stored integers or floats give one engine": ({"float-storage", "transposed-weight"}, SAME),
    "INT4 per channel saves nothing": ({"int4-per-channel"}, LESS),
    "INT4 blocks are for weights alone": ({"blocks-times-int8"}, BUILD),
    "INT8 blocks are expanded": ({"int8-blocks"}, LESS),
    "INT4 blocks behind a Cast are expanded": ({"cast-blocks"}, LESS),
    "SM75 has no INT8 product between floats": ({"turing-float"}, BUILD),
    "FP8 begins with SM89": ({"fp8-capability"}, BUILD),
    "ONNX's Attention in FP32 is refused": ({"attention-operator"}, BUILD),
    "a profile beyond the position table builds": ({"position-limit"}, SAME),
    "calls that do not fit their function are refused": ({"unread-function"}, PARSE),
    "INT8 attention ends at 512 tokens": ({"attention-length"}, LESS),
    "attention is INT8 as a whole or not fused": ({"partial-attention", "quantized-scores"}, LESS),
    "float attention in FP32 is not fused": ({"float-attention"}, LESS),
    "heads of 16, 32 and 64 channels are fused": ({"attention-head-size"}, LESS),
    "a size of head that follows alone is worked out": ({"unknown-head-size"}, NO_LESS),
    "the guard of sdpa breaks the fusion": ({"sdpa-guard"}, LESS),
    "a softmax is quantized at 1/127": ({"softmax-scale"}, SAME),
    "one scale for query, key and value": ({"untied-inputs"}, LESS),
    "equal quantizers of one value are merged": ({"duplicate-quantizers"}, SAME),
    "norms, products, GELU inputs and biases are not quantized": (
        {"quantized-norm-input", "quantized-product", "quantized-gelu-input", "quantized-vector"},
        NO_LESS,
    ),
    "a classifier narrower than 16 is not quantized": ({"narrow-layer"}, LESS),
    "what is not between Q and DQ stays float": (
        {"float-layer", "float-input", "float-weight"},
        LESS,
    ),
    "no convolutions in the place of linears": ({"convolution-for-linear"}, LESS),
    "FP16 scales type the raw sum": ({"half-scale"}, {Effect.OTHER_KERNELS}),
    "sparse INT8 kernels write INT8": ({"missing-int8-output", "float-residual"}, NO_LESS),
    "2:4 counts along K, on stored integers": (
        {"sparsity-stamp", "sparsity-along-outputs"},
        SAME,
    ),
    "2:4 gains for K and N of 256 and more": ({"small-sparse-layer"}, NO_LESS),
}
# Cheap to see again: what the parser refuses is not built.
AGAIN = ("uint8-weight", "moved-codes (Clip)", "partial-attention (no probabilities)")


@pytest.fixture(scope="module")
def rtx() -> Library:
    try:
        return find_library("tensorrt_rtx")
    except CapabilityMissing as missing:
        pytest.skip(str(missing))


def _kernels(*names: str) -> Counter[tuple[str, ...]]:
    return Counter((name,) for name in names)


def test_the_stored_table_has_every_bad_graph() -> None:
    assert list(ROWS) == [bad.name for bad in BAD_GRAPHS]
    severities = {rule.name: str(rule.severity) for rule in RULES}
    assert {row["rule"]: row["severity"] for row in ROWS.values()} == severities
    assert STORED["library"]["version"]


def test_every_rule_stands_for_one_fact() -> None:
    named = [rule for rules, _ in FACTS.values() for rule in rules]
    assert sorted(named) == sorted(rule.name for rule in RULES)


@pytest.mark.parametrize("fact", FACTS)
def test_what_was_seen_is_what_the_rule_says(fact: str) -> None:
    rules, effects = FACTS[fact]
    seen = {Effect(row["effect"]) for row in ROWS.values() if row["rule"] in rules}
    assert seen <= effects


@pytest.mark.parametrize("name", ROWS)
def test_a_severity_is_what_the_library_does(name: str) -> None:
    row = ROWS[name]
    assert (row["severity"] == Severity.REFUSE) == (row["effect"] in REFUSED)
    if row["severity"] == Severity.DEGRADE and row["effect"] not in LESS:
        assert row["unseen"]
    if row["severity"] == Severity.ALTER:  # kernels do not tell what they compute
        assert row["unseen"]


def test_the_table_names_the_library_and_every_graph() -> None:
    text = markdown(STORED)
    assert "tensorrt_rtx {version}".format(**STORED["library"]) in text
    assert text.count("\n| ") == len(BAD_GRAPHS) + 1


def test_a_few_rows_are_seen_again(rtx: Library, tmp_path: Path) -> None:
    if rtx.version != STORED["library"]["version"]:
        pytest.skip(f"the table is of {STORED['library']['version']}, not {rtx.version}")
    path = write_good_artefact(tmp_path)
    good = attempt(load_graph(path), tmp_path, rtx)
    assert isinstance(good, Built)
    assert str(good) == STORED["good"]
    for bad in BAD_GRAPHS:
        if bad.name in AGAIN:
            assert row_of(bad, path, tmp_path, rtx, good) == ROWS[bad.name]


def test_less_of_anything_good_is_a_degradation() -> None:
    good = Built(4, 2, 1, _kernels("a", "b"), ("known",))
    for worse in (
        Built(3, 2, 1, _kernels("a", "b"), ()),
        Built(4, 3, 1, _kernels("a", "b"), ()),
        Built(4, 2, 0, _kernels("a", "b"), ()),
        Built(4, 2, 1, _kernels("a", "b", "c"), ()),
    ):
        assert compare(worse, good) == (Effect.DEGRADED, str(worse))
    assert compare(good, good) == (Effect.SAME_KERNELS, str(good))
    other = Built(4, 2, 1, _kernels("a", "c"), ("known", "new"))
    assert compare(other, good) == (Effect.OTHER_KERNELS, f"{other}; new")
