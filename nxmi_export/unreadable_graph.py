"""What reading an ONNX file raises where it is gone, cut short, changed or none."""

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx_ir.serde import SerdeError

__all__ = ["UNREADABLE_GRAPH"]

# The last is for bytes that are a message, and a message that is no graph.
UNREADABLE_GRAPH = (OSError, DecodeError, SerdeError)
