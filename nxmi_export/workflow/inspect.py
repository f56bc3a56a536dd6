"""A checkpoint or an artefact in, a table of its linears out: what is really stored in each."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nxmi_export.artefact import FP16_MODEL, MANIFEST, Artefact, Manifest, read_artefact
from nxmi_export.checkpoint import read_checkpoint
from nxmi_export.compression import compressed_linears, restore
from nxmi_export.compression.tables import quantized_tables
from nxmi_export.errors import UsageError
from nxmi_export.parity.stored_document import read_run_document, reservations
from passes import Float16OutsideIslands

__all__ = ["Float16Graph", "Inspection", "PackedLinear", "StoredLinear", "StoredTable", "inspect"]


@dataclass(frozen=True)
class StoredLinear:
    """One linear: what was asked for, and the share of zeros that is there."""

    scheme: str
    inputs: int
    outputs: int
    zeros: float  # 0…1


@dataclass(frozen=True)
class StoredTable:
    """One embedding table; of a checkpoint, only those that a recipe stores otherwise."""

    storage: str  # "int8" or "dense"
    rows: int
    width: int


@dataclass(frozen=True)
class Float16Graph:
    """What `model.fp16.onnx` has in float16, and what it could not have."""

    nodes: int  # in float16, look-ups of tables included
    kept: Mapping[str, str]  # module → why it stays float32


@dataclass(frozen=True)
class PackedLinear:
    """One linear as `model.int4.onnx` stores it."""

    block: int  # inputs that share one scale
    bytes: int  # of its codes and scales


@dataclass(frozen=True)
class Inspection:
    """What a model is made of."""

    subject: str
    kind: str  # "checkpoint" or "artefact"
    architecture: str
    recipe: Mapping[str, Any] | None
    provenance: Mapping[str, Any]
    linears: Mapping[str, StoredLinear]  # by module name
    embeddings: Mapping[str, StoredTable]  # by module name
    files: Mapping[str, int]  # bytes by name, verified against their hashes; artefacts only
    float16: Float16Graph | None = None  # of an artefact that was exported with --fp16
    packed: Mapping[str, PackedLinear] = field(default_factory=dict)  # by module, --int4-blocks
    parity: bool | None = None  # whether the report that was given holds its gate; None: none was
    reservations: tuple[str, ...] = ()  # why that shows less than a whole run by the usual gate

    def as_json(self) -> dict[str, Any]:
        """Plain data with a versioned schema."""
        return {"schema": "nxmi-export/inspection/1", **asdict(self)}


def inspect(subject: str, *, base: str | None = None, report: Path | None = None) -> Inspection:
    """Read and verify `subject`: hashes of an artefact, scales and patterns of a checkpoint.

    `report` is a parity report that must speak of the artefact's files as they are now; raises
    ArtefactError where it does not, UsageError where `subject` is no artefact.
    """
    if (Path(subject) / MANIFEST).is_file():
        return _of_artefact(read_artefact(Path(subject)), subject, report)
    if report is not None:
        raise UsageError(
            f"{subject}: the parity report {report}",
            expected="an artefact that it may speak of",
            found="a checkpoint",
            remedy="name the artefact, or leave --report out",
        )
    checkpoint = read_checkpoint(subject, base=base)
    model = restore(checkpoint)
    return Inspection(
        subject=subject,
        kind="checkpoint",
        architecture=checkpoint.architecture,
        recipe=checkpoint.recipe.as_mapping() if checkpoint.recipe else None,
        provenance=dict(checkpoint.provenance),
        linears={
            name: StoredLinear(
                scheme=str(linear.scheme),
                inputs=linear.in_features,
                outputs=linear.out_features,
                zeros=float((linear.weight == 0).float().mean()),
            )
            for name, linear in compressed_linears(model).items()
        },
        embeddings={
            name: StoredTable("int8", table.num_embeddings, table.embedding_dim)
            for name, table in quantized_tables(model).items()
        },
        files={},
    )


def _of_artefact(artefact: Artefact, subject: str, report: Path | None) -> Inspection:
    manifest = artefact.manifest
    document = None if report is None else read_run_document(artefact, report)
    return Inspection(
        subject=subject,
        kind="artefact",
        architecture=manifest.architecture,
        recipe=manifest.recipe,
        provenance=manifest.provenance,
        linears={
            name: StoredLinear(each.storage, each.inputs, each.outputs, each.zeros)
            for name, each in manifest.linears.items()
        },
        embeddings={
            name: StoredTable(each.storage, each.rows, each.width)
            for name, each in manifest.embeddings.items()
        },
        files={name: record.bytes for name, record in manifest.files.items()},
        float16=_float16(manifest),
        parity=None if document is None else bool(document["ok"]),
        reservations=() if document is None else reservations(document),
        packed={
            name: PackedLinear(each.block, each.bytes) for name, each in manifest.packed.items()
        },
    )


def _float16(manifest: Manifest) -> Float16Graph | None:
    """As the ledger of the pass tells it."""
    if FP16_MODEL not in manifest.files:
        return None
    ledger = manifest.ledgers["tensorrt_fp16"]
    (record,) = (each for each in ledger if each["pass"] == Float16OutsideIslands.__name__)
    skips = (entry for entry in record["entries"] if entry["kind"] == "skip")
    return Float16Graph(record["changes"], {entry["module"]: entry["why"] for entry in skips})
