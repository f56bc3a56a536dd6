"""The stored table of planted faults, held to its targets, and a few of its rows again."""

import json
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from nxmi_export.errors import ArtefactError
from nxmi_export.glue import task_named
from samples.fault_injection.__main__ import RESULTS, SCHEMA, joined, main, measure
from samples.fault_injection.controls import controls_of, void_reasons
from samples.fault_injection.faults import FAULTS
from samples.fault_injection.good import SmallProjects
from samples.fault_injection.naming import Cause, Kind, drifted, is_named, refused, stored
from samples.fault_injection.outcome import NO_RUNG
from samples.fault_injection.projects import Base, Given, Unavailable
from samples.fault_injection.site import Site
from samples.fault_injection.source import digest_of_code
from samples.fault_injection.table import markdown
from tests.pipeline.parity_project import Project, sst2_project

STORED: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
ROWS: dict[str, dict[str, Any]] = {row["name"]: row for row in STORED["faults"]}
REAL = [row for row in ROWS.values() if not row["proof"]]
EQUIVALENT = [row for row in ROWS.values() if row["proof"]]

LEAST = 30  # faults
NAMED = 0.9  # of them; all must be detected
# One of each way to be found: a stored number, a drift, what travels, a refusal while a rung runs,
# a hash, and nothing at all.
AGAIN = (
    "one code flipped in model.cpu.onnx",
    "softmax scale 1/d, sparse placement",
    "vocabulary truncated to eight rows",
    "labels of config.json exchanged",
    "one byte of the weights changed",
    "padding hidden by -10000",
)

