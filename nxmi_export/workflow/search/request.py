"""What to search for, on which data, and where the result goes: the `SearchRequest`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nxmi_export.glue import Task
from nxmi_export.recipe import Recipe, Scheme
from nxmi_export.search.ranking import Objective
from nxmi_export.search.space import DEFAULT_SCHEMES

__all__ = [
    "LatencyRequest",
    "Objective",
    "Per",
    "Precision",
    "Projection",
    "SearchRequest",
]

Per = Literal["component", "layer", "both"]
Projection = Literal["magnitude", "reconstruction"]
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class LatencyRequest:
    """Where the latency of a linear comes from, and how much of it all may take together.

    One of `table`, the file of `nxmi-export latency`, and `device` is given: "onnxruntime" and
    "tensorrt" measure here and now, the name of a GPU estimates by its roofline. One of `seconds`
    and `share`, of the dense model's latency, is the budget; with neither, latencies are told and
    nothing is asked of them.
    """

    table: Path | None = None
    device: str | None = None
    seconds: float | None = None
    share: float | None = None
    batch: int = 8
    sequence: int = 128  # tokens
    threads: int | None = None  # of a measurement; None: all cores


@dataclass(frozen=True)
class SearchRequest:
    """One search.

    Configurations are scored on a slice of the train split, the one that `compress --evaluate-on
    holdout` reports on, and quantizers are calibrated on the rest of it; dev sets are not read.
    `error` is the probability, over the random order of the examples, that giving up early loses a
    configuration that belongs among the `keep` best.
    """

    model: str  # a dense model.pt, a Hugging Face directory or a hub name
    task: Task
    output: Path  # a folder
    recipe: Recipe  # everything but the schemes
    target: float | None = None  # largest size, as a share of float32; None: only latency counts
    metadata: bool = True  # whether the size counts the index of every kept value
    latency: LatencyRequest | None = None
    per: Per = "both"
    schemes: tuple[Scheme, ...] = DEFAULT_SCHEMES
    recipe_name: str = "deploy"
    projection: Projection = "reconstruction"
    objective: Objective = "divergence"
    keep: int = 5
    error: float = 0.05
    proposals: int = 20  # of the solver, to be scored
    refinements: int = 6  # rounds of single changes measured around the best so far; 0: none
    probe_examples: int = 64  # of the slice, for the sensitivities
    holdout: float = 0.1  # share of the train split
    slice_limit: int | None = 512  # examples of it at most; None: all
    data_dir: Path | None = None  # None: the hub
    base: str | None = None  # the configuration of a bare state dict
    max_length: int = 128  # tokens
    seed: int = 0  # of the order of the examples
    precision: Precision = "fp32"
    resume: bool = False
    overwrite: bool = False
