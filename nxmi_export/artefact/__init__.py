"""The artefact: a directory of deployable files, each bound to the manifest by its hash."""

from nxmi_export.artefact.artefact import (
    BUILD_LOG,
    CERTIFICATE,
    CPU_MODEL,
    ENGINE_FACTS,
    FP16_MODEL,
    FP16_WEIGHTS,
    MODEL,
    PLAN,
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
from nxmi_export.artefact.replace_files import replace_files

__all__ = [
    "BUILD_LOG",
    "CERTIFICATE",
    "CPU_MODEL",
    "ENGINE_FACTS",
    "FP16_MODEL",
    "FP16_WEIGHTS",
    "MANIFEST",
    "MODEL",
    "PLAN",
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
    "replace_files",
    "sha256_of",
]
