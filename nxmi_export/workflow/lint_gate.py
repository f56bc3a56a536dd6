"""A graph and what it is to be built for in, the linter's findings out; or a refusal to build."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from nxmi_export.backends.nvidia_driver import NvidiaDriver
from nxmi_export.backends.tensorrt_engine import (
    EngineOptions,
    HardwareCompatibility,
    Library,
    ShapeProfile,
)
from nxmi_export.backends.tensorrt_engine.configure import DEFAULT_COMPUTE_CAPABILITY
from nxmi_export.errors import UsageError
from passes.lint import Finding, Severity, lint

__all__ = ["LintTargets", "capability_of", "lint_before_build", "lint_targets"]

# What stops a build, and what is expected in its place.
_WANTED = {
    Severity.REFUSE: "a graph that TensorRT's parser and builder take",
    Severity.ALTER: "a graph whose values TensorRT computes as they are written",
}
# A plan for "ampere-plus" runs on every one of them, with the kernels of the oldest.
_AMPERE_PLUS = ("sm80", "sm86", "sm89", "sm90", "sm100", "sm120")


@dataclass(frozen=True)
class LintTargets:
    """The GPU generations that a plan is for, as "sm86" for SM 8.6; at least one."""

    names: tuple[str, ...]
    assumed: str | None = None  # why they are a guess, where they are

    @property
    def capabilities(self) -> tuple[int, ...]:
        """As the linter takes them: 86 for SM 8.6; raises UsageError for what names none."""
        return tuple(map(capability_of, self.names))

    def as_json(self) -> dict[str, Any]:
        """Plain data for engine.json."""
        return {"compute_capabilities": list(self.names), "assumed": self.assumed}


def lint_before_build(
    model: ir.Model, path: Path, targets: LintTargets, profiles: Sequence[ShapeProfile]
) -> tuple[Finding, ...]:
    """What is degraded or noted for any of the GPU generations, at the longest input.

    Raises UsageError, naming rule and node, for what TensorRT would refuse, and for what it would
    build into an engine that computes other values than the graph.
    """
    longest = max(profile.max.sequence for profile in profiles)
    found = (lint(model, sm=each, sequence=longest) for each in targets.capabilities)
    findings = tuple(dict.fromkeys(finding for each in found for finding in each))
    for severity, expected in _WANTED.items():
        stopping = [each for each in findings if each.severity is severity]
        if stopping:
            raise _stopped(path, stopping, expected)
    return findings


def lint_targets(
    library: Library, options: EngineOptions, driver: NvidiaDriver | None
) -> LintTargets:
    """The generations that are named or, for a library that builds on a GPU, those found here.

    NVML lists GPUs by their slots and CUDA by their speed, so that each of several may be the one.
    """
    names = options.compute_capabilities
    assumed = None
    if not names and library.needs_gpu:
        names = tuple(gpu.compute_capability for gpu in driver.gpus) if driver else ()
        if options.hardware_compatibility is HardwareCompatibility.AMPERE_PLUS:
            names = (*names, *_AMPERE_PLUS)
        elif not names:
            assumed = "no driver names the GPU that it was built on"
    names = names or (DEFAULT_COMPUTE_CAPABILITY,)
    return LintTargets(tuple(dict.fromkeys(name.lower() for name in names)), assumed)


def capability_of(name: str) -> int:
    """The number of a GPU generation, 86 for "sm86"; raises UsageError for what names none."""
    match = re.fullmatch(r"sm(\d{2,3})", name.lower())
    if match is None:
        raise UsageError(
            f"compute capability {name}",
            expected="sm and two or three digits",
            found=repr(name),
            remedy="name a GPU generation such as sm86",
        )
    return int(match.group(1))


def _stopped(path: Path, stopping: Sequence[Finding], expected: str) -> UsageError:
    first, more = stopping[0], len(stopping) - 1
    node = f"{first.module} ({first.node})" if first.module else first.node
    return UsageError(
        path,
        expected=expected,
        found=f"{first.rule} at {node}: {first.found}" + (f", and {more} more" if more else ""),
        remedy=first.remedy + _command(path, first),
    )


def _command(path: Path, finding: Finding) -> str:
    """How to mend a copy, where a fix covers the rule; its remedy then names the option."""
    if "--requantize" in finding.remedy:
        options = "--fix --requantize"
    elif "--fix" in finding.remedy:
        options = "--fix"
    else:
        return ""
    return f", or mend a copy with nxmi-export lint {shlex.quote(str(path))} {options} -o FILE"
