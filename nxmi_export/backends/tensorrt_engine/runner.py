"""A plan file in, a `Runner` that executes it with TensorRT on the GPU out.

Written against the API of TensorRT 10.1 and later, 11 and RTX, and tested against a stand-in that
checks the order of calls; nothing here has run on a GPU yet.
"""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nxmi_export.backends.runner import Feeds, Outputs, check_feeds
from nxmi_export.backends.tensorrt_engine.device import Device, open_device
from nxmi_export.backends.tensorrt_engine.engine import Engine, Shapes
from nxmi_export.backends.tensorrt_engine.execution import Execution
from nxmi_export.backends.tensorrt_engine.layer_profile import profile_layers
from nxmi_export.backends.tensorrt_engine.library import Library

__all__ = ["KEPT_SHAPES", "TensorRtRunner"]

KEPT_SHAPES = 8  # each holds its inputs, outputs and a CUDA graph; scratch memory is shared


class TensorRtRunner:
    """Runs the engine at `plan`, of whatever shape its profiles hold; not safe for threads.

    Memory for a shape, and with `cuda_graph` a recording of its kernels, is kept for the
    `kept_shapes` used last. Inputs are converted to the integers the engine reads; floating outputs
    come back as float32. `device` is taken over, and closed with the runner; None opens the first
    GPU.

    Raises CapabilityMissing without a GPU or a library that reaches its memory, ArtefactError for
    a plan that is missing or of another TensorRT or GPU.
    """

    def __init__(
        self,
        plan: Path,
        *,
        library: Library,
        name: str = "tensorrt",
        cuda_graph: bool = True,
        kept_shapes: int = KEPT_SHAPES,
        device: Device | None = None,
    ) -> None:
        self.name = name
        self._cuda_graph, self._kept_shapes = cuda_graph, kept_shapes
        self._executions: OrderedDict[tuple[tuple[int, ...], ...], Execution] = OrderedDict()
        self._device = device or open_device(f"running {plan.name}")
        self._engine: Engine | None = None
        try:
            self._engine = Engine(plan, library, self._device)
        except BaseException:
            self._device.close()
            raise
        self.input_names = tuple(tensor.name for tensor in self._engine.inputs)
        self.output_names = tuple(tensor.name for tensor in self._engine.outputs)

    @property
    def device_name(self) -> str:
        """What reaches the GPU's memory."""
        return self._device.name

    def run(self, feeds: Feeds) -> Outputs:
        """Every output of one batch; raises ShapeError for a batch beyond every profile."""
        outputs = self._execution(feeds).run(feeds)
        return {name: _float32(array) for name, array in outputs.items()}

    def gpu_timer(self, feeds: Feeds) -> Callable[[], float]:
        """Uploads one batch; what it returns runs it and says how many seconds the GPU took.

        It is good until the runner has run `kept_shapes` other shapes, or is closed.
        """
        execution = self._execution(feeds)
        execution.upload(feeds)
        return execution.timer()

    def layer_times(self, feeds: Feeds, runs: int) -> dict[str, list[float]]:
        """Seconds by layer, one for each of `runs`; see `profile_layers`."""
        check_feeds(self, feeds)
        return profile_layers(self._open_engine(), feeds, runs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._engine is None:
            return
        for execution in self._executions.values():
            execution.close()
        self._executions.clear()
        self._engine.close()
        self._engine = None
        self._device.close()

    def _execution(self, feeds: Feeds) -> Execution:
        check_feeds(self, feeds)
        shapes = {name: feeds[name].shape for name in self.input_names}
        key = tuple(shapes.values())
        if key not in self._executions:
            self._executions[key] = self._make(shapes)
        self._executions.move_to_end(key)
        return self._executions[key]

    def _make(self, shapes: Shapes) -> Execution:
        engine = self._open_engine()
        while len(self._executions) >= self._kept_shapes:
            _, oldest = self._executions.popitem(last=False)
            oldest.close()
        return Execution(engine, shapes, cuda_graph=self._cuda_graph)

    def _open_engine(self) -> Engine:
        if self._engine is None:
            # Like a read from a closed file: the caller's mistake, not a user's.
            raise ValueError(f"{self.name}: run() after the runner was closed")
        return self._engine


def _float32(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float32) if np.issubdtype(array.dtype, np.floating) else array
