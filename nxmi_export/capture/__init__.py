"""PyTorch models to ONNX graphs through `torch.onnx.export(dynamo=True)`."""

from nxmi_export.capture.capture import OPSET, CapturedGraph, capture

__all__ = ["OPSET", "CapturedGraph", "capture"]