CODE = {"by": "stored number", "file": "model.onnx", "module": "layer.0", "what": "code"}
BIAS = CODE | {"what": "bias"}
DRIFT = {
    "by": "drift",
    "rung": "written",
    "cause": "softmax numerics",
    "module": "layer.0.attention",
    "kind": "attention probabilities",
    "maker": "",
    "absent": ["layer.1"],
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return sst2_project(tmp_path_factory.mktemp("planted"))


@pytest.fixture
def given(project: Project) -> Given:
    return Given(project.artefact, task_named("sst2"), project.data)


def test_the_stored_table_has_every_fault_and_every_control() -> None:
    assert STORED["schema"] == SCHEMA
    assert list(ROWS) == [fault.name for fault in FAULTS]
    assert len(ROWS) == len(FAULTS) == len(STORED["faults"])
    assert [row["name"] for row in STORED["controls"]] == [c.name for c in controls_of(FAULTS)]
    assert STORED["versions"]["onnxruntime"]
    assert STORED["machine"]["cores"]


def test_no_artefact_without_a_fault_was_refused() -> None:
    assert void_reasons(STORED["controls"], STORED["faults"]) == []


def test_every_fault_is_detected_and_most_are_named() -> None:
    assert len(REAL) >= LEAST
    assert [row["name"] for row in REAL if not row["detected"]] == []
    assert sum(row["named"] for row in REAL) >= NAMED * len(REAL)


def test_a_fault_is_named_by_the_first_cause_that_was_stated() -> None:
    for row in REAL:
        assert row["exit_code"] in (1, 2), row["name"]
        # What a sentence of the gate alone says has no facts to be named by: it counts as unnamed.
        assert row["naming"] or row["causes"] == [], row["name"]
        assert row["named"] is is_named(row["naming"], row["causes"]), row["name"]


def test_equivalent_changes_have_premises_that_hold_and_change_no_bit() -> None:
    assert {row["name"] for row in EQUIVALENT} == {fault.name for fault in FAULTS if fault.proof}
    for row in EQUIVALENT:
        assert row["different"] == 0, row["name"]
        assert row["premises"], row["name"]
        assert [each for each in row["premises"] if not each["holds"]] == [], row["name"]


def test_the_gate_refuses_an_equivalent_change_for_what_was_changed_alone() -> None:
    for row in EQUIVALENT:
        assert row["detected"] is row["named"] is bool(row["naming"]), row["name"]


def test_the_table_tells_the_totals_and_every_row() -> None:
    text = markdown(STORED, STORED["code"])
    detected = sum(row["detected"] for row in REAL)
    assert text.startswith(f"{len(REAL)} faults: {detected} detected, ")
    assert all(f"| {row['name']} |" in text for row in (*STORED["faults"], *STORED["controls"]))


@pytest.mark.parametrize(
    ("naming", "causes", "named"),
    [
        (stored("layer.0", "code"), [CODE], True),
        (stored("layer.0", "code"), [CODE, BIAS], True),
        (stored("layer.0", "code"), [BIAS, CODE], False),
        (stored("layer", "code"), [CODE], False),
        (stored("layer.0", "code", file="model.cpu.onnx"), [CODE], False),
        (stored("layer.0", "code", position=(0, 1)), [CODE], False),
        (stored("layer.0", "code", position=(0, 1)), [CODE | {"position": [0, 1]}], True),
        (drifted(Cause.SOFTMAX, "layer.0.attention", Kind.ATTENTION), [DRIFT], True),
        (drifted(Cause.PADDING, "layer.0.attention", Kind.ATTENTION), [DRIFT], False),
        (drifted(Cause.SOFTMAX, "layer.0.attention", Kind.QUANTIZER), [DRIFT], False),
        (
            drifted(Cause.SOFTMAX, "layer.0.attention", Kind.ATTENTION, absent="layer.1"),
            [DRIFT],
            True,
        ),
        (
            drifted(Cause.SOFTMAX, "layer.0.attention", Kind.ATTENTION, maker="layer.1"),
            [DRIFT],
            False,
        ),
        (refused("the file", subject="a"), [DRIFT], False),
        (stored("layer.0", "code"), [], False),
        ({}, [CODE], False),
    ],
)
def test_every_fact_of_the_first_cause_must_be_right(
    naming: dict[str, Any], causes: list[dict[str, Any]], named: bool
) -> None:
    assert is_named(naming, causes) is named


def test_a_refusal_is_named_by_its_parts() -> None:
    error = ArtefactError("a/config.json", expected="the checkpoint's labels", found="2", remedy="")
    cause = {
        "by": "refusal",
        "error": type(error).__name__,
        "subject": "config.json",
        "expected": error.expected,
        "met": error.found,
    }
    assert is_named(refused("labels", subject="config.json", found="2"), [cause])
    assert not is_named(refused("labels", subject="config.json", found="3"), [cause])
    assert not is_named(refused("labels", subject="tokenizer.json"), [cause])


def test_a_control_that_fails_or_is_missing_makes_the_run_void(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = _row("a fault", detected=True)
    passed, failed = (_row("nothing", detected=each) for each in (False, True))
    assert void_reasons([passed], [row]) == []
    assert void_reasons([failed], [row]) == ["nothing: gate failed; A sentence."]
    assert void_reasons([], [row]) == ["sparse, parity: no control"]
    assert void_reasons([passed], [row | {"base": "linear"}]) == ["linear, parity: no control"]
    for controls, told in (([failed], "VOID: nothing: gate failed"), ([], "VOID: sparse, parity")):
        path = tmp_path / "results.json"
        results = {"schema": SCHEMA, "code": digest_of_code(), "versions": {}}
        path.write_text(json.dumps(results | {"controls": controls, "faults": [row]}))
        monkeypatch.setattr(sys, "argv", ["fault_injection", "--print", "-o", str(path)])
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == 1
        assert capsys.readouterr().out.startswith(told)


def test_rows_of_other_code_are_told_and_not_mixed() -> None:
    results = {"schema": SCHEMA, "code": "a" * 64, "versions": {}, "controls": [], "faults": []}
    for what, other in (("schema", "older"), ("code", "b" * 64), ("versions", {"torch": "1"})):
        with pytest.raises(SystemExit) as caught:
            joined(results | {what: other}, results)
        message = f"the stored rows are of another {what}; run all of them again"
        assert str(caught.value) == message
    told = "These rows were made by other code than this tree's (SHA-256 aaaaaaaaaaaa…, here bbbb"
    assert markdown(results, "b" * 64).startswith(told)
    assert "other code" not in markdown(results, "a" * 64)


def test_rows_that_cannot_be_joined_are_told_before_anything_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"schema": SCHEMA, "code": "a" * 64, "versions": {}}))
    name = FAULTS[0].name
    monkeypatch.setattr(sys, "argv", ["fault_injection", "--only", name, "-o", str(path)])
    monkeypatch.setattr("samples.fault_injection.__main__.measure", None)
    with pytest.raises(SystemExit, match="the stored rows are of another code"):
        main()


