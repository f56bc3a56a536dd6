import copy
from typing import Any

import pytest
from rich.console import Console

from nxmi_export.bench import BenchResult, Contender, Latency, Measured, Memory, NotRun, Speedup
from nxmi_export.bench.limits import Limits, Operations, Peaks
from nxmi_export.bench.result import MemoryResult, WorkloadResult
from nxmi_export.latency import Workload
from nxmi_export.report.bench_memory import memory_notes, memory_table
from nxmi_export.report.bench_table import bench_notes, bench_tables

LIMIT = (
    "limit: linears at 250 billion INT8 operations a second and attention at 100 billion in "
    "float32, which large products reach here on onnxruntime's exact kernels, and nothing else; "
    "the share that the median run reaches"
)


def contender(key: str, what: str) -> Contender:
    facts = {"file": f"{key}.bin"}
    return Contender(key, what, lambda: NotRun("never opened"), facts, on_cpu=key != "tensorrt")


def milliseconds(p50: float) -> Latency:
    p10, p90, p99 = (p50 / 1e3 * share for share in (0.9, 1.1, 1.5))
    return Latency(120, p10, p50 / 1e3, p90, p99, p50 / 1e3)


@pytest.fixture
def document() -> dict[str, Any]:
    found = {
        "pytorch": Measured(milliseconds(80), None, Speedup(1, 1, 1), None),
        "tensorrt": Measured(
            milliseconds(4), milliseconds(3), Speedup(20, 19.2, 21.5), Speedup(1.1, None, None)
        ),
        "other": NotRun("[no] GPU"),
    }
    result = BenchResult(
        (
            contender("pytorch", "PyTorch"),
            contender("tensorrt", "TensorRT"),
            contender("other", "O"),
        ),
        "pytorch",
        tuple(
            WorkloadResult(Workload(8, each), 40, 0.02, found, Limits(0.04, 0.02))
            for each in (128, 64)
        ),
        {"rounds": 40},
        {"python": "3.11"},
        Peaks(float32=1e11, int8=2.5e11),
        MemoryResult(
            Workload(8, 128),
            {
                "pytorch": Memory(250_000_000, 100_000_000, 99_000_000, 120_000_000, 150_000_000),
                "tensorrt": NotRun("[killed]"),
                "other": NotRun("[no] GPU"),
            },
        ),
    )
    return result.as_json()


def shown(document: dict[str, Any]) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        for table in (*bench_tables(document), *memory_table(document)):
            console.print(table)
    return capture.get()


def test_the_document_has_every_contender_on_every_shape(document: dict[str, Any]) -> None:
    assert document["schema"] == "nxmi-export/bench/3"
    assert document["contenders"]["tensorrt"] == {"what": "TensorRT", "file": "tensorrt.bin"}
    first, second = document["workloads"]
    assert (first["batch"], first["sequence"], second["sequence"]) == (8, 128, 64)
    assert list(first["results"]) == ["pytorch", "tensorrt", "other"]
    assert first["results"]["other"] == {"ran": False, "reason": "[no] GPU"}
    ran = first["results"]["tensorrt"]
    assert ran["examples_per_second"] == pytest.approx(8 / 0.004)
    assert ran["call"]["spread"] == pytest.approx(1 / 0.9)
    assert ran["gpu"]["p50"] == pytest.approx(0.003)
    assert ran["gpu_speedup"] == {"median": 1.1, "low": None, "high": None}


def test_a_row_has_percentiles_rate_and_speed(document: dict[str, Any]) -> None:
    text = shown(document)
    assert text.count("Batch 8 x ") == 2
    rows = [" ".join(line.strip("│ ").replace("│", " ").split()) for line in text.splitlines()]
    assert "PyTorch 80 88 120 100.0 25% 1.00x (1.00–1.00)" in rows
    assert "TensorRT 4 4.4 6 2000.0 20.00x (19.20–21.50)" in rows  # no share of the CPU's limit
    assert "the GPU alone 3 3.3 4.5" in rows
    assert "O not run" in rows


