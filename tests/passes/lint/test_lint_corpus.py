"""Bad graphs for every rule: each is caught by its rule and by no other."""

import onnx_ir as ir
import pytest

from passes.lint import RULES, lint
from samples.bad_graphs import BAD_GRAPHS, BadGraph


def test_the_good_graph_has_no_finding(good: ir.Model) -> None:
    assert lint(good) == ()


def test_every_rule_has_a_bad_graph() -> None:
    assert {bad.rule for bad in BAD_GRAPHS} == {rule.name for rule in RULES}


def test_every_bad_graph_has_a_name_of_its_own() -> None:
    assert len({bad.name for bad in BAD_GRAPHS}) == len(BAD_GRAPHS)


@pytest.mark.parametrize("bad", BAD_GRAPHS, ids=lambda bad: bad.name)
def test_a_bad_graph_breaks_its_rule_and_no_other(good: ir.Model, bad: BadGraph) -> None:
    bad.mutate(good)
    findings = lint(good, **bad.options)
    assert {finding.rule for finding in findings} == {bad.rule}
    (severity,) = {rule.severity for rule in RULES if rule.name == bad.rule}
    assert {finding.severity for finding in findings} == {severity}
    assert all(finding.node and finding.found and finding.remedy for finding in findings)


def test_every_rule_says_what_tensorrt_does() -> None:
    assert all(rule.why.endswith(".") or ")." in rule.why for rule in RULES)
