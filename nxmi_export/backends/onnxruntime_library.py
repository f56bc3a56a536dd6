"""onnxruntime itself: found or refused, its sessions opened, and what they refuse.

Reads no graph, so that whoever serves a model needs no library that does.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from nxmi_export.backends.runner import Feeds
from nxmi_export.errors import ArtefactError, CapabilityMissing, ShapeError
from nxmi_export.process_memory import return_freed_memory

__all__ = [
    "find_onnxruntime",
    "open_session",
    "refusals",
    "unfit_batch",
    "unloadable",
]


def find_onnxruntime() -> ModuleType:
    """The library; raises CapabilityMissing where it does not load."""
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise CapabilityMissing(
            "onnxruntime",
            expected="an installation that loads",
            found=str(error),
            remedy="run `pip install onnxruntime`",
        ) from error


def open_session(ort: ModuleType, model: bytes | str, options: Any) -> Any:
    """`onnxruntime.InferenceSession` on the CPU over the bytes of a file, or the file named.

    It holds one copy of the weights of products, packed for its kernels; tables stay in the mapped
    file. On the way onnxruntime makes up to another copy and frees it, which is given back here.
    """
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return_freed_memory()
    return session


def refusals(ort: ModuleType) -> tuple[type[Exception], ...]:
    """What onnxruntime raises about a model; its exceptions share no base class below Exception."""
    states = ort.capi.onnxruntime_pybind11_state
    return (
        states.Fail,
        states.InvalidArgument,
        states.InvalidGraph,
        states.InvalidProtobuf,
        states.NoModel,
        states.NoSuchFile,
        states.NotImplemented,
        states.RuntimeException,
    )


def unloadable(path: Path, error: Exception) -> ArtefactError:
    """What to say of a file that onnxruntime does not open."""
    return ArtefactError(
        path,
        expected="a model that onnxruntime can load",
        found=" ".join(str(error).split()),
        remedy="export it again, or update onnxruntime where it names an unknown operator",
    )


def unfit_batch(name: str, feeds: Feeds, error: Exception) -> ShapeError:
    """What to say of a batch on which the graph fails, as it does beyond the last position."""
    shapes = ", ".join(f"{key} {'×'.join(map(str, each.shape))}" for key, each in feeds.items())
    return ShapeError(
        f"{name}: a batch of {shapes}",
        expected="as many tokens as the model has positions, and ids of its vocabulary",
        found=" ".join(str(error).split()),
        remedy="shorten the batch to position_limit in manifest.json, or encode it again",
    )