@pytest.mark.parametrize(
    ("distance", "stored", "told"),
    [
        (0.3141, 0.3141, "logits up to 0.31 away from exact products"),
        (float("nan"), "nan", "logits up to nan away from exact products"),
        (0.0, 0.0, None),
        (None, None, None),
    ],
)
def test_answers_that_are_not_those_of_exact_products_are_told_below_their_row(
    distance: float | None, stored: object, told: str | None
) -> None:
    measured = Measured(milliseconds(80), None, Speedup(1, 1, 1), None, from_exact=distance)
    document = BenchResult(
        (contender("pytorch", "PyTorch"),),
        "pytorch",
        (WorkloadResult(Workload(8, 64), 40, 0.02, {"pytorch": measured}),),
        {},
        {},
    ).as_json()
    assert document["workloads"][0]["results"]["pytorch"]["logits_from_exact"] == stored
    text = " ".join(shown(document).replace("│", " ").split())
    assert ("away from exact" in text) == (told is not None)
    assert told is None or told in text


def test_a_reason_is_told_once_and_is_no_markup(document: dict[str, Any]) -> None:
    assert bench_notes(document) == ["[yellow]not run:[/] O: \\[no] GPU", LIMIT]


def test_memory_has_a_row_for_each_and_says_above_what(document: dict[str, Any]) -> None:
    ran = document["memory"]["results"]["pytorch"]
    assert ran == {
        "ran": True,
        "baseline": 250_000_000,
        "loaded": 100_000_000,
        "loaded_anonymous": 99_000_000,
        "peak_loading": 120_000_000,
        "peak_running": 150_000_000,
    }
    text = shown(document)
    rows = [" ".join(line.strip("│ ").replace("│", " ").split()) for line in text.splitlines()]
    assert "PyTorch 100.0 99.0 120.0 150.0" in rows
    assert "TensorRT not measured" in rows
    assert " ".join(text.rpartition("┘")[2].split()) == (
        "Memory of the host, running batches of 8 x 128 tokens: each in a process of its own, "
        "above the 250 MB that it holds with its libraries imported."
    )


def test_a_reason_that_times_have_told_is_not_told_again(document: dict[str, Any]) -> None:
    assert memory_notes(document) == ["[yellow]no memory:[/] TensorRT: \\[killed]"]


def test_memory_that_was_not_asked_for_has_no_table(document: dict[str, Any]) -> None:
    left_out = document | {"memory": {"measured": False, "reason": "it was not asked for"}}
    assert memory_table(left_out) == []
    assert memory_notes(left_out) == ["no memory: it was not asked for"]


def test_memory_of_none_is_above_nothing(document: dict[str, Any]) -> None:
    results = {key: {"ran": False, "reason": "no"} for key in document["memory"]["results"]}
    none = document | {"memory": document["memory"] | {"results": results}}
    assert " ".join(shown(none).rpartition("┘")[2].split()).endswith(
        "each in a process of its own."
    )


def test_a_limit_is_the_sum_of_products_at_their_own_rates() -> None:
    limits = Peaks(float32=100.0, int8=400.0).limits(Operations(linears=800, attention=50))
    assert limits == Limits(float32=8.5, int8=2.5)


def test_peaks_that_are_not_known_leave_no_limit(document: dict[str, Any]) -> None:
    unknown = copy.deepcopy(document)
    unknown["peaks"] = {"measured": False, "reason": "no onnxruntime"}
    assert bench_notes(unknown)[-1] == "no limit: no onnxruntime"


@pytest.mark.parametrize(
    ("cores", "spread", "told"),
    [
        (0.02, 1.1, ""),
        (1.7, 1.1, " Other processes kept 1.7 processors busy: measure again when idle."),
        (None, 1.1, " What other processes did meanwhile is unknown here."),
        (0.0, 1.5, " The median was up to 1.50 times what an undisturbed run takes."),
    ],
)
def test_what_disturbed_is_told(
    document: dict[str, Any], cores: float | None, spread: float, told: str
) -> None:
    disturbed = copy.deepcopy(document)
    disturbed["workloads"] = disturbed["workloads"][:1]
    disturbed["memory"] = {"measured": False, "reason": "it was not asked for"}
    disturbed["workloads"][0]["other_cores"] = cores
    disturbed["workloads"][0]["results"]["tensorrt"]["call"]["spread"] = spread
    words = " ".join(shown(disturbed).rpartition("┘")[2].split())
    assert words == (
        "120 runs each in 40 rounds; speed is against PyTorch, with its 95 % interval, compared "
        f"round by round.{told}"
    )
