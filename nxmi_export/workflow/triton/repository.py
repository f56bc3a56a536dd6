"""An artefact and a request in, one model of a Triton repository out, whole or not at all.

repository/NAME/config.pbtxt
repository/NAME/labels.txt
repository/NAME/warmup/ones_128
repository/NAME/1/model.plan        or model.cpu.onnx and model.onnx.data
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx.helper

from nxmi_export._version import __version__
from nxmi_export.artefact import Artefact, sha256_of
from nxmi_export.errors import ArtefactError, OutputError
from nxmi_export.output_files import atomic_directory
from nxmi_export.workflow.triton.model_config import LABELS, MASK, model_config, ones_file
from nxmi_export.workflow.triton.pbtxt import to_pbtxt
from nxmi_export.workflow.triton.request import TritonRequest
from nxmi_export.workflow.triton.served_model import ServedModel

__all__ = ["CONFIG", "TritonModel", "write_repository"]

CONFIG = "config.pbtxt"
VERSION = "1"


@dataclass(frozen=True)
class TritonModel:
    """What was written."""

    folder: Path  # repository/NAME
    served: ServedModel


def write_repository(artefact: Artefact, request: TritonRequest) -> TritonModel:
    """Add one model to a repository, which may be new; other models in it are left alone.

    `artefact` was read, and so its hashes were checked; those of the copies are checked again.
    Raises OutputError for a model of that name and for a place that cannot be written, else as
    `ServedModel.read` does.
    """
    served = ServedModel.read(artefact, request)
    folder = request.repository / request.name
    _check_new(folder, request)
    config = to_pbtxt(model_config(artefact, request, served), comment=_comment(artefact, served))
    # A repository that this makes appears with its model, or not at all.
    target = folder if request.repository.is_dir() else request.repository
    with atomic_directory(target) as temporary:
        inside = temporary if target == folder else temporary / request.name
        (inside / VERSION).mkdir(parents=True)
        for name in served.files:
            _copy(artefact, name, inside / VERSION)
        _write_warm_up(served, inside)
        if len(artefact.manifest.labels) > 1:
            labels = "".join(f"{label}\n" for label in artefact.manifest.labels)
            (inside / LABELS).write_text(labels, encoding="utf-8")
        (inside / CONFIG).write_text(config, encoding="utf-8")
    return TritonModel(folder, served)


def _check_new(folder: Path, request: TritonRequest) -> None:
    if request.repository.exists() and not request.repository.is_dir():
        raise OutputError(
            request.repository,
            expected="a folder or an unused name",
            found="a file",
            remedy="choose another with -o",
        )
    if folder.exists():
        raise OutputError(
            folder,
            expected="a model that the repository does not have yet",
            found="one of this name",
            remedy="choose another with --name, or delete the folder yourself",
        )


def _comment(artefact: Artefact, served: ServedModel) -> list[str]:
    """Where the model came from, and what it needs; nothing of this machine."""
    manifest = artefact.manifest
    origin = [f"{name} has SHA-256 {manifest.files[name].sha256}" for name in served.files]
    shape = f"{served.tuned.batch} x {served.tuned.sequence}"
    return [
        f"Written by nxmi-export {__version__} from an artefact of {manifest.created}.",
        *(f"{line}." for line in origin),
        f"Its checkpoint has SHA-256 {manifest.source.sha256}."
        if manifest.source.sha256
        else f"Its checkpoint is {manifest.source.path}.",
        f"Needs {served.needs}.",
        *([] if served.narrowed is None else [f"Note: {served.narrowed}."]),
        f"Tuned for {shape} tokens, {served.longest} at most. Only requests of one length share",
        "a batch: pad to few lengths.",
    ]


def _copy(artefact: Artefact, name: str, folder: Path) -> None:
    """A copy with the manifest's hash; the artefact may have been rebuilt since it was read."""
    shutil.copyfile(artefact.path(name), folder / name)
    if sha256_of(folder / name) != artefact.manifest.files[name].sha256:
        raise ArtefactError(
            artefact.directory / name,
            expected="the file that the manifest describes",
            found="other contents, written while it was copied",
            remedy="run the command again",
        )


def _write_warm_up(served: ServedModel, folder: Path) -> None:
    """One mask of the tuned length, in the type of the input; Triton repeats it over the batch."""
    (mask,) = (each for each in served.inputs if each.name == MASK)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(mask.onnx_type)
    (folder / "warmup").mkdir()
    (folder / "warmup" / ones_file(served)).write_bytes(
        np.ones(served.tuned.sequence, dtype).tobytes()
    )
