"""A stand-in for TensorRT's runtime, over a machine without a GPU: callers must keep its protocol.

A profile comes first, then shapes, then addresses, then runs; a run that is recorded comes after
one that was not; what replays a recording keeps its context alive.
"""

import enum
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from nxmi_export.backends.tensorrt_engine import Library
from tests.backends.fake_cuda import STREAM, Machine

SCRATCH = 4096  # bytes an engine works in

INPUTS = {"input_ids": "INT64", "attention_mask": "INT32"}
SMALL = ((1, 1), (2, 8), (4, 8))
LARGE = ((1, 1), (8, 16), (16, 16))


class DataType(enum.Enum):
    FLOAT = "float32"
    HALF = "float16"
    INT32 = "int32"
    INT64 = "int64"
    FP8 = "float8"


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC = 0
    USER_MANAGED = 2


class CudaGraphStrategy(enum.Enum):
    DISABLED = 0
    WHOLE_GRAPH_CAPTURE = 1


class DynamicShapesKernelSpecializationStrategy(enum.Enum):
    LAZY = 0
    EAGER = 1


class ILogger:
    """What TensorRT's own logger derives from."""


class IProfiler:
    """What a profiler derives from."""


def write_plan(
    path: Path,
    *profiles: Any,
    output: str = "FLOAT",
    version_compatible: bool = False,
    **inputs: str,
) -> Path:
    """A plan of the stand-in: logits are the sums of the inputs' product and of the last input."""
    content = {
        "profiles": profiles or [LARGE],
        "output": output,
        "version_compatible": version_compatible,
        "inputs": inputs or INPUTS,
    }
    path.write_text(json.dumps(content))
    return path


def fake_library(
    machine: Machine,
    *,
    rtx: bool = False,
    release: str = "10.14.1",
    refuse: str | None = None,
) -> Library:
    """A TensorRT, or a TensorRT-RTX; `refuse` names the call that it answers with False."""
    engine_type = ENGINES.get(release, FakeEngine)
    module = ModuleType("tensorrt_rtx" if rtx else "tensorrt")
    module.ILogger, module.IProfiler = ILogger, IProfiler  # type: ignore[attr-defined]
    module.DataType, module.TensorIOMode = DataType, TensorIOMode  # type: ignore[attr-defined]
    module.ExecutionContextAllocationStrategy = (  # type: ignore[attr-defined]
        ExecutionContextAllocationStrategy
    )
    if rtx:
        module.CudaGraphStrategy = CudaGraphStrategy  # type: ignore[attr-defined]
        module.DynamicShapesKernelSpecializationStrategy = (  # type: ignore[attr-defined]
            DynamicShapesKernelSpecializationStrategy
        )
    module.Runtime = lambda logger: Runtime(  # type: ignore[attr-defined]
        machine, logger, engine_type, rtx=rtx, refuse=refuse
    )
    if rtx:
        return Library(module, "tensorrt_rtx", "1.7.1")
    return Library(module, "tensorrt", release)


class Runtime:
    def __init__(
        self,
        machine: Machine,
        logger: Any,
        engine_type: "type[Engine100]",
        *,
        rtx: bool,
        refuse: str | None,
    ) -> None:
        if refuse == "Runtime":  # as pybind11 reports a factory that returned null
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self.machine, self.logger, self.rtx, self.refuse = machine, logger, rtx, refuse
        self.engine_type = engine_type
        self.engine_host_code_allowed = False

    def say(self, message: str) -> None:
        self.logger.log(SimpleNamespace(name="ERROR"), message)

    def deserialize_cuda_engine(self, content: bytes) -> "Engine100 | None":
        if self.refuse == "deserialize_cuda_engine" or not content.startswith(b"{"):
            self.say("the plan was built by\nanother version")
            return None
        plan = json.loads(content)
        if plan["version_compatible"] and not self.engine_host_code_allowed:
            self.say("the plan brings host code, which is not allowed")
            return None
        return self.engine_type(self, plan)


class Engine100:
    """As of TensorRT 10.0."""

    def __init__(self, runtime: Runtime, content: dict[str, Any]) -> None:
        self.runtime, self.content = runtime, content
        self.num_optimization_profiles = len(content["profiles"])
        self.types = {**content["inputs"], "logits": content["output"]}
        self.num_io_tensors = len(self.types)
        self.contexts: weakref.WeakSet[FakeContext] = weakref.WeakSet()

    def get_tensor_name(self, index: int) -> str:
        return list(self.types)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.OUTPUT if name == "logits" else TensorIOMode.INPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[self.types[name]]

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[list[int]]:
        assert name in self.content["inputs"]
        return list(self.content["profiles"][profile])

    def create_execution_context(
        self, strategy: ExecutionContextAllocationStrategy
    ) -> "FakeContext | None":
        assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED
        if self.runtime.refuse == "create_execution_context":
            self.runtime.say("no memory for a context")
            return None
        context = FakeContext(self)
        self.contexts.add(context)
        return context


