"""Everything that decides the final weights of a run, hashed: what a snapshot is bound to."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from nxmi_export.compression.training.options import RunOptions
from nxmi_export.encoding import EncodedDataset

__all__ = ["ADJUSTABLE", "Fingerprint", "fingerprint"]

Fingerprint = dict[str, str]  # what it is, as a user would name it, to its value or hash

# Settings of training that a run can go on with after they were changed, by their names here: those
# that lay out neither its steps nor what a snapshot holds.
ADJUSTABLE = {
    "learning rate": "learning_rate",
    "scale learning rate": "scale_learning_rate",
    "clip norm": "clip_norm",
    "weight decay": "weight_decay",
}


def fingerprint(
    model: nn.Module,
    data: EncodedDataset,
    recipe: Mapping[str, Any],
    options: RunOptions,
    *,
    processes: int,
) -> Fingerprint:
    """Describe a run before it edits `model`; equal runs have equal fingerprints."""
    training = dict(recipe.get("training", {}))
    adjustable = {name: str(training.pop(key, None)) for name, key in ADJUSTABLE.items()}
    # Of overrides the first that matches counts, and sorting keys would hide which that is.
    overrides = list(recipe.get("overrides", {}).items())
    rest = {**recipe, "training": training, "overrides": overrides}
    return {
        "model weights": _weights_digest(model.state_dict()),
        "training data": _data_digest(data),
        "recipe": hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest(),
        **adjustable,
        "seed": str(options.seed),
        "precision": options.precision,
        "compiled": "yes" if options.compiled else "no",
        "accumulation": str(options.accumulation),
        "processes": str(processes),
        # sums are cut differently on another device, for another number of threads or version
        "device": next(model.parameters()).device.type,
        "threads": str(torch.get_num_threads()),
        "torch version": str(torch.__version__),
        "transformers version": transformers.__version__,
    }


def _weights_digest(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _data_digest(data: EncodedDataset) -> str:
    dataset = data.dataset
    digest = hashlib.sha256(f"{dataset.task.identity} {dataset.split} {dataset.sha256}\n".encode())
    digest.update(dataset.labels.tobytes())
    for row in data.rows:
        for name, ids in row.items():
            digest.update(f"{name} {len(ids)}\n".encode())
            digest.update(ids.tobytes())
    return digest.hexdigest()
