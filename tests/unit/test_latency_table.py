import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nxmi_export.errors import OutputError, UsageError
from nxmi_export.latency import KINDS, Gemm, LatencyTable, LinearShape, Workload, parse_shapes

TABLE = LatencyTable(
    {
        Gemm(64, 8, 4, "int8 2:4"): 1e-6,
        Gemm(64, 8, 4, "float"): 3e-6,
        Gemm(64, 4, 8, "int8"): 2e-6,
    },
    "measured",
    "a clock",
    {"batch": 8, "spread": 1.5, "float": "float32"},
    {"Softmax": 5e-6, "Add": 1e-6},
)
REMEDY = (
    "make the table of this model with nxmi-export latency, at the batch and sequence of the search"
)
MAKE_ONE = "make one with nxmi-export latency MODEL --device DEVICE -o FILE"


def test_a_table_says_the_time_of_a_linear() -> None:
    assert TABLE.seconds(64, 8, 4, "float") == 3e-6
    assert TABLE.shapes == ((64, 4, 8), (64, 8, 4))
    assert TABLE.rest_seconds == pytest.approx(6e-6)


def test_a_table_of_bare_shapes_has_no_rest() -> None:
    assert LatencyTable(TABLE.entries, "analytical", "a GPU").rest_seconds == 0


@pytest.mark.parametrize(
    ("gemm", "found"),
    [
        (Gemm(64, 8, 4, "int8"), "only 'float', 'int8 2:4' of that shape"),
        (Gemm(32, 8, 4, "float"), "that linear at 64 rows"),
        (Gemm(64, 8, 8, "float"), "2 other shapes"),
    ],
)
def test_a_shape_that_is_missing_is_named(gemm: Gemm, found: str) -> None:
    with pytest.raises(UsageError) as caught:
        TABLE.seconds(*gemm)
    assert str(caught.value) == (
        f"latency table of a clock: expected the time of a linear of {gemm.rows} rows, "
        f"{gemm.inputs} inputs and {gemm.outputs} outputs as {gemm.kind!r}, "
        f"found {found}; {REMEDY}"
    )


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    TABLE.write(path)
    assert LatencyTable.read(path) == TABLE


def test_entries_are_written_by_shape_and_then_by_kind() -> None:
    linears = TABLE.as_json()["linears"]
    assert [tuple(entry.values())[:4] for entry in linears] == [
        (64, 4, 8, "int8"),
        (64, 8, 4, "float"),
        (64, 8, 4, "int8 2:4"),
    ]


@pytest.mark.parametrize(
    ("conditions", "told"),
    [
        ({}, ""),
        ({"spread": 1.2}, ""),
        (
            {"spread": 3.04},
            "runs of one linear took up to 3.0 times its table entry; the machine was busy, so "
            "measure again when it is idle",
        ),
    ],
)
def test_a_table_of_a_busy_machine_says_so(conditions: dict[str, float], told: str) -> None:
    assert replace(TABLE, conditions=conditions).disturbance == told


def test_more_conditions_go_in_front() -> None:
    more = TABLE.given(sequence=128)
    assert list(more.conditions) == ["sequence", "batch", "spread", "float"]
    assert more.entries == TABLE.entries


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    with pytest.raises(UsageError) as caught:
        LatencyTable.read(path)
    assert str(caught.value) == (
        f"{path}: expected a latency table, found No such file or directory; {MAKE_ONE}"
    )


def test_a_folder_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="found No such file or directory"):
        TABLE.write(tmp_path / "none" / "latency.json")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            {"schema": "nxmi-export/latency-table/1"},  # without "int8 out"
            "schema: Input should be 'nxmi-export/latency-table/2'; make one ",
        ),
        ({"source": "guessed"}, "source: Input should be 'measured' or 'analytical'"),
        ({"linears": []}, "linears: List should have at least 1 item"),
        ({"notes": "fast"}, "notes: Extra inputs are not permitted"),
        ({"rest": {"Add": -1.0}}, "rest.Add: Input should be greater than 0"),
    ],
)
def test_what_is_no_table_is_refused(change: dict[str, Any], found: str, tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    path.write_text(json.dumps(TABLE.as_json() | change))
    with pytest.raises(UsageError, match=re.escape(f"this version reads, found {found}")) as caught:
        LatencyTable.read(path)
    assert str(caught.value).endswith(MAKE_ONE)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"seconds": 0}, "linears.0.seconds: Input should be greater than 0"),
        ({"seconds": float("nan")}, "linears.0.seconds: Input should be a"),
        ({"rows": 1.5}, "linears.0.rows: Input should be a valid integer"),
        ({"kind": "int4"}, "linears.0.kind: Input should be 'float', 'int8', 'int8 out' or"),
    ],
)
def test_an_entry_that_is_none_is_refused(
    change: dict[str, Any], found: str, tmp_path: Path
) -> None:
    document = TABLE.as_json()
    document["linears"][0] |= change
    path = tmp_path / "latency.json"
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match=re.escape(found)):
        LatencyTable.read(path)


def test_two_times_of_one_linear_are_refused(tmp_path: Path) -> None:
    document = TABLE.as_json()
    document["linears"] *= 2
    path = tmp_path / "latency.json"
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError) as caught:
        LatencyTable.read(path)
    assert str(caught.value) == (
        f"{path}: expected a latency table that this version reads, "
        f"found two times of the same linear; {MAKE_ONE}"
    )


def test_kinds_are_in_order_of_what_they_ask_of_hardware() -> None:
    assert KINDS == ("float", "int8", "int8 out", "int8 2:4")


def test_shapes_are_read_once_each_in_order() -> None:
    assert parse_shapes("1536x384, 384x1536,384x1536") == (
        LinearShape(384, 1536),
        LinearShape(1536, 384),
    )
    assert str(LinearShape(384, 1536)) == "384x1536"


@pytest.mark.parametrize("text", ["", "384", "384x", "384x0", "384x384x2", "384x384,", "-1x4"])
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_shapes(text)
    assert str(caught.value) == (
        "shapes: expected the form 384x1536,1536x384 (inputs x outputs of each linear), "
        f"found {text!r}; write whole numbers, and commas between the shapes"
    )


def test_every_token_is_a_row() -> None:
    assert Workload(batch=8, sequence=128).rows == 1024
