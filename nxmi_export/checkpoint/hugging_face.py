"""A Hugging Face directory or hub name in, its configuration and its `CompressedCheckpoint` out."""

import json
import pickle
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import (
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from safetensors import SafetensorError
from transformers import PreTrainedModel

from nxmi_export.checkpoint.compressed import CompressedCheckpoint, read_tokenizer_files
from nxmi_export.errors import (
    CheckpointError,
    CheckpointMismatch,
    CheckpointNotFound,
    TruncatedCheckpoint,
    UnsafeCheckpoint,
    UnsupportedModel,
)

__all__ = [
    "CONFIGURATION",
    "WEIGHT_FILES",
    "architecture_of",
    "read_configuration",
    "read_hugging_face",
]

CONFIGURATION = "config.json"
_MANIFEST = "manifest.json"  # of an artefact
WEIGHT_FILES = ("model*.safetensors*", "pytorch_model*.bin*")


def read_hugging_face(model: str) -> CompressedCheckpoint:
    """Read a whole fine-tuned task model.

    A weight that is missing or does not fit is refused, and so is one of the encoder for which the
    configuration has no place: without it the model would be another than the one trained.
    """
    config, directory = read_configuration(model)
    if (directory / _MANIFEST).is_file() and not _has_weights(directory):
        raise CheckpointNotFound(
            model,
            expected="a model file, a Hugging Face directory or a hub name",
            found="an artefact, which is an export already",
            remedy="name the model that it was exported from",
        )
    architecture = architecture_of(config, model)
    loaded, info = _load(model, directory, architecture)
    for name, stored, wanted in sorted(info["mismatched_keys"]):
        raise CheckpointMismatch(
            model,
            expected=f"weights that fit {architecture}",
            found=f"{name} of shape {tuple(stored)} where {tuple(wanted)} belongs",
            remedy="check that the weights belong to this config.json",
        )
    missing = sorted(info["missing_keys"])
    if missing:
        # transformers fills these with random numbers and only warns
        raise CheckpointMismatch(
            model,
            expected=f"every weight of {architecture}",
            found=f"{len(missing)} missing, the first being {missing[0]}",
            remedy="fine-tune the model on its task and save it first",
        )
    # older transformers saved buffers (position_ids) that newer ones rebuild
    rebuilt = {name for part in (loaded, loaded.base_model) for name, _ in part.named_buffers()}
    unexpected = set(info["unexpected_keys"]) - rebuilt
    left_over = sorted(_of_the_encoder(unexpected, loaded))
    if left_over:
        raise CheckpointMismatch(
            model,
            expected=f"an encoder all of which {architecture} has by this config.json",
            found=f"{len(left_over)} weights without a place, the first being {left_over[0]}",
            remedy="check that the weights belong to this config.json",
        )
    return CompressedCheckpoint(
        architecture=architecture,
        config=config,
        state=loaded.state_dict(),
        tokenizer=read_tokenizer_files(directory),
        provenance={"source": model},
    )


def read_configuration(model: str) -> tuple[dict[str, Any], Path]:
    """The configuration and the local directory of a Hugging Face directory or hub name."""
    directory = Path(model)
    if not directory.is_dir():
        directory = _download(model)
    path = directory / CONFIGURATION
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
    if not isinstance(config, dict):
        raise CheckpointError(
            path,
            expected="a JSON object",
            found=f"a {type(config).__name__}",
            remedy="save the model again",
        )
    return config, directory


def architecture_of(config: Mapping[str, Any], source: str) -> str:
    """The transformers class that `config` names.

    Raises UnsupportedModel unless it is a sequence classifier, and CheckpointMismatch where the
    configuration is that of another family.
    """
    names = config.get("architectures") or []
    heads = [name for name in names if name.endswith("ForSequenceClassification")]
    if not heads or not hasattr(transformers, heads[0]):
        raise UnsupportedModel(
            source,
            expected="a sequence-classification model",
            found=", ".join(names) or "no architecture in config.json",
            remedy="fine-tune an AutoModelForSequenceClassification from it and save that",
        )
    model_type = getattr(transformers, heads[0]).config_class.model_type
    if config.get("model_type") != model_type:
        raise CheckpointMismatch(
            source,
            expected=f"the model_type {model_type!r} of {heads[0]}",
            found=repr(config.get("model_type")),
            remedy="save the model again with model.save_pretrained(directory)",
        )
    return str(heads[0])


def _of_the_encoder(names: Iterable[str], model: PreTrainedModel) -> Iterator[str]:
    """Those of `names` that belong to what runs: heads of pre-training and their pooler do not.

    Files of a bare encoder have no prefix, and transformers reads them all the same.
    """
    prefix = model.base_model_prefix
    parts = {name for name, _ in model.base_model.named_children()} - {"pooler"}
    for name in names:
        first, _, rest = name.partition(".")
        if rest.partition(".")[0] != "pooler" if first == prefix else first in parts:
            yield name


def _load(model: str, directory: Path, architecture: str) -> tuple[Any, dict[str, Any]]:
    task_model: type[Any] = getattr(transformers, architecture)
    try:
        with _quiet_transformers():
            return task_model.from_pretrained(  # type: ignore[no-any-return]
                str(directory),
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused by the caller, by name
                dtype=torch.float32,
            )
    except pickle.UnpicklingError as error:
        raise UnsafeCheckpoint(
            model,
            expected="tensors and plain data only",
            found="a weight file whose pickle wants more, which was not executed",
            remedy="save the model again with model.save_pretrained(directory)",
        ) from error
    except (SafetensorError, EOFError, RuntimeError, OSError) as error:
        if not _has_weights(directory):
            raise CheckpointNotFound(
                model,
                expected="model.safetensors or pytorch_model.bin beside config.json",
                found="neither",
                remedy="save the model with model.save_pretrained(directory)",
            ) from error
        raise TruncatedCheckpoint(
            model,
            expected="whole weight files",
            found="a damaged or missing part",
            remedy="copy or download the directory again",
        ) from error
    except Exception as error:  # transformers' own checks of a configuration raise many kinds
        raise CheckpointMismatch(
            model,
            expected=f"a configuration that builds {architecture}",
            found=" ".join(str(error).split()),
            remedy="correct config.json or save the model again",
        ) from error


def _has_weights(directory: Path) -> bool:
    return any(path for pattern in WEIGHT_FILES for path in directory.glob(pattern))


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
            found=_why_not(error),
            remedy="check the name, the network and HF_HUB_OFFLINE, or download it first",
        ) from error


def _why_not(error: OSError | HFValidationError) -> str:
    match error:
        case LocalEntryNotFoundError():
            return "nothing on disk, and the hub did not answer"
        case RepositoryNotFoundError():
            return "nothing on disk, and nothing on the hub that may be read"
        case HFValidationError():
            return "nothing on disk, and no name that the hub can have"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without its progress bars and its report of keys, which become errors with a sentence."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
