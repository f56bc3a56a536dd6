"""What quantizers must know of one encoder block: its linears, and the values between them."""

from collections.abc import Mapping
from dataclasses import dataclass

from nxmi_export.recipe import Component

__all__ = ["EncoderBlock", "Value"]


@dataclass(frozen=True)
class Value:
    """One activation, by the full names of the modules around it."""

    readers: tuple[str, ...] = ()  # linears, all of which read it under one scale
    # The modules whose output it is, where residual additions read it too; several where a block
    # runs repeatedly. Empty: only the linears read it, or something else lies between.
    makers: tuple[str, ...] = ()
    added_to: str | None = None  # a linear whose output it is added to, where no linear reads it


@dataclass(frozen=True)
class EncoderBlock:
    """One encoder block, by full module names, in order of execution."""

    attention: str  # the module that transformers hands to the attention function
    # A fused linear belongs to several components, a bottleneck to none.
    linears: Mapping[str, tuple[Component, ...]]
    values: tuple[Value, ...]  # every linear reads one of them
    outputs: tuple[str, ...]  # the linears whose own output `sparse` quantizes
    # Rotary positions change query and key behind their linear, so that what the attention
    # matmuls read exists only inside the attention function.
    rotary: bool = False

    def linears_of(self, *components: Component) -> tuple[str, ...]:
        """The linears that belong to any of `components`."""
        wanted = set(components)
        return tuple(name for name, parts in self.linears.items() if wanted.intersection(parts))
