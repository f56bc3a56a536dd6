"""The artefact: a directory of deployable files, each bound to the manifest by its hash."""

from nxmi_export.artefact.artefact import Artefact, file_record, is_artefact, read_artefact
from nxmi_export.artefact.manifest import (
    MANIFEST,
    FileRecord,
    LinearRecord,
    Manifest,
    PackedRecord,
    Source,
    TableRecord,
)
from nxmi_export.artefact.replace_files import changed_meanwhile, replace_files
from nxmi_export.artefact_files import (
    BENCH,
    BUILD_LOG,
    CERTIFICATE,
    CPU_MODEL,
    ENGINE_FACTS,
    FP16_MODEL,
    FP16_WEIGHTS,
    INT4_MODEL,
    INT4_WEIGHTS,
    MODEL,
    PLAN,
    WEIGHTS,
    sha256_of,
)

__all__ = [
    "BENCH",
    "BUILD_LOG",
    "CERTIFICATE",
    "CPU_MODEL",
    "ENGINE_FACTS",
    "FP16_MODEL",
    "FP16_WEIGHTS",
    "INT4_MODEL",
    "INT4_WEIGHTS",
    "MANIFEST",
    "MODEL",
    "PLAN",
    "WEIGHTS",
    "Artefact",
    "FileRecord",
    "LinearRecord",
    "Manifest",
    "PackedRecord",
    "Source",
    "TableRecord",
    "changed_meanwhile",
    "file_record",
    "is_artefact",
    "read_artefact",
    "replace_files",
    "sha256_of",
]
