"""Compression in PyTorch: quantizers and patterns inside a transformers encoder, and training it."""

from nxmi_export.compression.insert_quantizers import compressed_linears, insert_quantizers
from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.compression.restore import restore
from nxmi_export.compression.train import Schedule, Step, calibrate, train

__all__ = [
    "CompressedLinear",
    "Schedule",
    "Step",
    "calibrate",
    "compressed_linears",
    "insert_quantizers",
    "restore",
    "train",
]
