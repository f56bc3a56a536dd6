"""A model and a table of measured or computed GEMMs in, the seconds of any candidate out.

A linear runs in one of four kinds: `float` without bits, `int8` with them, `int8 out` where what it
puts out is rounded too, and `int8 2:4` where that meets 2:4 weights: INT8 on both sides is all that
sparse tensor cores accelerate. Where weights alone are quantized, products run on floats and all is
`float`. Linears are timed one by one: where an engine merges query, key and value into one GEMM, it
is a little faster.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn
from transformers import PreTrainedModel

from nxmi_export.compression.int8_outputs import Needs, int8_output_needs
from nxmi_export.latency.table import INT8_OUT, Kind, LatencyTable, Source
from nxmi_export.recipe import Pattern, Placement, Scheme

__all__ = ["LatencyModel", "LinearLatency", "accelerable"]

_2_4 = Pattern(keep=2, group=4)


@dataclass(frozen=True)
class LinearLatency:
    """One linear's seconds in one forward pass, over all of its runs."""

    name: str
    seconds: Mapping[Kind, float]  # of each kind that it can run as
    needs: Needs | None  # of what else is quantized, for INT8 out; None: never

    def multiplies_int8(self, scheme: Scheme) -> bool:
        """Whether it does so under `scheme`, whatever the others follow."""
        return scheme.bits is not None and "int8" in self.seconds

    def kind(self, schemes: Mapping[str, Scheme]) -> Kind:
        """How it runs where the linears follow `schemes`."""
        scheme = schemes[self.name]
        if not self.multiplies_int8(scheme):
            return "float"
        quantized_output = self.needs is not None and all(
            any(schemes[name].bits for name in names) for names in self.needs
        )
        if not quantized_output:
            return "int8"
        return "int8 2:4" if accelerable(scheme) else "int8 out"


@dataclass(frozen=True)
class LatencyModel:
    """Seconds of one forward pass, additive over linears."""

    linears: tuple[LinearLatency, ...]
    rest: float  # seconds outside these linears, the same for every candidate
    source: Source  # "analytical" must be said wherever a number of it is shown
    device: str

    @classmethod
    def of(
        cls, model: PreTrainedModel, table: LatencyTable, placement: Placement, rows: int
    ) -> Self:
        """`model` at `rows` = batch × sequence tokens.

        A linear that a forward pass runs repeatedly (ALBERT) counts as often. Raises UsageError
        for a shape or kind that the table lacks, and UnsupportedModel for an unknown architecture.
        """
        needs = int8_output_needs(model, placement)
        runs = _runs(model, set(needs))
        linears = []
        for name, needed in needs.items():
            linear = model.get_submodule(name)
            assert isinstance(linear, nn.Linear)
            seconds = {
                kind: runs[name]
                * table.seconds(rows, linear.in_features, linear.out_features, kind)
                for kind in _kinds(placement, needed)
            }
            linears.append(LinearLatency(name, seconds, needed))
        return cls(tuple(linears), table.rest_seconds, table.source, table.device)

    def seconds(self, schemes: Mapping[str, Scheme]) -> float:
        """Of one forward pass whose linears follow `schemes`, by module name."""
        linears = (linear.seconds[linear.kind(schemes)] for linear in self.linears)
        return self.rest + sum(linears)

    @property
    def dense_seconds(self) -> float:
        """Of one forward pass without any scheme."""
        return self.rest + sum(linear.seconds["float"] for linear in self.linears)


def accelerable(scheme: Scheme) -> bool:
    """Whether sparse tensor cores could run it, given INT8 on both sides."""
    return scheme.pattern == _2_4 and scheme.bits is not None


def _kinds(placement: Placement, needs: Needs | None) -> tuple[Kind, ...]:
    """What a linear can run as; its input is rounded unless weights alone are."""
    if placement is Placement.WEIGHTS:
        return ("float",)
    return ("float", "int8") if needs is None else ("float", "int8", *INT8_OUT)


@torch.no_grad()
def _runs(model: PreTrainedModel, names: set[str]) -> Counter[str]:
    """How often a forward pass calls each of these modules, by trying one on two tokens."""
    runs: Counter[str] = Counter()

    def count(name: str) -> Any:
        return lambda *_: runs.update([name])

    hooks = [model.get_submodule(name).register_forward_hook(count(name)) for name in names]
    try:
        model(input_ids=torch.ones(1, 2, dtype=torch.long, device=model.device))
    finally:
        for hook in hooks:
            hook.remove()
    return runs
