"""A graph in, what TensorRT-RTX does with it out: refused, or the kernels of its engine."""

import re
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import onnx_ir as ir

from nxmi_export.backends.tensorrt_engine import (
    BuildResult,
    EngineLayer,
    EngineOptions,
    Library,
    ShapeProfile,
    build_engine,
)
from nxmi_export.backends.tensorrt_engine.int8_layers import (
    is_fused_attention,
    is_gemm,
    multiplies_int8,
)
from nxmi_export.errors import EngineBuildFailed

__all__ = ["Built", "Effect", "Refused", "attempt", "compare"]

# What differs from build to build: a hash at the end of a kernel's name, numbers in a layer's.
_HASH_OR_NUMBER = re.compile(r"_0x[0-9a-f]+\w*$|\d+")


class Effect(StrEnum):
    """What becomes of a bad graph."""

    REFUSED_AT_PARSE = "refused at parse"
    REFUSED_AT_BUILD = "refused at build"
    DEGRADED = "silently degraded"  # fewer INT8 products or fused attentions, or more kernels
    OTHER_KERNELS = "as many, but other kernels"
    SAME_KERNELS = "the same kernels"


@dataclass(frozen=True)
class Refused:
    """No engine, and the library's reason."""

    effect: Effect
    reason: str


@dataclass(frozen=True)
class Built:
    """What counts in an engine."""

    int8_products: int
    float_products: int
    int8_attentions: int
    kernels: Counter[tuple[str, ...]]  # type, steps, data types
    warnings: tuple[str, ...]  # of the parser and the builder

    @classmethod
    def of(cls, result: BuildResult) -> "Built":
        """Count the layers of a build log."""
        gemms = [layer for layer in result.layers if is_gemm(layer)]
        int8 = sum(multiplies_int8(layer) is True for layer in gemms)
        fused = [layer for layer in result.layers if is_fused_attention(layer)]
        attentions = sum(multiplies_int8(layer) is True for layer in fused)
        lines = result.log.splitlines()
        warnings = dict.fromkeys(line[4:] for line in lines if line.startswith("[W] "))
        kernels = Counter(map(_kernel, result.layers))
        return cls(int8, len(gemms) - int8, attentions, kernels, tuple(warnings))

    def __str__(self) -> str:
        return (
            f"{self.int8_products} INT8 and {self.float_products} float products, "
            f"{self.int8_attentions} fused INT8 attention, {self.kernels.total()} kernels"
        )


def attempt(
    model: ir.Model, folder: Path, library: Library, *, sm: int = 86, sequence: int = 64
) -> Built | Refused:
    """Build `model` for `sequence` tokens and the compute capability `sm`."""
    path = folder / "model.onnx"
    ir.save(model, path)
    profile = ShapeProfile.parse(f"min=1x8,opt=8x64,max=8x{sequence}", position_limit=sequence)
    options = EngineOptions(compute_capabilities=(f"sm{sm}",))
    plan = folder / "model.plan"
    try:
        result = build_engine(path, plan, profiles=[profile], library=library, options=options)
    except EngineBuildFailed as error:
        at_parse = error.expected == "a graph that TensorRT's parser accepts"
        effect = Effect.REFUSED_AT_PARSE if at_parse else Effect.REFUSED_AT_BUILD
        return Refused(effect, error.found)
    return Built.of(result)


def compare(outcome: Built | Refused, good: Built) -> tuple[Effect, str]:
    """What a bad graph loses against the good one, and the evidence in a phrase."""
    if isinstance(outcome, Refused):
        return outcome.effect, outcome.reason.split("; ")[0]
    new = [line for line in outcome.warnings if line not in good.warnings]
    evidence = "; ".join((str(outcome), *new))
    lost = (
        outcome.int8_products < good.int8_products
        or outcome.float_products > good.float_products
        or outcome.int8_attentions < good.int8_attentions
        or outcome.kernels.total() > good.kernels.total()
    )
    if lost:
        return Effect.DEGRADED, evidence
    same = outcome.kernels == good.kernels
    return Effect.SAME_KERNELS if same else Effect.OTHER_KERNELS, evidence


def _kernel(layer: EngineLayer) -> tuple[str, ...]:
    """The layer without the names of its graph: its type, its steps, its data types."""
    steps = _HASH_OR_NUMBER.sub("", layer.tactic or layer.name)
    inputs = "×".join(operand.datatype for operand in layer.inputs)
    outputs = ",".join(operand.datatype for operand in layer.outputs)
    return (layer.type, steps, inputs, outputs)
