"""Which TensorRT this machine has: the full library, TensorRT-RTX, or a clear refusal."""

import importlib
from dataclasses import dataclass, field
from types import ModuleType
from typing import Literal, TypeAlias

from nxmi_export.errors import CapabilityMissing

__all__ = ["Library", "LibraryName", "find_library"]

LibraryName: TypeAlias = Literal["tensorrt", "tensorrt_rtx"]

_INSTALL = {
    "tensorrt": 'run `pip install "nxmi-export[trt]"` (needs an NVIDIA GPU)',
    "tensorrt_rtx": 'run `pip install "nxmi-export[rtx]"` (builds without a GPU)',
}


@dataclass(frozen=True, slots=True)
class Library:
    """An importable TensorRT. What a release can do is asked of `module`, never of `version`."""

    # Neither library ships types: everything read from `module` is Any, here and nowhere else.
    module: ModuleType = field(repr=False)
    name: LibraryName
    version: str

    @property
    def is_rtx(self) -> bool:
        """Whether this is TensorRT-RTX, which compiles kernels on the machine that runs them."""
        return self.name == "tensorrt_rtx"

    @property
    def needs_gpu(self) -> bool:
        """Whether building times kernels on a GPU; RTX only needs to be told which one."""
        return not self.is_rtx


def find_library(prefer: LibraryName | None = None) -> Library:
    """The preferred library and no other, or else the first of TensorRT and TensorRT-RTX.

    Raises CapabilityMissing where none of them loads.
    """
    wanted: tuple[LibraryName, ...] = (prefer,) if prefer else ("tensorrt", "tensorrt_rtx")
    reasons = []
    for name in wanted:
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError) as error:  # OSError: a shared library that does not load
            reasons.append(str(error))
            continue
        version = getattr(module, "__version__", None)
        if version is not None:
            return Library(module, name, version)
        # Type stubs leave a folder of that name, which Python imports as an empty package.
        reasons.append(f"a package {name} without a library, as type stubs leave it")
    raise CapabilityMissing(
        "TensorRT",
        expected=f"an installed {' or '.join(wanted)}",
        found="; ".join(reasons),
        remedy=" or ".join(_INSTALL[name] for name in reversed(wanted)),
    )
