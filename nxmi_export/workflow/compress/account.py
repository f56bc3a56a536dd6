"""A finished run in, its `CompressResult` out, and what the model file says of its making."""

import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from nxmi_export._version import __version__
from nxmi_export.checkpoint import CompressedCheckpoint, checkpoint_sha256
from nxmi_export.workflow.compress.data import TaskData
from nxmi_export.workflow.compress.request import CompressRequest
from nxmi_export.workflow.compress.result import CompressResult
from nxmi_export.workflow.compress.run_log import RunLog
from nxmi_export.workflow.compress.stored import compression_of, stored_layers

__all__ = ["account", "provenance"]

_LIBRARIES = ("torch", "transformers", "accelerate", "numpy")
# Of a run's options, beside the recipe and the files.
_OPTIONS = (
    *("seed", "limit", "max_length", "precision", "compiled", "accumulation"),
    *("evaluate_on", "holdout"),
)
_KEPT = (  # of the result, by the model file
    "task",
    "task_description",
    "evaluated_on",
    "metrics",
    "compression",
    "options",
    "data",
    "source",
    "versions",
    "seconds",
)


def account(
    request: CompressRequest,
    source: CompressedCheckpoint,
    data: TaskData,
    model: PreTrainedModel,
    *,
    magnitude: Mapping[str, Tensor],
    metrics: Mapping[str, Mapping[str, float]],
    conditions: Mapping[str, Any],
    log: RunLog,
) -> CompressResult:
    """Everything worth knowing of the run; `metrics` are those of "dense" and "compressed".

    `magnitude` are the masks that the dense model's weights had by `magnitude_masks_of`;
    `conditions` join the options of the request.
    """
    layers, path = stored_layers(model, magnitude), Path(request.model)
    return CompressResult(
        output=request.output,
        task=request.task.name,
        task_description=request.task.description,
        primary_metric=request.task.primary_metric,
        evaluated_on=request.evaluate_on,
        dense=metrics["dense"],
        compressed=metrics["compressed"],
        compression=compression_of(layers.values()),
        layers=layers,
        recipe=request.recipe,
        options={
            "recipe": request.recipe_name,
            **{name: getattr(request, name) for name in _OPTIONS},
            **conditions,
        },
        data=data.as_json(),
        source={
            "path": request.model,
            "architecture": source.architecture,
            "sha256": checkpoint_sha256(path) if path.exists() else None,
        },
        versions={"nxmi-export": __version__, **{name: version(name) for name in _LIBRARIES}},
        seconds=log.seconds,
        history=tuple(entry for entry in log.entries if entry["event"] == "epoch"),
    )


def provenance(result: CompressResult) -> dict[str, Any]:
    """How the model was made and what it was measured to keep; the recipe has its own place.

    The model is given to others, whom the folders of this machine do not concern: files are told
    by name and hash.
    """
    facts = result.as_json()
    source, data = facts["source"], facts["data"]
    return {
        **{name: facts[name] for name in _KEPT},
        "source": {
            "name": _name(source["path"]),
            "architecture": source["architecture"],
            "sha256": source["sha256"],
        },
        "data": {
            "train": _named(data["train"]),
            "reported": [_named(each) for each in data["reported"]],
        },
    }


def _named(digest: Mapping[str, Any]) -> dict[str, Any]:
    return {**digest, "source": _name(digest["source"])}


def _name(source: str) -> str:
    """The last part of a local path, which may be "."; a name on the hub is one already."""
    return os.path.basename(os.path.abspath(source)) if Path(source).exists() else source
