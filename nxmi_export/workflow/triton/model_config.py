"""A served model in, the message `ModelConfig` that config.pbtxt holds out.

Fields and their meaning are those of Triton's model_config.proto.
"""

from collections.abc import Iterator
from typing import Any

import onnx

from nxmi_export.artefact import Artefact
from nxmi_export.errors import ArtefactError
from nxmi_export.workflow.triton.pbtxt import Symbol
from nxmi_export.workflow.triton.request import TritonRequest
from nxmi_export.workflow.triton.served_model import ServedModel, Tensor

__all__ = ["LABELS", "MASK", "model_config", "ones_file"]

LABELS = "labels.txt"
MASK = "attention_mask"

_TYPES: dict[int, str] = {
    onnx.TensorProto.INT32: "TYPE_INT32",
    onnx.TensorProto.INT64: "TYPE_INT64",
    onnx.TensorProto.FLOAT16: "TYPE_FP16",
    onnx.TensorProto.FLOAT: "TYPE_FP32",
}


def model_config(artefact: Artefact, request: TritonRequest, served: ServedModel) -> dict[str, Any]:
    """Every field, in the order of the file; requests may have any length, the same in a batch."""
    preferred = sorted({served.tuned.batch, served.largest})
    batching: dict[str, Any] = {"preferred_batch_size": preferred}
    if request.queue_delay:
        batching["max_queue_delay_microseconds"] = request.queue_delay
    on_gpu = request.backend == "tensorrt"
    config: dict[str, Any] = {
        "name": request.name,
        "backend": request.backend,
        "default_model_filename": served.files[0],
        "max_batch_size": served.largest,
        "input": [
            {"name": each.name, "data_type": _type(artefact, each), "dims": -1}
            for each in served.inputs
        ],
        "output": [_output(artefact, served)],
        "instance_group": [_instances(served, on_gpu=on_gpu)],
        "dynamic_batching": batching,
    }
    if on_gpu:
        config["optimization"] = {"cuda": {"graphs": True, "graph_spec": list(_graphs(served))}}
    # Triton's onnxruntime backend optimizes graphs fully unless it is told a level.
    return config | {"model_warmup": list(_warm_up(artefact, served))}


def ones_file(served: ServedModel) -> str:
    """The name of the warm-up's file of ones, which keep every token."""
    return f"ones_{served.tuned.sequence}"


def _output(artefact: Artefact, served: ServedModel) -> dict[str, Any]:
    labels = artefact.manifest.labels
    output = {
        "name": served.output.name,
        "data_type": _type(artefact, served.output),
        "dims": len(labels),
    }
    # A regression has a number and no class to name.
    return output | ({"label_filename": LABELS} if len(labels) > 1 else {})


def _instances(served: ServedModel, *, on_gpu: bool) -> dict[str, Any]:
    """One: a second on the same device would share its processors and double the memory."""
    group: dict[str, Any] = {"count": 1, "kind": Symbol("KIND_GPU" if on_gpu else "KIND_CPU")}
    if served.profiles > 1:
        # Triton runs a batch in the profile it fits, among those that are named.
        group["profile"] = [str(index) for index in range(served.profiles)]
    return group


def _graphs(served: ServedModel) -> Iterator[dict[str, Any]]:
    """CUDA graphs for a lone request and for a full batch, both at the length it is tuned for."""
    for batch in sorted({1, served.tuned.batch}):
        yield {
            "batch_size": batch,
            "input": [
                {"key": each.name, "value": {"dim": served.tuned.sequence}}
                for each in served.inputs
            ],
        }


def _warm_up(artefact: Artefact, served: ServedModel) -> Iterator[dict[str, Any]]:
    """The same two shapes, run before the model counts as ready: all ids 0, no token masked."""
    for batch in sorted({1, served.tuned.batch}):
        yield {
            "name": f"batch of {batch}",
            "batch_size": batch,
            "inputs": [
                {
                    "key": each.name,
                    "value": {
                        "data_type": _type(artefact, each),
                        "dims": served.tuned.sequence,
                        **(
                            {"input_data_file": ones_file(served)}
                            if each.name == MASK
                            else {"zero_data": True}
                        ),
                    },
                }
                for each in served.inputs
            ],
        }


def _type(artefact: Artefact, tensor: Tensor) -> Symbol:
    if tensor.onnx_type not in _TYPES:
        raise ArtefactError(
            artefact.directory,
            expected="inputs and outputs of 32 or 64 bit integers and of 16 or 32 bit floats",
            found=f"{tensor.name} of type {onnx.TensorProto.DataType.Name(tensor.onnx_type)}",
            remedy="export the model again",
        )
    return Symbol(_TYPES[tensor.onnx_type])
