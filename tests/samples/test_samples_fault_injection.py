"""The stored table of planted faults, held to its targets, and a few of its rows again."""

import json
from pathlib import Path
from typing import Any

import pytest

from nxmi_export.glue import task_named
from samples.fault_injection.__main__ import RESULTS, measure
from samples.fault_injection.fault import Fault
from samples.fault_injection.faults import FAULTS
from samples.fault_injection.projects import Base, Given, Unavailable
from samples.fault_injection.row import row_of
from samples.fault_injection.site import Site
from samples.fault_injection.table import markdown
from tests.pipeline.parity_project import Project, sst2_project

STORED: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
ROWS: dict[str, dict[str, Any]] = {row["name"]: row for row in STORED["faults"]}
REAL = [row for row in ROWS.values() if not row["proof"]]
EQUIVALENT = [row for row in ROWS.values() if row["proof"]]

LEAST = 30  # faults
NAMED = 0.9  # of them; all must be detected
# One of each way to be found: a stored number, a replay, what travels, and nothing at all.
AGAIN = (
    "one code flipped in model.cpu.onnx",
    "softmax scale 1/d, sparse placement",
    "residual dropped",
    "labels of config.json exchanged",
    "one byte of the weights changed",
    "padding hidden by -10000",
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return sst2_project(tmp_path_factory.mktemp("planted"))


@pytest.fixture
def given(project: Project) -> Given:
    return Given(project.artefact, task_named("sst2"), project.data)


def test_the_stored_table_has_every_fault() -> None:
    assert list(ROWS) == [fault.name for fault in FAULTS]
    assert len(ROWS) == len(FAULTS)
    assert STORED["versions"]["onnxruntime"]
    assert STORED["machine"]["cores"]


def test_every_fault_is_detected_and_most_are_named() -> None:
    assert len(REAL) >= LEAST
    assert [row["name"] for row in REAL if not row["detected"]] == []
    assert sum(row["named"] for row in REAL) >= NAMED * len(REAL)


@pytest.mark.parametrize("row", REAL, ids=lambda row: row["name"])
def test_a_name_is_what_the_product_said(row: dict[str, Any]) -> None:
    assert row["exit_code"] in (1, 2)
    assert row["expected"]
    told = [each for each in row["messages"] if all(p in each for p in row["expected"])]
    assert bool(told) is row["named"]


def test_equivalent_changes_have_a_proof_and_change_no_bit() -> None:
    assert EQUIVALENT
    assert [row["name"] for row in EQUIVALENT if row["different"] != 0] == []
    assert {row["name"] for row in EQUIVALENT} == {fault.name for fault in FAULTS if fault.proof}


def test_the_table_tells_the_totals_and_every_fault() -> None:
    text = markdown(STORED)
    detected = sum(row["detected"] for row in REAL)
    assert text.startswith(f"{len(REAL)} faults: {detected} detected, ")
    assert all(f"| {name} |" in text for name in ROWS)


def test_a_few_faults_are_found_again(given: Given, tmp_path: Path) -> None:
    """In another model and its data: what is seen does not hang on the one that was stored."""
    results = measure(given, tmp_path, AGAIN)
    again = {row["name"]: row for row in results["faults"]}
    assert sorted(again) == sorted(AGAIN)
    for name, row in again.items():
        for fact in ("answer", "rung", "detected", "named", "exit_code"):
            assert (name, fact, row[fact]) == (name, fact, ROWS[name][fact])
        assert row["different"] in (None, 0)


def test_an_artefact_without_a_fault_passes(given: Given, tmp_path: Path) -> None:
    none = Fault("nothing", "none", lambda site: (), proof="Nothing is changed.")
    row = row_of(none, given, tmp_path)
    assert (row["answer"], row["exit_code"], row["rung"]) == ("passed", 0, "")
    assert (row["detected"], row["named"], row["different"]) == (False, False, 0)


def test_a_base_that_the_given_artefact_is_not_of_is_left_out(given: Given, tmp_path: Path) -> None:
    assert given.good(Base.SPARSE) == given.artefact
    for base in (Base.LINEAR, Base.FLOAT16, Base.TABLES):
        with pytest.raises(Unavailable):
            Site.copy(given, base, tmp_path)
    assert measure(given, tmp_path, ("weights of another checkpoint",))["faults"] == []
