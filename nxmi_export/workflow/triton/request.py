"""What a Triton model repository is asked to hold."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from nxmi_export.errors import UsageError

__all__ = ["BackendName", "TritonRequest"]

BackendName: TypeAlias = Literal["tensorrt", "onnxruntime"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class TritonRequest:
    """Where to, by which backend, and how requests are batched; UsageError for an unfit name."""

    repository: Path
    name: str  # of the model; clients ask for it
    backend: BackendName
    max_batch: int | None = None  # None: the engine's largest, or `MAX_BATCH`
    queue_delay: int = 0  # microseconds a request may wait for others

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(
                f"model name {self.name!r}",
                expected="letters, digits, '_', '-' and '.', for it is a folder and part of a URL",
                found="others",
                remedy="choose another with --name",
            )
