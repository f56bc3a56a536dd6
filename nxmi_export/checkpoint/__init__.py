"""Task models as data: reading and writing `model.pt`, reading Hugging Face directories."""

from nxmi_export.checkpoint.compressed import (
    TOKENIZER_FILES,
    CompressedCheckpoint,
    read_tokenizer_files,
)
from nxmi_export.checkpoint.digest import checkpoint_sha256
from nxmi_export.checkpoint.model_file import write_checkpoint
from nxmi_export.checkpoint.read import read_checkpoint

__all__ = [
    "TOKENIZER_FILES",
    "CompressedCheckpoint",
    "checkpoint_sha256",
    "read_checkpoint",
    "read_tokenizer_files",
    "write_checkpoint",
]
