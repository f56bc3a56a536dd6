"""What a bad graph is: a mutation of the good one, and the rule that it breaks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

__all__ = ["BadGraph", "Mutation"]

Mutation = Callable[[ir.Model], None]


@dataclass(frozen=True)
class BadGraph:
    """A mutation that breaks one rule, and what the engine is to be built for."""

    rule: str
    mutate: Mutation
    variant: str = ""  # which of several ways to break the rule
    options: Mapping[str, int] = field(default_factory=dict)  # of `lint`
    unseen: str = ""  # why kernels do not show what a degrading rule is about

    @property
    def name(self) -> str:
        """The rule, with the variant where there are several."""
        return f"{self.rule} ({self.variant})" if self.variant else self.rule
