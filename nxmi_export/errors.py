"""Every error a user can meet, each with its exit code.

    NxmiError
    ├── UsageError (exit 2): what was asked cannot be done as asked
    │   ├── CheckpointError
    │   │   ├── CheckpointNotFound
    │   │   ├── UnsafeCheckpoint      a pickle that wants to run code
    │   │   ├── TruncatedCheckpoint
    │   │   └── CheckpointMismatch    keys or shapes that do not fit the architecture
    │   ├── RecipeError
    │   ├── UnsupportedModel
    │   ├── UnsupportedWeight         a shape that the scheme cannot have
    │   ├── InvalidScale              zero, negative, NaN or infinite
    │   ├── DataError
    │   │   ├── UnknownTask
    │   │   ├── DatasetNotFound
    │   │   └── InvalidDataset        missing columns, labels out of range
    │   ├── ArtefactError             a directory that is no (whole) artefact
    │   ├── ShapeError                a profile or batch the model cannot run
    │   └── OutputError               an output path that cannot be written
    ├── GateFailed (exit 1): the work was done and the answer is no
    ├── TrainingDiverged (exit 1): a loss that is NaN or infinite
    ├── CapabilityMissing (exit 3): this machine lacks a library or a device
    └── InternalError (exit 4): a promise of this package does not hold
        ├── LoweringFailed
        ├── EngineBuildFailed
        └── EngineRunFailed

Each message is one sentence made of four parts: subject, expectation, finding, remedy.
"""

from typing import ClassVar

__all__ = [
    "ArtefactError",
    "CapabilityMissing",
    "CheckpointError",
    "CheckpointMismatch",
    "CheckpointNotFound",
    "DataError",
    "DatasetNotFound",
    "EngineBuildFailed",
    "EngineRunFailed",
    "GateFailed",
    "InternalError",
    "InvalidDataset",
    "InvalidScale",
    "LoweringFailed",
    "NxmiError",
    "OutputError",
    "RecipeError",
    "ShapeError",
    "TrainingDiverged",
    "TruncatedCheckpoint",
    "UnknownTask",
    "UnsafeCheckpoint",
    "UnsupportedModel",
    "UnsupportedWeight",
    "UsageError",
]


class NxmiError(Exception):
    """Base of every deliberate error; `str(error)` is one sentence for the user."""

    exit_code: ClassVar[int] = 4

    def __init__(self, subject: object, *, expected: str, found: str, remedy: str) -> None:
        super().__init__(f"{subject}: expected {expected}, found {found}; {remedy}")
        self.subject = str(subject)
        self.expected = expected
        self.found = found
        self.remedy = remedy


class UsageError(NxmiError):
    """What was asked cannot be done as asked."""

    exit_code = 2


class CheckpointError(UsageError):
    """The model file or directory cannot be used."""


class CheckpointNotFound(CheckpointError):
    """Nothing loadable at the path or hub name."""


class UnsafeCheckpoint(CheckpointError):
    """The pickle asks for more than tensors and plain data, so it was not executed."""


class TruncatedCheckpoint(CheckpointError):
    """The file ends early or its archive is damaged."""


class CheckpointMismatch(CheckpointError):
    """Keys or shapes that do not fit the architecture."""


class RecipeError(UsageError):
    """A recipe that is malformed or does not fit the model."""


class UnsupportedModel(UsageError):
    """An architecture whose values the quantizers cannot reach."""


class UnsupportedWeight(UsageError):
    """A weight whose shape the scheme cannot have."""


class InvalidScale(UsageError):
    """A quantization scale that is zero, negative, NaN or infinite."""


class DataError(UsageError):
    """A task or dataset that cannot be used."""


class UnknownTask(DataError):
    """A task name outside GLUE and the built-in reviews task."""


class DatasetNotFound(DataError):
    """No file of the task at the given place."""


class InvalidDataset(DataError):
    """Missing columns, labels out of range, or no rows."""


class ArtefactError(UsageError):
    """A directory that is no artefact, or whose files changed since it was written."""


class ShapeError(UsageError):
    """A batch size or sequence length the model cannot run."""


class OutputError(UsageError):
    """An output path that is in use or cannot be written."""


class GateFailed(NxmiError):
    """The work was done and the answer is no."""

    exit_code = 1


class TrainingDiverged(NxmiError):
    """A loss or gradient became NaN or infinite; the last snapshot is kept."""

    exit_code = 1


class CapabilityMissing(NxmiError):
    """This machine lacks a library, a driver or a device."""

    exit_code = 3


class InternalError(NxmiError):
    """A promise of this package does not hold; always worth a bug report."""

    exit_code = 4


class LoweringFailed(InternalError):
    """A graph pass broke one of its promises, or refused the graph."""


class EngineBuildFailed(InternalError):
    """The engine builder refused or crashed on a graph that passed every check."""


class EngineRunFailed(InternalError):
    """The engine, or CUDA under it, refused a batch that passed every check."""
