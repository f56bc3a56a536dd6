"""A finished run as a value: what was kept of the dense model, and how small it became."""

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nxmi_export.recipe import Recipe
from nxmi_export.workflow.compress.run_log import Entry, plain
from nxmi_export.workflow.compress.stored import Compression, StoredLayer, moved_of

__all__ = ["SCHEMA", "CompressResult"]

SCHEMA = "nxmi-export/compress/1"


@dataclass(frozen=True)
class CompressResult:
    """What `NAME.compress.json` holds."""

    output: Path
    task: str
    task_description: Mapping[str, Any] | None  # of a task of one's own
    primary_metric: str  # in words
    evaluated_on: str  # "dev" or "holdout"
    dense: Mapping[str, float]  # metrics by name
    compressed: Mapping[str, float]
    compression: Compression
    layers: Mapping[str, StoredLayer]
    recipe: Recipe
    options: Mapping[str, Any]
    data: Mapping[str, Any]
    source: Mapping[str, Any]  # the dense model: its path and hash
    versions: Mapping[str, str]
    seconds: float
    history: tuple[Entry, ...]  # one entry an epoch

    @property
    def primary(self) -> tuple[float, float]:
        """GLUE's one number, of the dense and of the compressed model."""
        dense, compressed = (
            statistics.fmean(each.values()) for each in (self.dense, self.compressed)
        )
        return dense, compressed

    @property
    def retention(self) -> float | None:
        """The compressed number as a share of the dense one; None where that says nothing."""
        dense, compressed = self.primary
        return compressed / dense if dense > 0 else None

    def as_json(self) -> dict[str, Any]:
        """Plain data with a versioned schema; a metric that is not a number is null."""
        dense, compressed = self.primary
        facts = {
            "schema": SCHEMA,
            "output": self.output.name,
            "task": self.task,
            "task_description": self.task_description,
            "primary_metric": self.primary_metric,
            "evaluated_on": self.evaluated_on,
            "metrics": {
                "dense": {**self.dense, "primary": dense},
                "compressed": {**self.compressed, "primary": compressed},
                "retention": self.retention,
            },
            "compression": asdict(self.compression),
            "mask_moved": moved_of(self.layers.values()),
            "layers": {name: layer.as_json() for name, layer in self.layers.items()},
            "recipe": self.recipe.as_mapping(),
            "options": self.options,
            "data": self.data,
            "source": self.source,
            "versions": self.versions,
            "seconds": round(self.seconds, 3),
            "epochs": self.history,
        }
        plain_facts: dict[str, Any] = plain(facts)
        return plain_facts
