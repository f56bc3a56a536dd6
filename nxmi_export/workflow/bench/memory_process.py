"""One contender and a shape in, what memory it takes in this process out: run as a program.

Its argument is a `Question` as JSON; the answer goes into the file that this names, as what is
printed may be a library's.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import torch

from nxmi_export.artefact import read_artefact
from nxmi_export.bench import Memory, NotRun
from nxmi_export.bench.memory import memory_here
from nxmi_export.latency import Workload
from nxmi_export.workflow.bench.contenders import contenders, model_config
from nxmi_export.workflow.bench.request import BenchRequest

__all__ = ["Question", "main", "read_answer"]


@dataclass(frozen=True)
class Question:
    """What a process is to open and run, and where it is to write what that took."""

    artefact: str
    key: str  # of the contender
    against: tuple[str, ...]
    threads: int | None
    cuda_graph: bool
    batch: int
    sequence: int
    answer: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """From the JSON of `text`."""
        facts = json.loads(text)
        return cls(**{**facts, "against": tuple(facts["against"])})

    def __str__(self) -> str:
        return json.dumps(asdict(self))


def main(arguments: Sequence[str]) -> None:
    """Answer the question."""
    (text,) = arguments
    question = Question.parse(text)
    found = _answer(question)
    told = {"reason": found.reason} if isinstance(found, NotRun) else asdict(found)
    Path(question.answer).write_text(json.dumps(told), encoding="utf-8")


def read_answer(path: Path) -> Memory | NotRun:
    """What `main` wrote."""
    told = json.loads(path.read_text(encoding="utf-8"))
    return NotRun(told["reason"]) if "reason" in told else Memory(**told)


def _answer(question: Question) -> Memory | NotRun:
    artefact = read_artefact(Path(question.artefact))
    workload = Workload(question.batch, question.sequence)
    request = BenchRequest(
        (workload,),
        against=tuple(map(Path, question.against)),
        threads=question.threads,
        cuda_graph=question.cuda_graph,
    )
    if question.threads is not None:
        torch.set_num_threads(question.threads)
    (asked,) = (each for each in contenders(artefact, request) if each.key == question.key)
    vocabulary = int(str(model_config(artefact)["vocab_size"]))
    return memory_here(asked, workload, vocabulary=vocabulary)


if __name__ == "__main__":
    main(sys.argv[1:])
