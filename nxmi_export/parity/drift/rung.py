"""What drift localization found of one rung: the first fault, and its cause."""

from dataclasses import dataclass
from typing import Any

from nxmi_export.parity.drift.cause import Attribution
from nxmi_export.parity.drift.fusion import FusionCheck
from nxmi_export.parity.drift.localize import Localization
from nxmi_export.parity.drift.plain import plain

__all__ = ["RungDrift"]


@dataclass(frozen=True)
class RungDrift:
    """One ONNX rung against compressed PyTorch, over a few examples.

    A graph that runs as it is written is localized. Of an optimized one only codes can be read, so
    it is held against the graph as written.
    """

    found: Localization | FusionCheck

    @property
    def explained(self) -> bool:
        """Whether rounding explains everything that was seen."""
        if isinstance(self.found, Localization):
            return self.found.explained
        return self.found.examples > 0 and self.found.fused == 0

    @property
    def attribution(self) -> Attribution | None:
        """The cause of what differs; None where nothing does."""
        return self.found.attribution

    @property
    def first_layer(self) -> str:
        """The first layer beyond rounding, by module and kind; "" where rounding explains all."""
        if self.explained or self.attribution is None:
            return ""
        first = self.found.first if isinstance(self.found, Localization) else None
        return str(first.point) if first is not None else self.attribution.module or "the logits"

    def as_json(self) -> dict[str, Any]:
        """Plain data; a number that is NaN or infinite becomes null."""
        facts = {
            "explained": self.explained,
            "first_layer": self.first_layer,
            "cause": None if self.attribution is None else self.attribution.cause.value,
            "reason": None if self.attribution is None else self.attribution.reason,
            "found": self.found.as_json(),
        }
        document: dict[str, Any] = plain(facts)
        return document
