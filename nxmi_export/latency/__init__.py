"""Shapes of linears and a device in, a table of how long each takes in each kind out.

What loads PyTorch or a backend is imported from its own module: `encoder_shapes`,
`of_model`, `measure_onnxruntime`, `measure_tensorrt`.
"""

from nxmi_export.latency.devices import DEVICES, MEASURED, check_device, table_for
from nxmi_export.latency.roofline import roofline
from nxmi_export.latency.shapes import LinearShape, Workload, parse_shapes
from nxmi_export.latency.table import KINDS, Gemm, Kind, LatencyTable, Source

__all__ = [
    "DEVICES",
    "KINDS",
    "MEASURED",
    "Gemm",
    "Kind",
    "LatencyTable",
    "LinearShape",
    "Source",
    "Workload",
    "check_device",
    "parse_shapes",
    "roofline",
    "table_for",
]
