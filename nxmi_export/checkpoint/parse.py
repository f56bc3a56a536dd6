"""The dictionary of a format-1 `model.pt` in, a `CompressedCheckpoint` out.

The file may come from anyone, so every part is checked before anything is made of it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from nxmi_export.checkpoint.compressed import TOKENIZER_FILES, CompressedCheckpoint
from nxmi_export.checkpoint.model_file import FORMAT
from nxmi_export.errors import CheckpointError
from nxmi_export.recipe import Recipe

__all__ = ["parse_checkpoint"]

_KEYS = {
    "architecture": str,
    "config": dict,
    "state": dict,
    "tokenizer": dict,
    "provenance": dict,
}


def parse_checkpoint(content: Mapping[str, Any], source: Path) -> CompressedCheckpoint:
    """Read the dictionary of a format-1 file; raises CheckpointError for any other content."""
    if content.get("format") != FORMAT:
        raise CheckpointError(
            source,
            expected=f"the format {FORMAT!r}",
            found=repr(content.get("format")),
            remedy="install the version of nxmi-export that wrote it",
        )
    missing = (_KEYS.keys() | {"recipe"}) - content.keys()
    if missing:
        raise _malformed(source, f"no {', '.join(sorted(missing))}")
    for key, kind in _KEYS.items():
        if not isinstance(content[key], kind):
            raise _malformed(source, f"a {type(content[key]).__name__} as its {key}")
    _check_tensors(source, "state", content["state"])
    _check_tensors(source, "tokenizer", content["tokenizer"])
    for name in content["tokenizer"]:
        # These become files, so a name must not be a path out of their folder.
        if name not in TOKENIZER_FILES:
            raise _malformed(source, f"the tokenizer file {name!r}")
    recipe = content["recipe"]
    return CompressedCheckpoint(
        architecture=content["architecture"],
        config=content["config"],
        state=content["state"],
        tokenizer={name: tensor.numpy().tobytes() for name, tensor in content["tokenizer"].items()},
        recipe=None if recipe is None else Recipe.from_mapping(recipe, source=source),
        provenance=content["provenance"],
    )


def _check_tensors(source: Path, part: str, tensors: Mapping[Any, Any]) -> None:
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise _malformed(source, f"a {type(value).__name__} under {name!r} in its {part}")


def _malformed(source: Path, found: str) -> CheckpointError:
    return CheckpointError(
        source,
        expected="a complete compressed checkpoint",
        found=found,
        remedy="write it again with nxmi_export.checkpoint.write_checkpoint",
    )