def test_new_rows_and_controls_take_the_place_of_stored_ones() -> None:
    first, second = (fault.name for fault in FAULTS[:2])
    good, other = (control.name for control in controls_of(FAULTS)[:2])
    before: dict[str, Any] = {"schema": SCHEMA, "code": "a", "versions": {}}
    after = deepcopy(before)
    before["controls"] = [_row(name, detected=True) for name in (other, good)]
    before["faults"] = [_row(name, detected=False) for name in (second, first)]
    after["controls"] = [_row(other, detected=False)]
    after["faults"] = [_row(second, detected=True)]
    both = joined(before, after)
    found = {
        what: [(row["name"], row["detected"]) for row in both[what]]
        for what in ("controls", "faults")
    }
    assert found == {
        "controls": [(good, True), (other, False)],
        "faults": [(first, False), (second, True)],
    }


def test_the_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    digests = {digest_of_code(tmp_path)}
    path = tmp_path / "passes" / "one.py"
    path.parent.mkdir()
    for content in ("a = 1\n", "a = 2\n"):
        path.write_text(content)
        digests.add(digest_of_code(tmp_path))
    path.rename(path.with_name("two.py"))
    digests.add(digest_of_code(tmp_path))
    path.with_name("notes.md").write_text("no code")
    digests.add(digest_of_code(tmp_path))
    assert len(digests) == 4


def test_a_few_faults_are_found_again(given: Given, tmp_path: Path) -> None:
    """In another model and its data: what is seen does not hang on the one that was stored."""
    results = measure(given, tmp_path, AGAIN)
    assert [row["answer"] for row in results["controls"]] == ["passed"]
    assert void_reasons(results["controls"], results["faults"]) == []
    again = {row["name"]: row for row in results["faults"]}
    assert sorted(again) == sorted(AGAIN)
    assert again["vocabulary truncated to eight rows"]["rung"] == "model.onnx, unoptimized"
    assert again["labels of config.json exchanged"]["rung"] == NO_RUNG
    for name, row in again.items():
        for fact in ("answer", "rung", "detected", "named", "exit_code"):
            assert (name, fact, row[fact]) == (name, fact, ROWS[name][fact])
        assert row["different"] in (None, 0)
        assert all(each["holds"] for each in row["premises"])


def test_a_fault_in_an_integer_product_is_found_again(tmp_path: Path) -> None:
    name = "integer product: bias off by 1 %"
    results = measure(SmallProjects(tmp_path), tmp_path, only=[name])
    assert void_reasons(results["controls"], results["faults"]) == []
    (row,) = results["faults"]
    for fact in ("answer", "rung", "detected", "named", "exit_code"):
        assert row[fact] == ROWS[name][fact]


def test_a_base_that_the_given_artefact_is_not_of_is_left_out(given: Given, tmp_path: Path) -> None:
    assert given.good(Base.SPARSE) == given.artefact
    for base in (Base.LINEAR, Base.FLOAT16, Base.TABLES, Base.PRODUCTS):
        with pytest.raises(Unavailable):
            Site.copy(given, base, tmp_path)
    assert measure(given, tmp_path, ("float16",))["faults"] == []


def _row(name: str, *, detected: bool) -> dict[str, Any]:
    return {
        "name": name,
        "family": "weights",
        "base": "sparse",
        "check": "parity",
        "answer": "gate failed" if detected else "passed",
        "rung": "",
        "detected": detected,
        "named": False,
        "causes": [],
        "messages": ["A sentence."] if detected else [],
        "proof": "",
        "premises": [],
    }
