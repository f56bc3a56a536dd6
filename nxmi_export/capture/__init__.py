"""PyTorch models to ONNX graphs through `torch.onnx.export(dynamo=True)`."""

from nxmi_export.capture.capture import MODULE_KEY, OPSET, CapturedGraph, capture

__all__ = ["MODULE_KEY", "OPSET", "CapturedGraph", "capture"]
