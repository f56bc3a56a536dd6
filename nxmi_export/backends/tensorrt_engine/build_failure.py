"""The errors of a builder that gave no plan in, the error that says what to do about it out."""

import re
from collections.abc import Sequence
from pathlib import Path

from nxmi_export.backends.tensorrt_engine.library import Library
from nxmi_export.backends.tensorrt_engine.options import EngineOptions
from nxmi_export.errors import CapabilityMissing, EngineBuildFailed, NxmiError, UsageError

__all__ = ["build_failure"]

# Each as TensorRT-RTX 1.7.1 writes it without a GPU.
_NO_LEAN_RUNTIME = re.compile(r"Unable to load library: (\S*nvinfer_lean\S*?):")
_NO_CUDA = re.compile(r"CUDA_SUCCESS|cudaError \d+|CUDA driver version")
_NO_WORKSPACE = re.compile(r"workspace limit|[Ii]nsufficient workspace")


def build_failure(
    onnx_path: Path, errors: Sequence[str], library: Library, options: EngineOptions
) -> NxmiError:
    """What failed, laid to the option that caused it where the builder's words show that."""
    said = "; ".join(errors)
    name = f"{library.name} {library.version}"
    if options.version_compatible and (match := _NO_LEAN_RUNTIME.search(said)):
        return CapabilityMissing(
            f"{name}: --version-compatible",
            expected=f"{match.group(1)}, the runtime that such a plan carries with it",
            found="an installation without it",
            remedy="leave the option out, or install a TensorRT that brings it",
        )
    if (options.refit or options.strip_weights) and _NO_CUDA.search(said):
        return CapabilityMissing(
            f"{name}: {'--refit' if options.refit else '--strip-weights'}",
            expected="an NVIDIA GPU with a driver, on which it folds what can be replaced later",
            found=said,
            remedy="run on a machine with one, or leave the option out",
        )
    if options.workspace is not None and _NO_WORKSPACE.search(said):
        return UsageError(
            f"{onnx_path}: {options.workspace}",
            expected="scratch memory for at least one kernel of every layer",
            found=said,
            remedy="raise it or leave it out",
        )
    return EngineBuildFailed(
        onnx_path,
        expected="a plan from the builder",
        found=said or "none, and no error in its log",
        remedy="please report this with the ONNX file",
    )
