"""A graph and what it is to be built for in, the linter's findings out; or a refusal to build."""

from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from nxmi_export.backends.nvidia_driver import NvidiaDriver
from nxmi_export.backends.tensorrt_engine import EngineOptions, Library, ShapeProfile
from nxmi_export.backends.tensorrt_engine.configure import DEFAULT_COMPUTE_CAPABILITY
from nxmi_export.errors import UsageError
from passes.lint import Finding, Severity, lint

__all__ = ["capabilities_to_lint_for", "lint_before_build"]


def lint_before_build(
    model: ir.Model, path: Path, capabilities: Sequence[int], profiles: Sequence[ShapeProfile]
) -> tuple[Finding, ...]:
    """What is degraded or noted for any of the GPU generations, at the longest input.

    Raises UsageError, naming rule and node, for what TensorRT would refuse.
    """
    longest = max(profile.max.sequence for profile in profiles)
    found = (lint(model, sm=capability, sequence=longest) for capability in capabilities)
    findings = tuple(dict.fromkeys(finding for each in found for finding in each))
    refused = [each for each in findings if each.severity is Severity.REFUSE]
    if refused:
        first, more = refused[0], len(refused) - 1
        node = f"{first.module} ({first.node})" if first.module else first.node
        raise UsageError(
            path,
            expected="a graph that TensorRT's parser and builder take",
            found=f"{first.rule} at {node}: {first.found}" + (f", and {more} more" if more else ""),
            remedy=f"{first.remedy}, or mend a copy with nxmi-export lint {path} --fix -o FILE",
        )
    return findings


def capabilities_to_lint_for(
    library: Library, options: EngineOptions, driver: NvidiaDriver | None
) -> tuple[int, ...]:
    """The generations the plan is for, as 86 for SM 8.6: those named, else the GPU that is here."""
    named = options.compute_capabilities
    if not named and library.needs_gpu and driver is not None:
        named = tuple(gpu.compute_capability for gpu in driver.gpus[:1])
    digits = (name.lower().removeprefix("sm") for name in named or (DEFAULT_COMPUTE_CAPABILITY,))
    # What is no generation is refused by the library, which knows them all.
    return tuple(int(each) for each in digits if each.isdecimal()) or (86,)
