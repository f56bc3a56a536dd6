"""The engine inspector's JSON in, the engine's layers out, as a build log gives them.

`trtexec --exportLayerInfo=layers.json` writes it, for an engine that was built with
`--profilingVerbosity=detailed`; `nxmi-export build` keeps it in `layers_*.json` where a GPU is.
TensorRT 10 and earlier name the engine's tensors in `Bindings` and write one `Format/Datatype`; 11
describes them in `I/O Tensors` and writes `Datatype` and `Format`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nxmi_export.backends.tensorrt_engine.build_log import (
    EngineLayer,
    Operand,
    datatype_in,
    onnx_nodes_in,
)
from nxmi_export.backends.tensorrt_engine.layer_info import SCHEMA, read_inspector_json
from nxmi_export.errors import UsageError

__all__ = ["read_layer_info"]

_DATATYPES = ("Datatype", "DataType", "Format/Datatype")


def read_layer_info(path: Path) -> tuple[EngineLayer, ...]:
    """Every layer of the file, in its order; its `line` says which of them it is.

    Raises UsageError for what is no such file, and for one that lists names only.
    """
    try:
        content = read_inspector_json(path.read_text(encoding="utf-8"))
        layers = _inspected(path, content)["Layers"]
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(path, "something else") from error
    if not isinstance(layers, list) or not layers:
        raise _unreadable(path, "no layers")
    return tuple(_layer(path, number, each) for number, each in enumerate(layers, start=1))


def _inspected(path: Path, content: Any) -> Any:
    """The inspector's own JSON, also within the file that a build leaves."""
    if content.get("schema") != SCHEMA:
        return content
    inspector = content["inspector"]
    if inspector["engine"] is None:
        raise UsageError(
            path,
            expected="the inspector's account of the plan, beside that of the build log",
            found=f"none: {inspector['unavailable']}",
            remedy="build the engine on a machine with its GPU, or leave --layer-info out",
        )
    return inspector["engine"]


def _layer(path: Path, number: int, facts: object) -> EngineLayer:
    if isinstance(facts, str):
        raise _unreadable(path, "the names of layers alone")
    if not isinstance(facts, dict) or not isinstance(facts.get("Name"), str):
        raise _unreadable(path, f"a layer {number} without a name")
    try:
        return EngineLayer(
            name=facts["Name"],
            type=str(facts.get("LayerType", "")),
            inputs=_operands(facts, "Inputs"),
            constants=_operands(facts, "Constants"),
            outputs=_operands(facts, "Outputs"),
            tactic=str(facts.get("TacticName", "")),
            onnx_nodes=onnx_nodes_in(str(facts.get("Metadata", ""))),
            line=f"layer {number} of {path.name}",
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(path, f"a layer {number} with tensors of another form") from error


def _operands(facts: Mapping[str, Any], key: str) -> tuple[Operand, ...]:
    return tuple(
        Operand(
            each["Name"],
            tuple(int(size) for size in each["Dimensions"]),
            datatype_in(each[next((key for key in _DATATYPES if key in each), "Datatype")]),
        )
        for each in facts.get(key) or ()
    )


def _unreadable(path: Path, found: str) -> UsageError:
    return UsageError(
        path,
        expected="what trtexec --exportLayerInfo writes of an engine built in detail",
        found=found,
        remedy="build with --profilingVerbosity=detailed and export the layers again",
    )
