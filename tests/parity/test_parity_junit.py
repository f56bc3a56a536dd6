"""JUnit XML: a suite for each dev set, a case for each check, and nothing that XML cannot hold."""

from dataclasses import replace
from xml.etree import ElementTree as ET

from parity_results import deployed

from nxmi_export.parity import Check, Gate, ParityRun, SplitParity, Verdict, judge_run
from nxmi_export.report.junit import junit_xml

CHECKS = [
    "all rungs ran",
    "changed predictions explained",
    "CPU file equal bit for bit",
    "optimized kernels",
    "score",
    "score within 0.5 points",
    "stored weights",
    "manifest",
    "logits explained",
    "batch sizes and padding",
    "probes beyond the dev set",
]


def _root(run: ParityRun) -> ET.Element:
    return ET.fromstring(junit_xml(run).encode())


def test_every_check_is_a_case_of_its_dev_sets_suite() -> None:
    (suite,) = _root(judge_run([deployed(0)], Gate()))
    assert suite.get("name") == "sst2 validation"
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == CHECKS
    assert {case.get("classname") for case in cases} == {"parity.sst2.validation"}
    assert [len(case) for case in cases] == [0] * len(CHECKS)
    scores = {each.get("name"): each.get("value") for each in suite.iter("property")}
    assert scores == {
        f"{stage}.primary": "1.0" for stage in ("compressed", "written", "shifted", "optimized")
    }


def test_failures_are_counted_and_told() -> None:
    run = judge_run([deployed(100)], Gate(max_kernel_changed=1))
    root = _root(run)
    assert [root.get(each) for each in ("tests", "failures", "skipped")] == ["11", "2", "0"]
    (suite,) = root
    assert (suite.get("failures"), suite.get("errors")) == ("2", "0")
    failed = [case for case in suite.findall("testcase") if case.find("failure") is not None]
    assert [case.get("name") for case in failed] == ["score", "score within 0.5 points"]
    messages = [failure.get("message") for failure in suite.iter("failure")]
    assert messages == list(run.failures)
    assert [failure.text for failure in suite.iter("failure")] == messages


def test_what_was_not_decided_is_skipped() -> None:
    run = judge_run([deployed(0, examples=70)], Gate())
    root = _root(run)
    assert [root.get(each) for each in ("failures", "skipped")] == ["0", "1"]
    (skipped,) = root.iter("skipped")
    assert "cannot certify a drop below 4.19 points" in str(skipped.get("message"))


def test_several_failures_of_one_check_are_one_failure() -> None:
    checks = (Check("weights", ("First.", "Second.")),)
    split = SplitParity(deployed(0), Verdict(checks))
    (failure,) = _root(ParityRun((split,), None)).iter("failure")
    assert (failure.get("message"), failure.text) == ("First.", "First.\nSecond.")


def test_characters_that_xml_cannot_hold_are_replaced() -> None:
    bad = Check("weights", ('a\x00b <c> & "d" \ud800 é',))
    split = SplitParity(deployed(0), Verdict((bad, replace(bad, failures=()))))
    (failure,) = _root(ParityRun((split,), None)).iter("failure")
    assert failure.text == 'a\ufffdb <c> & "d" \ufffd é'
