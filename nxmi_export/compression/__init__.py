"""Quantizers and sparsity patterns inside a PyTorch encoder, and how it is trained with them."""

from nxmi_export.compression.calibrate import calibrate
from nxmi_export.compression.compress import compress
from nxmi_export.compression.insert_quantizers import compressed_linears, insert_quantizers
from nxmi_export.compression.layers import CompressedLinear
from nxmi_export.compression.restore import restore
from nxmi_export.compression.save import checkpoint_of
from nxmi_export.compression.sparsity import project
from nxmi_export.compression.training import RunOptions, fine_tune

__all__ = [
    "CompressedLinear",
    "RunOptions",
    "calibrate",
    "checkpoint_of",
    "compress",
    "compressed_linears",
    "fine_tune",
    "insert_quantizers",
    "project",
    "restore",
]
