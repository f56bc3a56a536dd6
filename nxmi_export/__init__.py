"""Compress BERT-class encoders, export them, and prove that what runs is what was trained.

Importing this package loads neither torch, onnxruntime nor TensorRT; a stage loads what it needs.
`load` is what an application deploys with: an artefact in, a model that predicts out.
"""

from typing import TYPE_CHECKING, Any

from nxmi_export._version import __version__

if TYPE_CHECKING:
    from nxmi_export.runtime import load

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    # Once it is asked for, so that the command line does not wait for numpy.
    if name == "load":
        from nxmi_export.runtime import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
