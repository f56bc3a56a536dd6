"""An engine's layers in, the plain data of `layers_*.json` out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nxmi_export.backends.nvidia_driver import NvidiaDriver
from nxmi_export.backends.tensorrt_engine.build_log import EngineLayer, Operand
from nxmi_export.backends.tensorrt_engine.library import Library
from nxmi_export.backends.tensorrt_engine.logger import Recording, recording
from nxmi_export.backends.tensorrt_engine.progress import Deferred
from nxmi_export.backends.tensorrt_engine.start_runtime import start_runtime
from nxmi_export.errors import CapabilityMissing

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["Inspection", "inspect_plan", "layer_info", "read_inspector_json"]

SCHEMA = "nxmi-export/layers/1"


@dataclass(frozen=True, slots=True)
class Inspection:
    """What TensorRT's own inspector says of a plan, or why it says nothing."""

    engine: Any = None  # its JSON, whose keys differ between releases
    reason: str | None = None


def layer_info(
    layers: Sequence[EngineLayer], modules: Mapping[str, str], inspection: Inspection
) -> dict[str, Any]:
    """Every layer of the build log, and the inspector's own JSON where a GPU let it speak.

    `modules` maps the names of ONNX nodes to the PyTorch modules they came from.
    """
    return {
        "schema": SCHEMA,
        "source": "the build log",
        "layers": [_layer(layer, modules) for layer in layers],
        "inspector": {"engine": inspection.engine, "unavailable": inspection.reason},
    }


def inspect_plan(plan: Path, library: Library, driver: NvidiaDriver | None) -> Inspection:
    """Load the plan and inspect it, which needs the GPU it was built for."""
    if driver is None or not driver.gpus:
        return Inspection(reason="no NVIDIA driver, without which no plan is loaded")
    deferred = Deferred()
    with recording(library, deferred) as (logger, record):
        found = _inspect(plan, library, logger, record)
    deferred.reraise()
    return found


def read_inspector_json(text: str) -> Any:
    """What the inspector wrote; raises ValueError for what no strict JSON could keep.

    TensorRT 10 separates the ONNX nodes of a layer by U+001E, which JSON wants escaped.
    """
    return json.loads(text, strict=False, parse_constant=_refuse_constant)


def _inspect(plan: Path, library: Library, logger: "trt.ILogger", record: Recording) -> Inspection:
    try:
        runtime = start_runtime(library, logger)
    except CapabilityMissing as missing:
        return Inspection(reason=str(missing))
    engine = runtime.deserialize_cuda_engine(plan.read_bytes())
    if engine is None:
        return Inspection(reason="; ".join(record.errors) or "the plan was not loaded")
    text = engine.create_engine_inspector().get_engine_information(
        library.module.LayerInformationFormat.JSON
    )
    try:
        return Inspection(read_inspector_json(text))
    except ValueError as error:
        # The plan is finished: this account of it is missing, and nothing else.
        return Inspection(reason=f"the inspector's account is no JSON: {error}")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"the constant {name}")


def _layer(layer: EngineLayer, modules: Mapping[str, str]) -> dict[str, Any]:
    found = (modules.get(node, "") for node in layer.onnx_nodes)
    return {
        "name": layer.name,
        "type": layer.type,
        "inputs": [_operand(each) for each in layer.inputs],
        "constants": [_operand(each) for each in layer.constants],
        "outputs": [_operand(each) for each in layer.outputs],
        "tactic": layer.tactic,
        "onnx_nodes": list(layer.onnx_nodes),
        "modules": list(dict.fromkeys(module for module in found if module)),
    }


def _operand(operand: Operand) -> dict[str, Any]:
    return {
        "name": operand.name,
        "dimensions": list(operand.dimensions),
        "datatype": operand.datatype,
    }
