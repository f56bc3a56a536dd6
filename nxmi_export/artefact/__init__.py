"""The artefact: a directory of deployable files, each bound to the manifest by its hash."""

from nxmi_export.artefact.artefact import (
    CPU_MODEL,
    FP16_MODEL,
    MODEL,
    WEIGHTS,
    Artefact,
    file_record,
    is_artefact,
    read_artefact,
    sha256_of,
)
from nxmi_export.artefact.manifest import (
    MANIFEST,
    FileRecord,
    LinearRecord,
    Manifest,
    Source,
    TableRecord,
)

__all__ = [
    "CPU_MODEL",
    "FP16_MODEL",
    "MANIFEST",
    "MODEL",
    "WEIGHTS",
    "Artefact",
    "FileRecord",
    "LinearRecord",
    "Manifest",
    "Source",
    "TableRecord",
    "file_record",
    "is_artefact",
    "read_artefact",
    "sha256_of",
]
