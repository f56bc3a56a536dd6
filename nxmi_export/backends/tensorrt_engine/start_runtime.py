"""A library and its logger in, the runtime that loads its plans out."""

from typing import TYPE_CHECKING

from nxmi_export.backends.tensorrt_engine.library import Library
from nxmi_export.errors import CapabilityMissing

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["start_runtime"]


def start_runtime(library: Library, logger: "trt.ILogger") -> "trt.Runtime":
    """Load version-compatible plans too; raises CapabilityMissing where CUDA does not start."""
    try:
        runtime = library.module.Runtime(logger)
    except TypeError as error:
        # How the bindings report a factory that returned null: no device, or an old driver.
        raise CapabilityMissing(
            f"{library.name} {library.version}",
            expected="an NVIDIA GPU with a driver that is new enough for it",
            found="a runtime that does not start",
            remedy="update the driver, or run on a machine with one",
        ) from error
    # A version-compatible plan brings its own runtime, which is code and refused by default.
    runtime.engine_host_code_allowed = True
    return runtime
