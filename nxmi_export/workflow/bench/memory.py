"""Contenders that were timed in, what memory of the host each takes out: a fresh process for each.

In the process that times them all, what one frees another would use. A process that ends early, or
does not end, is the reason why its place stays empty.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import nxmi_export
from nxmi_export.artefact import Artefact
from nxmi_export.bench import Contender, Memory, NotRun, WorkloadResult
from nxmi_export.bench.measure import OnProgress
from nxmi_export.bench.result import MemoryResult
from nxmi_export.errors import NxmiError
from nxmi_export.workflow.bench.memory_process import Question, read_answer
from nxmi_export.workflow.bench.request import BenchRequest

__all__ = ["Processes", "measure_memory"]

_SECONDS = 600.0  # of one process; importing and loading take a few
# The path first, so that a process runs the code that asks it, and `-P`, so that no file of the
# folder it is started in takes a library's place.
_PROGRAM = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from nxmi_export.workflow.bench.memory_process import main
main(sys.argv[1:])
"""
_CODE = Path(nxmi_export.__file__).parents[1]


@dataclass(frozen=True)
class Processes:
    """How a question is answered: what runs, and how long it may."""

    command: tuple[str, ...] = (sys.executable, "-P", "-c", _PROGRAM, str(_CODE))
    seconds: float = _SECONDS

    def ask(self, question: Question) -> Memory | NotRun:
        """In a process of its own."""
        try:
            ended = subprocess.run(
                [*self.command, str(question)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=self.seconds,
            )
        except subprocess.TimeoutExpired:
            return NotRun(f"its process gave no answer in {self.seconds:g} seconds")
        answer = Path(question.answer)
        if ended.returncode or not answer.is_file():
            return NotRun(_ended(ended.returncode, ended.stderr))
        return read_answer(answer)


def measure_memory(
    artefact: Artefact,
    request: BenchRequest,
    contenders: Sequence[Contender],
    timed: Sequence[WorkloadResult],
    *,
    on_progress: OnProgress,
) -> MemoryResult:
    """Of each contender, running the largest of the shapes; what was not timed says why again."""
    largest = max(request.workloads, key=lambda each: each.rows)
    (times,) = (each.results for each in timed if each.workload == largest)
    results: dict[str, Memory | NotRun] = {}
    for done, each in enumerate(contenders):
        on_progress(f"memory of {each.key}", done, len(contenders))
        not_timed = times[each.key]
        results[each.key] = (
            not_timed
            if isinstance(not_timed, NotRun)
            else _memory_of(each, artefact, replace(request, workloads=(largest,)))
        )
    on_progress("memory", len(contenders), len(contenders))
    return MemoryResult(largest, results)


def _memory_of(contender: Contender, artefact: Artefact, request: BenchRequest) -> Memory | NotRun:
    alone = contender.alone
    if alone.refused is not None:
        return alone.refused
    with TemporaryDirectory(prefix="nxmi-export-") as name:
        folder = Path(name)
        key, against = contender.key, request.against
        if alone.written is not None:
            try:
                path = alone.written(folder)
            except (NxmiError, OSError) as error:
                return NotRun(f"what its process was to open could not be written: {error}")
            key, against = path.name, (path,)
        (workload,) = request.workloads
        return Processes().ask(
            Question(
                artefact=str(artefact.directory),
                key=key,
                against=tuple(map(str, against)),
                threads=request.threads,
                cuda_graph=request.cuda_graph,
                batch=workload.batch,
                sequence=workload.sequence,
                answer=str(folder / "answer.json"),
            )
        )


def _ended(status: int, stderr: bytes) -> str:
    if status < 0:
        killed = -status == signal.SIGKILL
        why = ", as Linux does where memory runs out" if killed else ""
        return f"its process was ended by {signal.Signals(-status).name}{why}"
    lines = stderr.decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing told why")
    return f"its process ended with status {status}: {last}"
