"""One hash for a checkpoint, whether it is a file or a Hugging Face directory."""

import hashlib
from pathlib import Path

from nxmi_export.checkpoint.hugging_face import CONFIGURATION, WEIGHT_FILES

__all__ = ["checkpoint_sha256"]


def checkpoint_sha256(path: Path) -> str:
    """The SHA-256 of a file, or of what decides the values of a Hugging Face directory.

    That of a directory covers config.json and the weight files, sorted by name; it is what
    `sha256sum config.json model.safetensors | sha256sum` prints for the two.
    """
    if not path.is_dir():
        return _sha256(path)
    paths = {each for pattern in (CONFIGURATION, *WEIGHT_FILES) for each in path.glob(pattern)}
    lines = [f"{_sha256(each)}  {each.name}\n" for each in sorted(paths) if each.is_file()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
