"""What `check_parity` is asked to compare."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from nxmi_export.backends.names import Backend
from nxmi_export.errors import UsageError
from nxmi_export.glue import Task
from nxmi_export.parity import Gate, Stage

__all__ = ["OnProgress", "ParityRequest"]

OnProgress: TypeAlias = Callable[[str, int, int], None]
"""What is being done, how much of it is done, and its total."""

# How much is looked at for what the gate asks; activation codes are told alone.
_COUNTS = (
    "shift_examples",
    "shape_examples",
    "replay_examples",
    "probe_tokens",
    "drift_examples",
)


@dataclass(frozen=True)
class ParityRequest:
    """What to compare, over which data, and what is allowed; UsageError for a task named twice."""

    task: Task
    data_dir: Path | None  # None: the hub
    checkpoint: str | None = None  # None: the one the manifest names
    dense: str | None = None  # the uncompressed model, for the first rung
    batch_tokens: int = 1024  # of a batch at most, padding included
    max_length: int = 128  # tokens
    limit: int | None = None  # examples a split; None: all
    # The first ones, of the shifted and the float16 rung: the former must equal the written rung
    # bit for bit, and a wrong constant shows in any example.
    shift_examples: int = 128
    shape_examples: int = 32  # 0: shapes are not compared, which the gate must allow
    code_examples: int = 64  # 0: activation codes are not compared
    replay_examples: int = 16  # a rung, besides changed ones; 0: none, which the gate must allow
    # Of made-up inputs that reach what the dev set does not; 0: none, which the gate must allow.
    # All positions of a BERT, and no more of a model that would read thousands at once.
    probe_tokens: int = 512
    # What runs the artefact; onnxruntime always does, since all else is explained by its codes.
    backends: tuple[Backend, ...] = (Backend.ONNXRUNTIME,)
    captured: bool = False  # whether the graph before any pass is captured anew, as a rung
    # Whether drift is localized; without, where the gate fails, and of the float16 file always.
    drift: bool = False
    # Rungs whose layers are compared, reference first; with drift, written from compressed besides.
    layer_errors: tuple[tuple[Stage, Stage], ...] = ()
    # Of both; 0: none, with which a float16 file does not pass.
    drift_examples: int = 16
    bisect_budget: int | None = None  # evaluations of a dev split; None: no bisection
    gate: Gate = field(default_factory=Gate)
    cache: Path | None = None  # the folder of datasets that were tokenized before; None: none
    further: tuple[Task, ...] = ()  # other tasks that the model's head fits, in the same run

    def __post_init__(self) -> None:
        ((name, times),) = Counter(task.name for task in self.tasks).most_common(1)
        if times > 1:
            raise UsageError(
                "tasks",
                expected="each task once",
                found=f"{name} {times} times",
                remedy="name it once; all its dev splits are run",
            )

    @property
    def allowances(self) -> tuple[str, ...]:
        """The settings by which less is looked at, or more passes, than by default.

        A report of such a run vouches for less. `limit` and `max_length` depend on the data.
        """
        usual = type(self)(self.task, self.data_dir)
        fewer = (name for name in _COUNTS if getattr(self, name) < getattr(usual, name))
        return (*self.gate.allowances, *fewer)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All of them, at least one."""
        return (self.task, *self.further)
