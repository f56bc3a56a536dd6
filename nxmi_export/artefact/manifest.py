"""`manifest.json`: what an artefact is made of, where it came from, and the hash of every file."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nxmi_export.artefact_files import MANIFEST, facts_sha256
from nxmi_export.errors import ArtefactError
from nxmi_export.output_files import atomic_file

__all__ = [
    "MANIFEST",
    "FileRecord",
    "LinearRecord",
    "Manifest",
    "PackedRecord",
    "Source",
    "TableRecord",
    "TimedOptions",
    "TimedShape",
    "Tuning",
]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(_Record):
    """One file of the artefact, bound by its hash."""

    sha256: str
    bytes: int


class Source(_Record):
    """The checkpoint that was exported."""

    path: str  # as a path relative to the artefact where it is a local file, else a hub name
    sha256: str | None  # of the file or directory, as `checkpoint_sha256` has it; None for the hub
    base: str | None = None  # what gave a bare state dict its configuration; written like `path`


class LinearRecord(_Record):
    """One encoder linear as it is stored."""

    storage: str  # "2:4+int8", "int8", "dense", …
    inputs: int  # K
    outputs: int  # N
    zeros: float  # share of stored values that are zero, 0…1


class PackedRecord(_Record):
    """One encoder linear as it is stored in `model.int4.onnx`."""

    block: int  # inputs that share one scale
    bytes: int  # of its codes and scales


class TableRecord(_Record):
    """One embedding table as it is stored."""

    storage: str  # "int8" or "dense"
    rows: int
    width: int
    bytes: int  # of its numbers and their scales


class TimedShape(_Record):
    """One way to run `model.cpu.onnx` on one shape of batch."""

    seconds: float  # the median
    speedup: float  # against the fastest way before it, in the same rounds; the median
    low: float  # where the true median lies with 95 %
    high: float


class TimedOptions(_Record):
    """One way to run the model on onnxruntime, next to the fastest way before it."""

    # "portable": opset 20; "attention": float attention as one operator of opset 23; "products":
    # quantized linears as onnxruntime's own operator; "attention+products": both.
    graph: str
    options: dict[str, str]  # configuration entries of the session
    shapes: dict[str, TimedShape]  # by batch x tokens
    won: bool  # whether it became the fastest way


class RefusedWay(_Record):
    """One way that was not timed to its end, as it cannot be taken."""

    graph: str
    options: dict[str, str]
    reason: str


class Tuning(_Record):
    """Which graph and which of onnxruntime's fusions are fastest, as measured by the export."""

    processor: str
    onnxruntime: str  # its version; threads are its own choice
    timed: tuple[TimedOptions, ...]  # in this order, beginning against the portable graph as it is
    graph: str  # the chosen one, which `model.cpu.onnx` is
    options: dict[str, str]  # the chosen ones
    refused: tuple[RefusedWay, ...] = ()


class Manifest(_Record):
    """The contents of `manifest.json`."""

    format: Literal["nxmi-export/artefact/1"] = "nxmi-export/artefact/1"
    created: str  # ISO 8601, UTC
    architecture: str
    model_type: str
    input_names: tuple[str, ...]
    position_limit: int  # tokens
    labels: tuple[str, ...]
    source: Source
    recipe: dict[str, Any] | None
    provenance: dict[str, Any]
    versions: dict[str, str]
    # What an onnxruntime session over model.cpu.onnx must be told, or its products may saturate,
    # and what `tuning` found to be fastest.
    session_options: dict[str, str] = Field(default_factory=dict)
    tuning: Tuning | None = None  # None: nothing was measured
    linears: dict[str, LinearRecord] = Field(default_factory=dict)  # by module name
    packed: dict[str, PackedRecord] = Field(default_factory=dict)  # by module name
    embeddings: dict[str, TableRecord] = Field(default_factory=dict)  # by module name
    ledgers: dict[str, Any] = Field(default_factory=dict)  # by target name
    files: dict[str, FileRecord] = Field(default_factory=dict)  # by name inside the artefact

    @property
    def facts_sha256(self) -> str:
        """What binds a document to all that is said here besides the files."""
        return facts_sha256(self.model_dump(mode="json"))

    def write(self, directory: Path) -> None:
        """Write `directory`/manifest.json, whole or not at all."""
        with atomic_file(directory / MANIFEST) as temporary:
            temporary.write_text(f"{self.model_dump_json(indent=1)}\n", encoding="utf-8")

    @classmethod
    def read(cls, directory: Path) -> "Manifest":
        """Read `directory`/manifest.json; raises ArtefactError where that is no manifest."""
        path = directory / MANIFEST
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ArtefactError(
                directory,
                expected="an artefact directory with manifest.json",
                found=error.strerror or str(error),
                remedy="make one with nxmi-export MODEL -o DIRECTORY",
            ) from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the file"
            raise ArtefactError(
                path,
                expected="a manifest that this version reads",
                found=f"{place}: {first['msg']}",
                remedy="export the model again",
            ) from error
