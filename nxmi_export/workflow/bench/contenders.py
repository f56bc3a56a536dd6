"""An artefact and a request in, everything that could run it out; what cannot will say why."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx_ir as ir
import torch
import transformers
from transformers import PreTrainedModel

from nxmi_export.artefact import CPU_MODEL, MODEL, Artefact
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.backends.openvino_library import products
from nxmi_export.backends.openvino_session import OpenVinoRunner
from nxmi_export.backends.torch_eager import TorchRunner
from nxmi_export.bench import Alone, Contender, NotRun
from nxmi_export.bench.dense_model import dense_model
from nxmi_export.capture import capture
from nxmi_export.errors import CapabilityMissing, UsageError
from nxmi_export.workflow.bench.engines import engine_contenders
from nxmi_export.workflow.bench.other_files import other_contenders
from nxmi_export.workflow.bench.request import BASELINE, BenchRequest

__all__ = ["OPENVINO", "contenders", "model_config"]

OPENVINO = "openvino"
_BFLOAT16, _FLOAT = "pytorch-bfloat16", "onnxruntime-float32"
_ONNXRUNTIME = Alone(libraries=("onnxruntime",))


def contenders(artefact: Artefact, request: BenchRequest) -> tuple[Contender, ...]:
    """In the order of the table.

    Raises ArtefactError for a file of `against` that is not there, UsageError for one of another
    format and for two of one name.
    """
    found = (
        _pytorch(artefact),
        _pytorch_bfloat16(artefact),
        _onnxruntime_float(artefact, request.threads),
        _onnxruntime(artefact, "onnxruntime", CPU_MODEL, request.threads),
        _onnxruntime(artefact, "onnxruntime-portable", MODEL, request.threads),
        _openvino(artefact, request.threads),
        *engine_contenders(artefact, cuda_graph=request.cuda_graph),
        *chain.from_iterable(other_contenders(path, request.threads) for path in request.against),
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
        return TorchRunner(_dense(artefact), artefact.manifest.input_names, name=BASELINE)

    return Contender(
        BASELINE,
        "PyTorch, dense float32",
        open_,
        _of_dense(artefact),
        alone=Alone(libraries=(_modelling(artefact),)),
    )


def _pytorch_bfloat16(artefact: Artefact) -> Contender:
    def open_() -> TorchRunner | NotRun:
        if not _multiplies_bfloat16():
            return NotRun("this processor does not multiply bfloat16")
        model = _dense(artefact).bfloat16()
        return TorchRunner(model, artefact.manifest.input_names, name=_BFLOAT16)

    return Contender(
        _BFLOAT16,
        "PyTorch, dense bfloat16",
        open_,
        _of_dense(artefact),
        alone=Alone(libraries=(_modelling(artefact),)),
    )


def _modelling(artefact: Artefact) -> str:
    """The module that defines its architecture, which transformers imports on first use."""
    defined: str = getattr(transformers, artefact.manifest.architecture).__module__
    return defined


def _multiplies_bfloat16() -> bool:
    # Elsewhere PyTorch emulates it, many times slower than float32.
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _onnxruntime_float(artefact: Artefact, threads: int | None) -> Contender:
    """The dense model as any exporter would write it: what compression is faster than."""

    def written(folder: Path) -> Path:
        manifest = artefact.manifest
        graph = capture(
            _dense(artefact),
            input_names=manifest.input_names,
            position_limit=manifest.position_limit,
        ).model
        path = folder / "dense.onnx"
        ir.save(graph, path, external_data="dense.onnx.data")
        return path

    @contextmanager
    def open_() -> Iterator[OnnxRuntimeRunner]:
        with (
            TemporaryDirectory(prefix="nxmi-export-") as folder,
            OnnxRuntimeRunner(written(Path(folder)), optimize=True, threads=threads) as runner,
        ):
            yield runner

    return Contender(
        _FLOAT,
        "onnxruntime, dense float32",
        open_,
        _of_dense(artefact),
        alone=Alone(written=written),
    )


def _dense(artefact: Artefact) -> PreTrainedModel:
    return dense_model(artefact.manifest.architecture, model_config(artefact))


def _of_dense(artefact: Artefact) -> dict[str, str]:
    return {"architecture": artefact.manifest.architecture, "weights": "random"}


def _onnxruntime(artefact: Artefact, key: str, name: str, threads: int | None) -> Contender:
    path = artefact.path(name)
    entries = artefact.manifest.session_options if name == CPU_MODEL else {}
    return Contender(
        key,
        f"onnxruntime, {name}",
        lambda: OnnxRuntimeRunner(path, optimize=True, threads=threads, entries=entries),
        {"file": name, "sha256": artefact.manifest.files[name].sha256},
        alone=_ONNXRUNTIME,
    )


def _openvino(artefact: Artefact, threads: int | None) -> Contender:
    path, what = artefact.path(MODEL), f"OpenVINO, {MODEL}"
    facts = {"file": MODEL, "sha256": artefact.manifest.files[MODEL].sha256}
    try:
        kind = products()
    except CapabilityMissing as missing:
        absent = NotRun(str(missing))
        return Contender(OPENVINO, what, lambda: absent, facts)
    told = what if kind == "int8" else f"{what} in {kind}"
    return Contender(
        OPENVINO,
        told,
        lambda: OpenVinoRunner(path, threads=threads),
        {**facts, "products": kind},
        alone=Alone(libraries=("openvino",)),
    )
