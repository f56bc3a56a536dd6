"""`model.pt` in and out: a dictionary of tensors and plain data, never code.

Format 1 has the keys of `CompressedCheckpoint` and a "format" key. Everything is readable with
`torch.load(weights_only=True)`; a pickle that asks for more is refused before anything runs.
"""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nxmi_export.checkpoint.compressed import CompressedCheckpoint
from nxmi_export.errors import CheckpointError, TruncatedCheckpoint, UnsafeCheckpoint
from nxmi_export.output_files import atomic_file
from nxmi_export.recipe import Recipe

__all__ = ["load_mapping", "parse_checkpoint", "write_checkpoint"]

FORMAT = "nxmi-export/1"
_ZIP_MAGIC = b"PK\x03\x04"


def write_checkpoint(path: Path, checkpoint: CompressedCheckpoint) -> None:
    """Write `path` atomically."""
    content = {
        "format": FORMAT,
        "architecture": checkpoint.architecture,
        "config": dict(checkpoint.config),
        "recipe": checkpoint.recipe.as_mapping() if checkpoint.recipe else None,
        "provenance": dict(checkpoint.provenance),
        "tokenizer": {
            # bytes are no plain data to the safe loader; a uint8 tensor is
            name: torch.frombuffer(bytearray(data), dtype=torch.uint8)
            for name, data in checkpoint.tokenizer.items()
            if data
        },
        "state": {name: tensor.detach().cpu() for name, tensor in checkpoint.state.items()},
    }
    with atomic_file(path) as temporary:
        torch.save(content, temporary)


def load_mapping(path: Path) -> dict[str, Any]:
    """The dictionary in a torch file, its tensors mapped from disk.

    Raises UnsafeCheckpoint for a pickle with code in it, TruncatedCheckpoint for a damaged file
    and CheckpointError for anything that is no dictionary.
    """
    with path.open("rb") as file:
        is_archive = file.read(4) == _ZIP_MAGIC
    if is_archive and not zipfile.is_zipfile(path):
        raise _truncated(path, "an archive without its directory at the end")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive or None)
    except pickle.UnpicklingError as error:
        raise _unloadable(path, error) from error
    except (EOFError, RuntimeError, OSError, ValueError) as error:
        raise _truncated(path, " ".join(str(error).split())[:120] or "an early end") from error
    if not isinstance(content, dict):
        raise CheckpointError(
            path,
            expected="a dictionary of tensors",
            found=type(content).__name__,
            remedy="save model.state_dict() or a compressed checkpoint",
        )
    return content


def parse_checkpoint(content: Mapping[str, Any], source: Path) -> CompressedCheckpoint:
    """Read the dictionary of a format-1 file; raises CheckpointError for any other format."""
    if content.get("format") != FORMAT:
        raise CheckpointError(
            source,
            expected=f"the format {FORMAT!r}",
            found=repr(content.get("format")),
            remedy="install the version of nxmi-export that wrote it",
        )
    missing = {"architecture", "config", "recipe", "tokenizer", "state"} - content.keys()
    if missing:
        raise CheckpointError(
            source,
            expected="a complete compressed checkpoint",
            found=f"no {', '.join(sorted(missing))}",
            remedy="write it again with nxmi_export.checkpoint.write_checkpoint",
        )
    recipe = content["recipe"]
    state: dict[str, Tensor] = content["state"]
    return CompressedCheckpoint(
        architecture=content["architecture"],
        config=content["config"],
        state=state,
        tokenizer={
            name: tensor.numpy().tobytes() for name, tensor in content["tokenizer"].items()
        },
        recipe=None if recipe is None else Recipe.from_mapping(recipe, source=source),
        provenance=content.get("provenance", {}),
    )


def _unloadable(path: Path, error: pickle.UnpicklingError) -> CheckpointError:
    text = str(error)
    if "GLOBAL" not in text and "global" not in text:
        return _truncated(path, "a pickle stream that breaks off")
    found = text.split("GLOBAL ")[-1].split(" ")[0] if "GLOBAL " in text else "a custom class"
    return UnsafeCheckpoint(
        path,
        expected="tensors and plain data only",
        found=f"a pickle that wants to import {found}, which was not executed",
        remedy="save model.state_dict() instead of the model object",
    )


def _truncated(path: Path, found: str) -> TruncatedCheckpoint:
    return TruncatedCheckpoint(
        path,
        expected="a complete torch file",
        found=found,
        remedy="copy or save the file again",
    )
