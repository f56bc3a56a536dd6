"""Quantizers and sparsity patterns inside a PyTorch encoder, and how it is trained with them."""

from nxmi_export.compression.insert_quantizers import compressed_linears, insert_quantizers
from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.compression.restore import restore
from nxmi_export.compression.save import checkpoint_of
from nxmi_export.compression.sparsity import project
from nxmi_export.compression.train import Schedule, Step, calibrate, train

__all__ = [
    "CompressedLinear",
    "Schedule",
    "Step",
    "calibrate",
    "checkpoint_of",
    "compressed_linears",
    "insert_quantizers",
    "project",
    "restore",
    "train",
]
