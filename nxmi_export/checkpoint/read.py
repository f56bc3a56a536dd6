"""A path or hub name in, a `CompressedCheckpoint` out."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError

from nxmi_export.checkpoint.compressed import CompressedCheckpoint, read_tokenizer_files
from nxmi_export.checkpoint.model_file import load_mapping, parse_checkpoint
from nxmi_export.errors import (
    CheckpointError,
    CheckpointMismatch,
    CheckpointNotFound,
    TruncatedCheckpoint,
    UnsupportedModel,
)

__all__ = ["read_checkpoint"]


def read_checkpoint(model: str, *, base: str | None = None) -> CompressedCheckpoint:
    """Read a `model.pt`, a Hugging Face directory, or a model by its hub name.

    A file that is a bare state dict carries no configuration: `base` names the directory or hub
    model that does. Raises the errors below CheckpointError, each saying what to do.
    """
    path = Path(model)
    if path.is_dir():
        return _from_transformers(model, path)
    if path.is_file():
        content = load_mapping(path)
        if "format" in content:
            return parse_checkpoint(content, path)
        return _from_state_dict(path, content, base)
    if path.suffix or model.count("/") > 1 or model.startswith((".", "/", "~")):
        raise CheckpointNotFound(
            model,
            expected="a model file, a Hugging Face directory or a hub name",
            found="nothing at this path",
            remedy="check the spelling and the working directory",
        )
    return _from_transformers(model, None)


def _from_state_dict(path: Path, content: dict[str, Any], base: str | None) -> CompressedCheckpoint:
    state = content.get("state_dict", content)
    strange = [key for key, value in state.items() if not isinstance(value, torch.Tensor)]
    if strange:
        raise CheckpointError(
            path,
            expected="a compressed checkpoint or a state dict of tensors",
            found=f"the key {strange[0]!r} with a {type(state[strange[0]]).__name__}",
            remedy="save model.state_dict()",
        )
    if base is None:
        raise CheckpointError(
            path,
            expected="a configuration beside the weights",
            found="a bare state dict",
            remedy="pass --base with the directory or hub name it was trained from",
        )
    config, directory = _configuration(base)
    return CompressedCheckpoint(
        architecture=_architecture(config, base),
        config=config,
        state=state,
        tokenizer=read_tokenizer_files(directory),
        provenance={"source": str(path), "base": base},
    )


def _from_transformers(model: str, directory: Path | None) -> CompressedCheckpoint:
    config, directory = _configuration(model)
    architecture = _architecture(config, model)
    task_model: type[Any] = getattr(transformers, architecture)
    try:
        loaded, info = task_model.from_pretrained(
            str(directory), output_loading_info=True, dtype=torch.float32
        )
    except SafetensorError as error:
        raise TruncatedCheckpoint(
            model,
            expected="complete weight files",
            found=str(error),
            remedy="copy or download the directory again",
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointMismatch(
            model,
            expected=f"weights that fit {architecture}",
            found=" ".join(str(error).split())[:200],
            remedy="check that the weights belong to this config.json",
        ) from error
    missing = sorted(info["missing_keys"])
    if missing:
        # transformers would fill these with random numbers and only warn
        raise CheckpointMismatch(
            model,
            expected=f"every weight of {architecture}",
            found=f"{len(missing)} missing, the first being {missing[0]}",
            remedy="fine-tune the model on its task and save it first",
        )
    return CompressedCheckpoint(
        architecture=architecture,
        config=config,
        state=loaded.state_dict(),
        tokenizer=read_tokenizer_files(directory),
        provenance={"source": model},
    )


def _configuration(model: str) -> tuple[dict[str, Any], Path]:
    """The configuration and the local directory of a Hugging Face directory or hub name."""
    directory = Path(model)
    if not directory.is_dir():
        directory = _download(model)
    path = directory / "config.json"
    if not path.is_file():
        raise CheckpointNotFound(
            model,
            expected="a Hugging Face directory with config.json",
            found="no config.json in it",
            remedy="save the model with model.save_pretrained(directory)",
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TruncatedCheckpoint(
            path, expected="JSON", found=str(error), remedy="save the model again"
        ) from error
    return config, directory


def _download(model: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(model, ignore_patterns=["*.h5", "*.msgpack", "*.ot", "onnx/*"])
        )
    except (OSError, HFValidationError) as error:
        raise CheckpointNotFound(
            model,
            expected="a local path or a hub model that can be reached",
            found=type(error).__name__,
            remedy="check the name, the network and HF_HUB_OFFLINE, or download it first",
        ) from error


def _architecture(config: dict[str, Any], source: str) -> str:
    names = config.get("architectures") or []
    heads = [name for name in names if name.endswith("ForSequenceClassification")]
    if not heads or not hasattr(transformers, heads[0]):
        raise UnsupportedModel(
            source,
            expected="a sequence-classification model",
            found=", ".join(names) or "no architecture in config.json",
            remedy="fine-tune an AutoModelForSequenceClassification from it and save that",
        )
    return str(heads[0])
