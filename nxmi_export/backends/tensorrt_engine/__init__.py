"""An ONNX file in, an engine plan and proof of what the builder did with every layer out.

The proof is the build log: at its most detailed level it lists each engine layer with data types,
kernel and the ONNX nodes it came from, so nothing here needs a GPU except full TensorRT's builder.
"""

from nxmi_export.backends.tensorrt_engine.build import BuildResult, build_engine
from nxmi_export.backends.tensorrt_engine.build_log import EngineLayer, Operand, parse_layers
from nxmi_export.backends.tensorrt_engine.coverage import (
    Int8Coverage,
    ModuleEvidence,
    Verdict,
    int8_coverage,
)
from nxmi_export.backends.tensorrt_engine.library import Library, find_library
from nxmi_export.backends.tensorrt_engine.mapping import (
    EngineMapping,
    MergeEvidence,
    engine_mapping,
    merge_evidence,
    product_modules,
    shared_input_nodes,
)
from nxmi_export.backends.tensorrt_engine.options import EngineOptions
from nxmi_export.backends.tensorrt_engine.profile import Shape, ShapeProfile
from nxmi_export.backends.tensorrt_engine.progress import BuildProgress
from nxmi_export.backends.tensorrt_engine.sparsity import SparseEvidence, sparse_evidence

__all__ = [
    "BuildProgress",
    "BuildResult",
    "EngineLayer",
    "EngineMapping",
    "EngineOptions",
    "Int8Coverage",
    "Library",
    "MergeEvidence",
    "ModuleEvidence",
    "Operand",
    "Shape",
    "ShapeProfile",
    "SparseEvidence",
    "Verdict",
    "build_engine",
    "engine_mapping",
    "find_library",
    "int8_coverage",
    "merge_evidence",
    "parse_layers",
    "product_modules",
    "shared_input_nodes",
    "sparse_evidence",
]
