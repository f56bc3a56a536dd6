"""A plan file in, its engine on the GPU out: tensors, shape profiles, contexts to execute."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nxmi_export.backends.tensorrt_engine.device import Buffer, Device
from nxmi_export.backends.tensorrt_engine.library import Library
from nxmi_export.backends.tensorrt_engine.logger import Recording, recording
from nxmi_export.backends.tensorrt_engine.progress import Deferred
from nxmi_export.backends.tensorrt_engine.start_runtime import start_runtime
from nxmi_export.errors import ArtefactError, CapabilityMissing, EngineRunFailed, ShapeError

if TYPE_CHECKING:
    import tensorrt as trt

    _Allocation: TypeAlias = trt.IRuntimeConfig | trt.ExecutionContextAllocationStrategy

__all__ = ["Dimensions", "Engine", "EngineTensor", "Range", "Shapes"]

Dimensions: TypeAlias = tuple[int, ...]
Shapes: TypeAlias = Mapping[str, Dimensions]
"""Input name → the shape it is fed with."""

_TYPES: Mapping[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
}


@dataclass(frozen=True, slots=True)
class EngineTensor:
    """One input or output, in the type that its memory holds."""

    name: str
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class Range:
    """The smallest and the largest shape of one input in one profile."""

    min: Dimensions
    max: Dimensions

    def holds(self, shape: Dimensions) -> bool:
        """Whether `shape` lies between them, dimension by dimension."""
        return len(shape) == len(self.min) and all(
            low <= size <= high for low, size, high in zip(self.min, shape, self.max, strict=True)
        )

    def __str__(self) -> str:
        return f"{_text(self.min)}…{_text(self.max)}"


class Engine:
    """The engine of `plan`; one scratch memory serves all its contexts, which share one stream.

    Works on TensorRT from 10.1 on, 11 and RTX: what differs is asked of the objects. Raises
    ArtefactError for a missing plan, and for one that this library or this GPU does not load,
    CapabilityMissing where the library's runtime does not start or is too old.
    """

    def __init__(self, plan: Path, library: Library, device: Device) -> None:
        self.library, self.device, self._plan = library, device, plan
        # Both None once it is closed; the engine must go first.
        self._runtime: trt.Runtime | None
        self._loaded: trt.ICudaEngine | None
        self._runtime, self._loaded = self._load()
        self._scratch: Buffer | None = None
        self._allocation: _Allocation | None = self._own_allocation()
        self.inputs, self.outputs = self._tensors()
        self.profiles = tuple(
            {tensor.name: self._range(tensor.name, index) for tensor in self.inputs}
            for index in range(self._engine.num_optimization_profiles)
        )

    def profile_for(self, shapes: Shapes) -> int:
        """The tightest profile that holds every shape; raises ShapeError where none does."""
        fitting = [
            index
            for index, profile in enumerate(self.profiles)
            if all(profile[name].holds(shape) for name, shape in shapes.items())
        ]
        if not fitting:
            raise ShapeError(
                f"{self._plan.name}: a batch of "
                + ", ".join(f"{name} {_text(shape)}" for name, shape in shapes.items()),
                expected="the shapes of a profile: " + " or ".join(self._profile_texts()),
                found="one outside",
                remedy="run a batch within them, or build the engine with other --shapes",
            )
        return min(fitting, key=lambda index: self._volume(index))

    def context(self, profile: int) -> "trt.IExecutionContext | None":
        """A fresh execution context for `profile`, with memory to work in; None where refused.

        One context serves one shape: a CUDA graph stays valid only while its context does nothing
        else.
        """
        assert self._allocation is not None, "used after it was closed"
        context = self._engine.create_execution_context(self._allocation)
        if context is None or not context.set_optimization_profile_async(
            profile, self.device.stream
        ):
            return None
        if self._scratch is None:
            self._scratch = self.device.allocate(self._engine.device_memory_size_v2)
        context.set_device_memory(self._scratch.address, self._engine.device_memory_size_v2)
        return context

    @contextmanager
    def hearing(self) -> Iterator[Recording]:
        """Records what the library says in the block, for the reason of a refusal."""
        deferred = Deferred()
        with recording(self.library, deferred) as (_, record):
            yield record
        deferred.reraise()

    def require(self, accepted: bool, what: str, heard: Recording) -> None:
        """Raise EngineRunFailed, with the reasons that were heard, for a call it did not accept."""
        if not accepted:
            raise EngineRunFailed(
                f"{self.library.name} {self.library.version}",
                expected=f"the engine of {self._plan.name} {what}",
                found="; ".join(heard.errors) or "a refusal without a reason",
                remedy="please report this with build.log",
            )

    def close(self) -> None:
        """Unload the engine; its contexts must be gone."""
        if self._scratch is not None:
            self._scratch.free()
        self._scratch = self._allocation = self._loaded = self._runtime = None

    @property
    def _engine(self) -> "trt.ICudaEngine":
        assert self._loaded is not None, "used after it was closed"
        return self._loaded

    def _load(self) -> "tuple[trt.Runtime, trt.ICudaEngine]":
        if not self._plan.is_file():
            raise ArtefactError(
                self._plan,
                expected="an engine plan",
                found="no file",
                remedy="build it with nxmi-export build",
            )
        deferred = Deferred()
        with recording(self.library, deferred) as (logger, record):
            runtime = start_runtime(self.library, logger)
            engine = runtime.deserialize_cuda_engine(self._plan.read_bytes())
        deferred.reraise()
        if engine is None:
            raise ArtefactError(
                self._plan,
                expected=f"a plan that {self.library.name} {self.library.version} can load on "
                "this GPU",
                found="; ".join(record.errors) or "a refusal without a reason",
                remedy="build it again on this machine with nxmi-export build",
            )
        if not hasattr(engine, "device_memory_size_v2"):
            # The size of 10.0 leaves out what streamed weights need.
            raise CapabilityMissing(
                f"{self.library.name} {self.library.version}",
                expected="an engine that tells all the memory it works in, as from 10.1 on",
                found="one without device_memory_size_v2",
                remedy="install a later release and build the engine again with it",
            )
        return runtime, engine

    def _tensors(self) -> tuple[tuple[EngineTensor, ...], tuple[EngineTensor, ...]]:
        inputs: list[EngineTensor] = []
        outputs: list[EngineTensor] = []
        mode = self.library.module.TensorIOMode
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            tensor = EngineTensor(name, self._dtype(name))
            (inputs if self._engine.get_tensor_mode(name) == mode.INPUT else outputs).append(tensor)
        return tuple(inputs), tuple(outputs)

    def _dtype(self, name: str) -> np.dtype[Any]:
        found = self._engine.get_tensor_dtype(name).name
        if found not in _TYPES:
            raise ArtefactError(
                self._plan,
                expected=f"inputs and outputs of type {', '.join(_TYPES)}",
                found=f"{name} of type {found}",
                remedy="export the model again",
            )
        return np.dtype(_TYPES[found])

    def _range(self, name: str, profile: int) -> Range:
        low, _, high = self._engine.get_tensor_profile_shape(name, profile)
        return Range(tuple(low[:]), tuple(high[:]))

    def _own_allocation(self) -> "_Allocation":
        """What a context is made with, so that it works in memory which it is given."""
        managed = self.library.module.ExecutionContextAllocationStrategy.USER_MANAGED
        if not hasattr(self._engine, "create_runtime_config"):
            return managed  # older releases of TensorRT 10 have this one thing to choose
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(managed)
        if hasattr(config, "cuda_graph_strategy"):
            self._configure_rtx(config)
        return config

    def _configure_rtx(self, config: Any) -> None:
        """`config` is Any because only TensorRT-RTX has these parts, and no stubs."""
        rtx: Any = self.library.module
        # Graphs are recorded here. A kernel that is compiled in the background would replace a
        # general one some time after the recording, or in the middle of a measurement.
        config.cuda_graph_strategy = rtx.CudaGraphStrategy.DISABLED
        strategies = rtx.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        # What one context compiles serves the next one.
        config.set_runtime_cache(config.create_runtime_cache())

    def _volume(self, profile: int) -> int:
        return sum(prod(each.max) for each in self.profiles[profile].values())

    def _profile_texts(self) -> list[str]:
        """Each profile once; its inputs nearly always have the same shapes."""
        return [
            ", ".join(dict.fromkeys(str(each) for each in profile.values()))
            for profile in self.profiles
        ]


def _text(shape: Dimensions) -> str:
    return "×".join(map(str, shape))
