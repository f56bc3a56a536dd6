"""The names of the libraries that run a deployed model on a processor, as options take them."""

from enum import StrEnum

__all__ = ["Backend"]


class Backend(StrEnum):
    """What runs an ONNX file of an artefact on the CPU."""

    ONNXRUNTIME = "onnxruntime"  # model.cpu.onnx
    OPENVINO = "openvino"  # model.onnx
