"""What is told of an engine in a terminal."""

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from nxmi_export.report.engine_table import engine_table
from tests.engine_documents import engine_document


def printed(**changes: Any) -> str:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(engine_table(engine_document(Path("model.artefact"), **changes)))
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().replace("│", " ").split())


def test_a_gpu_that_was_assumed_is_told() -> None:
    guess = {"compute_capabilities": ["sm86"], "assumed": "no driver", "counts": {}, "findings": []}
    assert "linted for sm86, which was assumed: no driver" in printed(lint=guess)


def test_a_gpu_that_is_known_is_no_news() -> None:
    assert "linted" not in printed()


def test_every_generation_of_a_plan_is_told() -> None:
    assert "for sm86, sm120" in printed(compute_capabilities=["sm86", "sm120"])


def test_what_the_graph_does_not_promise_is_told_with_its_reason() -> None:
    sparse = {"verdict": "not claimed", "reason": "none is 2:4", "eligible": 0, "chosen": 0}
    assert "2:4 kernels not claimed: none is 2:4" in printed(sparse_kernels=sparse)
