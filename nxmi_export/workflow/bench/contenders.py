"""An artefact and a request in, everything that could run it out; what cannot will say why."""

import json
from pathlib import Path

from nxmi_export.artefact import CPU_MODEL, MODEL, Artefact, sha256_of
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.backends.torch_eager import TorchRunner
from nxmi_export.bench import Contender
from nxmi_export.bench.dense_model import dense_model
from nxmi_export.errors import ArtefactError, UsageError
from nxmi_export.workflow.bench.engines import engine_contenders
from nxmi_export.workflow.bench.request import BASELINE, BenchRequest

__all__ = ["contenders", "model_config"]


def contenders(artefact: Artefact, request: BenchRequest) -> tuple[Contender, ...]:
    """In the order of the table.

    Raises ArtefactError for a file of `against` that is not there, UsageError for two of one name.
    """
    found = (
        _pytorch(artefact),
        _onnxruntime(artefact, "onnxruntime", CPU_MODEL, request.threads),
        _onnxruntime(artefact, "onnxruntime-portable", MODEL, request.threads),
        *engine_contenders(artefact, cuda_graph=request.cuda_graph),
        *(_other(path, request.threads) for path in request.against),
    )
    keys = [each.key for each in found]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise UsageError(
            "--against",
            expected="files whose names tell them apart in the results",
            found=f"two of {twice[0]}",
            remedy="rename one",
        )
    return found


def model_config(artefact: Artefact) -> dict[str, object]:
    """The content of config.json."""
    config: dict[str, object] = json.loads(artefact.path("config.json").read_bytes())
    return config


def _pytorch(artefact: Artefact) -> Contender:
    def open_() -> TorchRunner:
        model = dense_model(artefact.manifest.architecture, model_config(artefact))
        return TorchRunner(model, artefact.manifest.input_names, name=BASELINE)

    return Contender(
        BASELINE,
        "PyTorch, dense float32",
        open_,
        {"architecture": artefact.manifest.architecture, "weights": "random"},
    )


def _onnxruntime(artefact: Artefact, key: str, name: str, threads: int | None) -> Contender:
    path = artefact.path(name)
    return Contender(
        key,
        f"onnxruntime, {name}",
        lambda: OnnxRuntimeRunner(path, optimize=True, threads=threads),
        {"file": name, "sha256": artefact.manifest.files[name].sha256},
    )


def _other(path: Path, threads: int | None) -> Contender:
    if not path.is_file():
        raise ArtefactError(
            path,
            expected="an ONNX model to compare with",
            found="no file",
            remedy="correct the path",
        )
    return Contender(
        path.name,
        f"onnxruntime, other file {path.name}",
        lambda: OnnxRuntimeRunner(path, optimize=True, threads=threads),
        {"file": path.name, "sha256": sha256_of(path)},
    )
