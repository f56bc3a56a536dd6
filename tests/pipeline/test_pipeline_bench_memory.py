"""Processes that measure memory: what they answer, and what their silence means."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nxmi_export.artefact import Artefact
from nxmi_export.bench import Contender, Measured, Memory, NotRun, WorkloadResult
from nxmi_export.bench.latency_statistics import latency
from nxmi_export.latency import Workload
from nxmi_export.workflow.bench import BenchRequest
from nxmi_export.workflow.bench.contenders import contenders
from nxmi_export.workflow.bench.memory import Processes, measure_memory
from nxmi_export.workflow.bench.memory_process import Question, read_answer

LARGE, SMALL = Workload(4, 8), Workload(1, 4)
REQUEST = BenchRequest((SMALL, LARGE), threads=1)
QUESTION = Question("a.artefact", "pytorch", ("o.onnx",), None, True, 4, 8, "answer.json")
NOT_TIMED = NotRun("no time for it")


def timed(taking_part: tuple[Contender, ...], *ran: str) -> list[WorkloadResult]:
    found = Measured(latency([0.001]), None, None, None)
    results = {each.key: found if each.key in ran else NOT_TIMED for each in taking_part}
    return [WorkloadResult(each, 3, 0.0, results) for each in REQUEST.workloads]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is told in Linux's way")
def test_each_is_measured_in_a_process_of_its_own_or_says_why_not(sparse_copy: Artefact) -> None:
    taking_part = contenders(sparse_copy, REQUEST)
    steps: list[tuple[str, int, int]] = []
    found = measure_memory(
        sparse_copy,
        REQUEST,
        taking_part,
        timed(taking_part, "onnxruntime-float32", "tensorrt-dense-kernels"),
        on_progress=lambda *step: steps.append(step),
    )
    assert found.workload == LARGE
    assert list(found.results) == [each.key for each in taking_part]
    memory = found.results["onnxruntime-float32"]
    assert isinstance(memory, Memory), memory
    assert memory.baseline > 50e6  # PyTorch is imported
    assert 0 < memory.loaded_anonymous <= memory.loaded <= memory.peak_loading
    assert memory.peak_running >= memory.loaded
    # The exporter, which takes tens of megabytes, ran elsewhere.
    assert memory.peak_loading < 60e6
    assert found.results["tensorrt-dense-kernels"] == NotRun(
        "it is built where it is timed, and a builder's memory is not its own"
    )
    assert found.results["onnxruntime"] == NOT_TIMED
    count = len(taking_part)
    assert steps[0] == ("memory of pytorch", 0, count)
    assert steps[-1] == ("memory", count, count)


def test_a_question_survives_the_command_line() -> None:
    assert Question.parse(str(QUESTION)) == QUESTION


def test_a_reason_comes_back_as_one(tmp_path: Path) -> None:
    answer = tmp_path / "answer.json"
    answer.write_text('{"reason": "no GPU"}')
    assert read_answer(answer) == NotRun("no GPU")


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (
            "import sys; sys.stderr.write('Traceback:\\nKeyError: 3\\n\\n'); sys.exit(1)",
            "its process ended with status 1: KeyError: 3",
        ),
        ("import sys; sys.exit(7)", "its process ended with status 7: nothing told why"),
        (
            "import os; os.kill(os.getpid(), 9)",
            "its process was ended by SIGKILL, as Linux does where memory runs out",
        ),
        ("import os; os.kill(os.getpid(), 6)", "its process was ended by SIGABRT"),
    ],
)
def test_a_process_that_dies_is_a_reason(program: str, reason: str) -> None:
    assert Processes((sys.executable, "-c", program)).ask(QUESTION) == NotRun(reason)


def test_a_process_that_does_not_end_is_a_reason() -> None:
    endless = Processes((sys.executable, "-c", "import time; time.sleep(60)"), seconds=0.5)
    assert endless.ask(QUESTION) == NotRun("its process gave no answer in 0.5 seconds")


def test_a_process_that_says_nothing_and_succeeds_is_a_reason(tmp_path: Path) -> None:
    silent = replace(QUESTION, answer=str(tmp_path / "absent.json"))
    found = Processes((sys.executable, "-c", "")).ask(silent)
    assert found == NotRun("its process ended with status 0: nothing told why")
