"""What a parity run ran on: versions and the processor, which decide the order of float sums."""

from importlib.metadata import PackageNotFoundError, version

from nxmi_export import doctor
from nxmi_export._version import __version__

__all__ = ["run_environment"]

_LIBRARIES = ("torch", "transformers", "onnxruntime", "numpy")
_EXTRA = "openvino"


def run_environment() -> dict[str, str]:
    """Name → version or description, of this process and this machine, now."""
    # No requirements and no driver: only the processor is asked for.
    machine = doctor.examine(requirements=(), look_for_driver=lambda: None)
    return {
        "nxmi-export": __version__,
        **{name: version(name) for name in _LIBRARIES},
        **_extra(),
        "python": machine.python,
        "platform": machine.platform,
        "processor": f"{machine.processor.model}, {machine.processor.cores} cores",
    }


def _extra() -> dict[str, str]:
    try:
        return {_EXTRA: version(_EXTRA)}
    except PackageNotFoundError:
        return {}  # the rung or contender that would need it says so
