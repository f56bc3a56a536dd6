"""An ONNX file in, an engine plan and proof of what the builder did with every layer out.

The proof is the build log: at its most detailed level it lists each engine layer with data types,
kernel and the ONNX nodes it came from, so of building only full TensorRT's builder needs a GPU.
Running a plan does: `TensorRtRunner`.
"""

from nxmi_export.backends.tensorrt_engine.build import BuildResult, build_engine
from nxmi_export.backends.tensorrt_engine.build_log import EngineLayer, Operand, parse_layers
from nxmi_export.backends.tensorrt_engine.configure import Ignored
from nxmi_export.backends.tensorrt_engine.coverage import (
    Int8Coverage,
    ModuleEvidence,
    Verdict,
    int8_coverage,
)
from nxmi_export.backends.tensorrt_engine.device import Device, open_device
from nxmi_export.backends.tensorrt_engine.engine import Engine
from nxmi_export.backends.tensorrt_engine.execution import Execution
from nxmi_export.backends.tensorrt_engine.inspector import read_layer_info
from nxmi_export.backends.tensorrt_engine.library import Library, find_library
from nxmi_export.backends.tensorrt_engine.mapping import (
    EngineMapping,
    MergeEvidence,
    engine_mapping,
    merge_evidence,
)
from nxmi_export.backends.tensorrt_engine.module_sparsity import ModuleSparsity, module_sparsity
from nxmi_export.backends.tensorrt_engine.options import (
    EngineOptions,
    HardwareCompatibility,
    Precision,
)
from nxmi_export.backends.tensorrt_engine.product_nodes import ProductNodes
from nxmi_export.backends.tensorrt_engine.profile import FixedSides, Shape, ShapeProfile
from nxmi_export.backends.tensorrt_engine.progress import BuildProgress
from nxmi_export.backends.tensorrt_engine.runner import TensorRtRunner
from nxmi_export.backends.tensorrt_engine.sparsity import SparseEvidence, sparse_evidence
from nxmi_export.backends.tensorrt_engine.trtexec_shapes import TrtexecShapes

__all__ = [
    "BuildProgress",
    "BuildResult",
    "Device",
    "Engine",
    "EngineLayer",
    "EngineMapping",
    "EngineOptions",
    "Execution",
    "FixedSides",
    "HardwareCompatibility",
    "Ignored",
    "Int8Coverage",
    "Library",
    "MergeEvidence",
    "ModuleEvidence",
    "ModuleSparsity",
    "Operand",
    "Precision",
    "ProductNodes",
    "Shape",
    "ShapeProfile",
    "SparseEvidence",
    "TensorRtRunner",
    "TrtexecShapes",
    "Verdict",
    "build_engine",
    "engine_mapping",
    "find_library",
    "int8_coverage",
    "merge_evidence",
    "module_sparsity",
    "open_device",
    "parse_layers",
    "read_layer_info",
    "sparse_evidence",
]
