"""The part of TensorRT's Python API that this package calls, as types.

One API serves TensorRT 10, 11 and TensorRT-RTX. Its types are those of the stubs published for
10.13 (`tensorrt-stubs`), against which a test checks this package; where no stubs are found they
are Any. What a release may lack is asked of the module at run time.
"""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["TensorRT"]


class TensorRT(Protocol):
    """The names read from the module `tensorrt` or `tensorrt_rtx`."""

    Builder: "type[trt.Builder]"
    BuilderFlag: "type[trt.BuilderFlag]"
    DataType: "type[trt.DataType]"
    Dims2: "type[trt.Dims2]"
    ErrorCode: "type[trt.ErrorCode]"
    ExecutionContextAllocationStrategy: "type[trt.ExecutionContextAllocationStrategy]"
    HardwareCompatibilityLevel: "type[trt.HardwareCompatibilityLevel]"
    ILogger: "type[trt.ILogger]"
    IProfiler: "type[trt.IProfiler]"
    IProgressMonitor: "type[trt.IProgressMonitor]"
    LayerInformationFormat: "type[trt.LayerInformationFormat]"
    MemoryPoolType: "type[trt.MemoryPoolType]"
    NetworkDefinitionCreationFlag: "type[trt.NetworkDefinitionCreationFlag]"
    OnnxParser: "type[trt.OnnxParser]"
    ProfilingVerbosity: "type[trt.ProfilingVerbosity]"
    Runtime: "type[trt.Runtime]"
    TensorIOMode: "type[trt.TensorIOMode]"


if TYPE_CHECKING:
    # The published module itself has every one of these names, each of its kind.
    _published: TensorRT = trt
