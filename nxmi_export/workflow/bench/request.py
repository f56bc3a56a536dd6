"""What `bench` is asked to compare."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nxmi_export.bench.measure import LEAST_ROUNDS
from nxmi_export.glue import Task
from nxmi_export.latency import Workload
from nxmi_export.latency.interleaved import Turn

__all__ = ["BASELINE", "BenchRequest", "TextsRequest"]

BASELINE = "pytorch"


@dataclass(frozen=True)
class TextsRequest:
    """Whose texts to time, batched by length and padded to one length."""

    task: Task
    data_dir: Path | None  # None: the hub
    examples: int = 256  # the first ones of its dev split
    batch_tokens: int = 1024  # of a batch by length at most, padding included
    max_length: int = 128  # tokens


@dataclass(frozen=True)
class BenchRequest:
    """Shapes, contenders beside the artefact's own, and how long to measure."""

    workloads: tuple[Workload, ...]
    baseline: str = BASELINE
    against: tuple[Path, ...] = ()  # other files that read the same batches
    threads: int | None = None  # of PyTorch, onnxruntime and OpenVINO; None: their own choice
    rounds: int = 40  # of one shape at most
    seconds: float = 60.0  # after which a shape gets no further round
    cuda_graph: bool = True
    texts: TextsRequest | None = None  # None: shapes alone
    memory: bool = True  # of each contender, which takes it a process of its own
    least_rounds: int = LEAST_ROUNDS  # however little time they may take
    turns: Mapping[Workload, Turn] = field(default_factory=dict)  # of shapes with another than TURN
