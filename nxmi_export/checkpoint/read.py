"""A path or hub name in, a `CompressedCheckpoint` out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nxmi_export.checkpoint.compressed import CompressedCheckpoint, read_tokenizer_files
from nxmi_export.checkpoint.hugging_face import (
    architecture_of,
    read_configuration,
    read_hugging_face,
)
from nxmi_export.checkpoint.model_file import load_mapping
from nxmi_export.checkpoint.parse import parse_checkpoint
from nxmi_export.errors import CheckpointError, CheckpointNotFound

__all__ = ["read_checkpoint"]

# A missing path with one of these endings is no hub name; hub names have dots of their own (v1.5).
_FILE_ENDINGS = {".bin", ".ckpt", ".json", ".onnx", ".pkl", ".pt", ".pth", ".safetensors"}


def read_checkpoint(model: str, *, base: str | None = None) -> CompressedCheckpoint:
    """Read a `model.pt`, a Hugging Face directory, or a model by its hub name.

    A file that is a bare state dict carries no configuration: `base` names the directory or hub
    model that does. Raises the errors below CheckpointError, each saying what to do.
    """
    path = Path(model)
    if path.is_file():
        return _from_file(path, base)
    looks_like_path = model.count("/") > 1 or model.startswith((".", "/", "~"))
    if not path.is_dir() and (looks_like_path or path.suffix in _FILE_ENDINGS):
        raise CheckpointNotFound(
            model,
            expected="a model file, a Hugging Face directory or a hub name",
            found="nothing at this path",
            remedy="check the spelling and the working directory",
        )
    _refuse_base(model, base, found="a Hugging Face model, which has a configuration of its own")
    return read_hugging_face(model)


def _from_file(path: Path, base: str | None) -> CompressedCheckpoint:
    content = load_mapping(path)
    if "format" not in content:
        return _from_state_dict(path, content, base)
    _refuse_base(path, base, found="a compressed checkpoint, which has a configuration of its own")
    checkpoint = parse_checkpoint(content, path)
    named = {**checkpoint.config, "architectures": [checkpoint.architecture]}
    architecture_of(named, str(path))
    return checkpoint


def _refuse_base(subject: object, base: str | None, *, found: str) -> None:
    if base is not None:
        raise CheckpointError(
            subject,
            expected="--base only with a bare state dict",
            found=found,
            remedy="leave --base out",
        )


def _from_state_dict(
    path: Path, content: Mapping[Any, Any], base: str | None
) -> CompressedCheckpoint:
    inner = content.get("state_dict")
    state = inner if isinstance(inner, dict) else content
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise CheckpointError(
                path,
                expected="a compressed checkpoint or a state dict of tensors",
                found=f"the key {key!r} with a {type(value).__name__}",
                remedy="save model.state_dict()",
            )
    if base is None:
        raise CheckpointError(
            path,
            expected="a configuration beside the weights",
            found="a bare state dict",
            remedy="pass --base with the directory or hub name it was trained from",
        )
    config, directory = read_configuration(base)
    return CompressedCheckpoint(
        architecture=architecture_of(config, base),
        config=config,
        # training in half precision saves halves; everything after this computes in float32
        state={
            name: tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in state.items()
        },
        tokenizer=read_tokenizer_files(directory),
        provenance={"source": str(path), "base": base},
    )
