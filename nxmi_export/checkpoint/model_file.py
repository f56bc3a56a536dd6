"""`model.pt` in and out: a dictionary of tensors and plain data, never code.

Format 1 has the keys of `CompressedCheckpoint` and a "format" key. Everything is readable with
`torch.load(weights_only=True)`; a pickle that asks for more is refused before anything runs.
"""

import json
import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nxmi_export.checkpoint.compressed import CompressedCheckpoint
from nxmi_export.errors import CheckpointError, TruncatedCheckpoint, UnsafeCheckpoint
from nxmi_export.output_files import atomic_file

__all__ = ["FORMAT", "load_mapping", "write_checkpoint"]

FORMAT = "nxmi-export/1"
_ZIP_MAGIC = b"PK\x03\x04"
_IMPORTING = {"GLOBAL", "INST", "STACK_GLOBAL"}  # the pickle opcodes that name a thing to import


def write_checkpoint(path: Path, checkpoint: CompressedCheckpoint) -> None:
    """Write `path` atomically; raises OutputError where that cannot be done.

    Raises TypeError, before anything is written, for provenance that is no plain data.
    """
    content = {
        "format": FORMAT,
        "architecture": checkpoint.architecture,
        "config": dict(checkpoint.config),
        "recipe": checkpoint.recipe.as_mapping() if checkpoint.recipe else None,
        # numpy's numbers turn into Python's: the safe loader refuses them
        "provenance": json.loads(json.dumps(dict(checkpoint.provenance))),
        "tokenizer": {
            # bytes are no plain data to the safe loader; a uint8 tensor is
            name: torch.from_numpy(np.frombuffer(data, np.uint8).copy())
            for name, data in checkpoint.tokenizer.items()
        },
        "state": {name: tensor.detach().cpu() for name, tensor in checkpoint.state.items()},
    }
    with atomic_file(path) as temporary:
        _save(content, temporary)


def load_mapping(path: Path) -> dict[str, Any]:
    """The dictionary in a torch file, its tensors mapped from disk.

    Raises UnsafeCheckpoint for a pickle with code in it, TruncatedCheckpoint for a damaged file
    and CheckpointError for anything that is no dictionary.
    """
    is_archive = _check_archive(path)
    try:
        with warnings.catch_warnings():
            # a pickle by other hands than torch.save; whether it loads is what counts
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            content = torch.load(
                path, map_location="cpu", weights_only=True, mmap=is_archive or None
            )
    except pickle.UnpicklingError as error:
        raise _unloadable(path, error) from error
    except UnicodeEncodeError as error:
        raise CheckpointError(
            path,
            expected="a path in UTF-8, for torch opens no other",
            found="bytes that are not UTF-8",
            remedy="rename the file or its folder",
        ) from error
    except Exception as error:  # damaged bytes lead the unpickler into errors of every kind
        raise _truncated(path, "data that cannot be read to its end") from error
    if not isinstance(content, dict):
        raise CheckpointError(
            path,
            expected="a dictionary of tensors",
            found=type(content).__name__,
            remedy="save model.state_dict() or a compressed checkpoint",
        )
    return content


def _save(content: Mapping[str, Any], path: Path) -> None:
    try:
        with path.open("wb") as file:
            torch.save(content, file)
    except RuntimeError as error:
        # torch's archive writer hides a full disk behind an error of its own
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def _check_archive(path: Path) -> bool:
    """Whether `path` is a zip archive; raises if it is a damaged one or a TorchScript program.

    torch does not compare the checksums in the archive, so a flipped bit would pass for a weight.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) != _ZIP_MAGIC:
                return False
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            names = archive.namelist()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        raise _truncated(path, "an archive without its directory at the end") from error
    except OSError as error:
        raise _truncated(path, error.strerror or "an unreadable file") from error
    if damaged is not None:
        raise _truncated(path, f"a wrong checksum of {damaged}")
    if any(name.endswith("/constants.pkl") for name in names):
        raise UnsafeCheckpoint(
            path,
            expected="tensors and plain data only",
            found="a TorchScript program, which was not executed",
            remedy="save model.state_dict() instead",
        )
    return True


def _unloadable(path: Path, error: pickle.UnpicklingError) -> CheckpointError:
    text = str(error)
    if "GLOBAL " in text:
        wanted = text.split("GLOBAL ")[-1].split(" ")[0]
    elif imported := _first_import(path):
        wanted = imported
    else:
        return _truncated(path, "data that cannot be read to its end")
    return UnsafeCheckpoint(
        path,
        expected="tensors and plain data only",
        found=f"a pickle that wants to import {wanted}, which was not executed",
        remedy="save model.state_dict() instead of the model object",
    )


def _first_import(path: Path) -> str | None:
    """What a bare pickle imports first, found by reading its opcodes and executing none."""
    texts: list[str] = []
    try:
        with path.open("rb") as file:
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name in _IMPORTING:
                    return ".".join(texts[-2:] if argument is None else str(argument).split())
                if isinstance(argument, str):
                    texts.append(argument)
    except ValueError:
        pass  # where the opcodes end is where the damage begins
    return None


def _truncated(path: Path, found: str) -> TruncatedCheckpoint:
    return TruncatedCheckpoint(
        path,
        expected="a complete torch file",
        found=found,
        remedy="copy or save the file again",
    )
