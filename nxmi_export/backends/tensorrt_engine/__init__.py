"""An ONNX file in, an engine plan and proof of what the builder did with every layer out.

The proof is the build log: at its most detailed level it lists each engine layer with data types,
kernel and the ONNX nodes it came from, so of building only full TensorRT's builder needs a GPU.
Running a plan does: `TensorRtRunner`.
"""

from nxmi_export.backends.tensorrt_engine.build import BuildResult, build_engine
from nxmi_export.backends.tensorrt_engine.build_log import EngineLayer, Operand, parse_layers
from nxmi_export.backends.tensorrt_engine.coverage import (
    Int8Coverage,
    ModuleEvidence,
    Verdict,
    int8_coverage,
)
from nxmi_export.backends.tensorrt_engine.device import Device, open_device
from nxmi_export.backends.tensorrt_engine.engine import Engine
from nxmi_export.backends.tensorrt_engine.execution import Execution
from nxmi_export.backends.tensorrt_engine.library import Library, find_library
from nxmi_export.backends.tensorrt_engine.options import EngineOptions
from nxmi_export.backends.tensorrt_engine.profile import Shape, ShapeProfile
from nxmi_export.backends.tensorrt_engine.progress import BuildProgress
from nxmi_export.backends.tensorrt_engine.runner import TensorRtRunner
from nxmi_export.backends.tensorrt_engine.sparsity import SparseEvidence, sparse_evidence

__all__ = [
    "BuildProgress",
    "BuildResult",
    "Device",
    "Engine",
    "EngineLayer",
    "EngineOptions",
    "Execution",
    "Int8Coverage",
    "Library",
    "ModuleEvidence",
    "Operand",
    "Shape",
    "ShapeProfile",
    "SparseEvidence",
    "TensorRtRunner",
    "Verdict",
    "build_engine",
    "find_library",
    "int8_coverage",
    "open_device",
    "parse_layers",
    "sparse_evidence",
]
