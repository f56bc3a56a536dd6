"""Tokenized datasets on disk, each under the hash of everything that decides its ids.

An entry is an .npz file named after that hash; the folder may be deleted at any time. One that does
not read, or does not fit its dataset, counts as none and is replaced.
"""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile

from nxmi_export.encoding.dataset import EncodedDataset
from nxmi_export.encoding.rows import TokenRows
from nxmi_export.encoding.tokenize import encode, load_tokenizer
from nxmi_export.errors import OutputError
from nxmi_export.glue import Dataset
from nxmi_export.output_files import atomic_file

__all__ = ["CachedEncoder"]

_FORMAT = "1"  # raised whenever the same texts come to other ids, or to other files
_LIBRARIES = ("tokenizers", "transformers")
_STARTS, _IDS, _PADDING = "starts", "ids.", "padding."
# What numpy and zipfile raise for a file that was cut short, changed or never one of theirs.
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class CachedEncoder:
    """A tokenizer for one model, which tokenizes each dataset once.

    `folder` None keeps nothing.
    """

    tokenizer: Any
    files: Mapping[str, bytes]  # of the tokenizer
    input_names: tuple[str, ...]
    max_length: int  # tokens
    folder: Path | None

    @classmethod
    def open(
        cls,
        files: Mapping[str, bytes],
        *,
        source: object,
        model_type: str,
        input_names: tuple[str, ...],
        max_length: int,
        folder: Path | None,
    ) -> "CachedEncoder":
        """Raises CheckpointError for files that make no tokenizer, OutputError for the folder."""
        if folder is not None:
            _make(folder)
        tokenizer = load_tokenizer(files, source=source, model_type=model_type)
        return cls(tokenizer, files, input_names, max_length, folder)

    def encode(self, dataset: Dataset) -> EncodedDataset:
        """As `encode` does, or from an earlier run.

        Raises ShapeError for a `max_length` that cannot be kept, OutputError where the entry cannot
        be written.
        """
        path = None if self.folder is None else self.folder / f"{self.key(dataset)}.npz"
        found = None if path is None else self._read(path, dataset)
        if found is None:
            found = encode(
                dataset, self.tokenizer, input_names=self.input_names, max_length=self.max_length
            )
            if path is not None:
                _write(path, found)
        return found

    def key(self, dataset: Dataset) -> str:
        """SHA-256 of the texts, the tokenizer's files, the settings and the libraries' versions."""
        settings = {
            "format": _FORMAT,
            "inputs": self.input_names,
            "max_length": self.max_length,
            "libraries": {name: version(name) for name in _LIBRARIES},
            "class": type(self.tokenizer).__name__,
            "files": {name: _sha256(content) for name, content in sorted(self.files.items())},
        }
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        # JSON, so that where one text ends and the next begins is part of what is hashed.
        for column in dataset.texts:
            digest.update(json.dumps(column).encode())
        return digest.hexdigest()

    def _read(self, path: Path, dataset: Dataset) -> EncodedDataset | None:
        try:
            # Not numpy.load, which also reads other files, and leaves those open that it cannot.
            with path.open("rb") as file, NpzFile(file, allow_pickle=False) as arrays:
                ids = {name: arrays[f"{_IDS}{name}"] for name in self.input_names}
                rows = TokenRows(ids, arrays[_STARTS])
                padding = {name: int(arrays[f"{_PADDING}{name}"]) for name in self.input_names}
        except _UNREADABLE:
            return None
        whole = {array.dtype for array in ids.values()} == {np.dtype(np.int32)}
        whole = whole and rows.starts.dtype == np.int64
        fits = len(rows) == len(dataset) and rows.lengths.max(initial=0) <= self.max_length
        return EncodedDataset(dataset, rows, padding) if whole and fits else None


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            folder,
            expected="a folder for tokenized datasets",
            found=error.strerror or str(error),
            remedy="choose another with --cache, or pass --no-cache",
        ) from error


def _write(path: Path, data: EncodedDataset) -> None:
    arrays: dict[str, Any] = {_STARTS: data.rows.starts}
    arrays |= {f"{_IDS}{name}": array for name, array in data.rows.ids.items()}
    arrays |= {f"{_PADDING}{name}": np.int64(fill) for name, fill in data.padding.items()}
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