class Engine101(Engine100):
    """As of TensorRT 10.1."""

    device_memory_size_v2 = SCRATCH


class FakeEngine(Engine101):
    """As of TensorRT 10.13, which knows configurations."""

    def create_runtime_config(self) -> "RuntimeConfig":
        return RtxRuntimeConfig() if self.runtime.rtx else RuntimeConfig()

    def create_execution_context(  # type: ignore[override]  # one of two ways to call it
        self, config: "RuntimeConfig"
    ) -> "FakeContext | None":
        config.check()
        return super().create_execution_context(config.allocation)


ENGINES: dict[str, type[Engine100]] = {"10.0.1": Engine100, "10.12.0": Engine101}


class RuntimeConfig:
    def __init__(self) -> None:
        self.allocation = ExecutionContextAllocationStrategy.STATIC

    def set_execution_context_allocation_strategy(
        self, strategy: ExecutionContextAllocationStrategy
    ) -> None:
        self.allocation = strategy

    def check(self) -> None:
        assert self.allocation is ExecutionContextAllocationStrategy.USER_MANAGED


class RtxRuntimeConfig(RuntimeConfig):
    def __init__(self) -> None:
        super().__init__()
        self.cuda_graph_strategy = CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        self.dynamic_shapes_kernel_specialization_strategy = (
            DynamicShapesKernelSpecializationStrategy.LAZY
        )
        self.cache: object | None = None

    def create_runtime_cache(self) -> object:
        return object()

    def set_runtime_cache(self, cache: object) -> bool:
        self.cache = cache
        return True

    def check(self) -> None:
        super().check()
        assert self.cuda_graph_strategy is CudaGraphStrategy.DISABLED
        strategy = self.dynamic_shapes_kernel_specialization_strategy
        assert strategy is DynamicShapesKernelSpecializationStrategy.EAGER
        assert self.cache is not None


class FakeContext:
    """One execution context: profile, then memory and shapes, then addresses, then runs."""

    def __init__(self, engine: Engine100) -> None:
        self.engine, self.machine = engine, engine.runtime.machine
        self.profile: int | None = None
        self.scratch: tuple[int, int] | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.profiler: Any = None
        self.runs = 0

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        assert stream == STREAM
        assert not self.shapes, "a profile set after shapes forgets them"
        self.profile = profile
        self.machine.calls.append(f"profile {profile}")
        return not self._refuses("set_optimization_profile_async")

    def set_device_memory(self, address: int, size: int) -> None:
        self.scratch = (address, size)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self.profile is not None, "a shape before its profile"
        assert not self.addresses, "an address before a shape"
        low, _, high = self.engine.content["profiles"][self.profile]
        fits = all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
        assert fits, "a shape outside of the profile that was chosen"
        self.shapes[name] = tuple(shape)
        self.machine.calls.append(f"shape {name} {'x'.join(map(str, shape))}")
        return not self._refuses("set_input_shape")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name != "logits":
            return self.shapes[name]
        known = set(self.shapes) == set(self.engine.content["inputs"])
        return (next(iter(self.shapes.values()))[0] if known else -1, 2)

    def set_tensor_address(self, name: str, address: int) -> bool:
        shape = self.get_tensor_shape(name)
        self.machine.view(address, self._dtype(name), shape)  # checks that there is room
        self.addresses[name] = address
        self.machine.calls.append(f"address {name}")
        return not self._refuses("set_tensor_address")

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == STREAM
        assert set(self.addresses) == set(self.engine.types), "a tensor without an address"
        assert self.scratch is not None, "no memory to work in"
        assert self.scratch[1] == SCRATCH
        assert self.runs or self.machine.recording is None, "recorded before a warm run"
        if self._refuses("execute_async_v3"):
            return False
        self.runs += 1
        self.machine.calls.append("execute")
        self.machine.enqueue(self._kernel(dict(self.addresses), self.scratch[0]))
        if self.profiler is not None:
            for layer, milliseconds in (("gemm", 0.5 * self.runs), ("softmax", 0.25)):
                self.profiler.report_layer_time(layer, milliseconds)
        return True

    def _kernel(self, addresses: dict[str, int], scratch: int) -> Callable[[], None]:
        views = [
            (addresses[name], self._dtype(name), self.get_tensor_shape(name))
            for name in self.engine.types
        ]
        context, machine = weakref.ref(self), self.machine

        def kernel() -> None:
            assert context() is not None, "a recording outlived its context"
            machine.view(scratch, np.uint8, (SCRATCH,))[:] = 1
            *inputs, logits = (machine.view(*view) for view in views)
            logits[:, 0] = np.prod(inputs, axis=0).sum(axis=1)
            logits[:, 1] = inputs[-1].sum(axis=1)

        return kernel

    def _dtype(self, name: str) -> np.dtype[Any]:
        return np.dtype(self.engine.get_tensor_dtype(name).value)

    def _refuses(self, call: str) -> bool:
        if self.engine.runtime.refuse == call:
            self.engine.runtime.say(f"{call} went\nwrong")
            return True
        return False
