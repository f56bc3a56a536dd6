"""onnxruntime itself: found or refused, how its sessions are set up, and what they refuse.

Reads no graph, so that whoever serves a model needs no library that does.
"""

import importlib
from collections.abc import Mapping
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
    "session_options",
    "unfit_batch",
    "unloadable",
]

# Lets a model given as bytes find its external weights beside the file it came from.
_EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
_FATAL_ONLY = 4  # onnxruntime's log severity; refusals reach the caller as exceptions.


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


def session_options(
    ort: ModuleType,
    folder: Path,
    *,
    optimize: bool,
    threads: int | None,
    entries: Mapping[str, str],
) -> Any:
    """`onnxruntime.SessionOptions` for a file in `folder`, with further configuration `entries`.

    `optimize` allows every fusion or none; `threads` bounds those of one operator, None leaves the
    choice to onnxruntime.
    """
    options = ort.SessionOptions()
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    options.log_severity_level = _FATAL_ONLY
    if threads is not None:
        options.intra_op_num_threads = threads
    options.add_session_config_entry(_EXTERNAL_FOLDER, str(folder.resolve()))
    # Else its threads spin on after a run, on the processors of whatever runs next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return options


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
