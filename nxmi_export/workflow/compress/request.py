"""What to compress, on which data, and where to: the `CompressRequest`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nxmi_export.compression.training.options import Precision
from nxmi_export.glue import Task
from nxmi_export.recipe import Recipe

__all__ = ["CompressRequest", "Split", "TrackerName"]

Split = Literal["dev", "holdout"]
TrackerName = Literal["tensorboard", "mlflow"]


@dataclass(frozen=True)
class CompressRequest:
    """One compression run.

    `evaluate_on` "dev" trains on all of the train split and reports on the dev splits; "holdout"
    keeps the share `holdout` of the train split out of training and reports on that, which is what
    hyper-parameters may be chosen on.
    """

    model: str  # a dense model.pt, a Hugging Face directory or a hub name
    task: Task
    output: Path  # the model file; everything else is written beside it
    recipe: Recipe
    recipe_name: str = "recipe"  # in tables and plots
    data_dir: Path | None = None  # None: the hub
    base: str | None = None  # the configuration of a bare state dict
    seed: int = 0
    limit: int | None = None  # training examples; None: all
    max_length: int = 128  # tokens
    precision: Precision = "fp32"
    compiled: bool = False  # the training step, by torch.compile
    accumulation: int = 1  # micro-batches per step
    evaluate_on: Split = "dev"
    holdout: float = 0.1  # share of the train split
    snapshot_seconds: float = 300.0
    resume: bool = False
    tracker: TrackerName | None = None
    overwrite: bool = False
    # `resume` may continue a run of other learning rates, another clip norm or weight decay.
    adjusted: bool = False
