"""Hashes the files a dataset was read from, so that a score can name its data."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from nxmi_export.errors import InvalidDataset

__all__ = ["sha256_of"]

CHUNK = 1 << 20  # bytes at a time; MNLI's training file has 300 MB


def sha256_of(paths: Sequence[Path]) -> str:
    """SHA-256 of the files' bytes one after the other, as `cat FILES | sha256sum` prints it.

    Raises InvalidDataset for a file that cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
        except OSError as error:
            raise InvalidDataset(
                path,
                expected="a readable file",
                found=f"an error ({error.strerror})",
                remedy="check its permissions",
            ) from error
    return digest.hexdigest()
