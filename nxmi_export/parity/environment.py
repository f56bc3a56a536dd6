"""What a parity run ran on: versions and the processor, which decide the order of float sums."""

import platform
from importlib.metadata import PackageNotFoundError, version

from nxmi_export._version import __version__
from nxmi_export.processor import this_processor

__all__ = ["run_environment"]

_LIBRARIES = ("torch", "transformers", "onnxruntime", "numpy")
_EXTRA = "openvino"


def run_environment() -> dict[str, str]:
    """Name → version or description, of this process and this machine, now."""
    return {
        "nxmi-export": __version__,
        **{name: version(name) for name in _LIBRARIES},
        **_extra(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": str(this_processor()),
    }


def _extra() -> dict[str, str]:
    try:
        return {_EXTRA: version(_EXTRA)}
    except PackageNotFoundError:
        return {}  # the rung or contender that would need it says so
