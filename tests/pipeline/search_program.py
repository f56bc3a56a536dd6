"""A whole search as a process of its own, so that tests can kill it or run several.

Arguments: MODEL DATA FOLDER [--resume] [--kill-at-probe NUMBER] ...
"""

import argparse
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from nxmi_export.compression.training import join_processes
from nxmi_export.glue import task_named
from nxmi_export.recipe import ActivationSettings, Recipe, Scheme
from nxmi_export.search.progress import (
    CandidateScored,
    PointScored,
    Progress,
    SensitivityDone,
)
from nxmi_export.workflow.search import LatencyRequest, SearchRequest, search_model
from tests.forked import Ended, run_forked

__all__ = ["request_for", "run_search"]

# One runs as floats: of so small linears a datasheet has all the others equally fast.
SCHEMES = tuple(map(Scheme.parse, ("2:4", "int4", "2:4+int8")))


def request_for(
    model: Path, data: Path, folder: Path, *, task: str = "sst2", resume: bool = False
) -> SearchRequest:
    """All parts of a search, small: both granularities, both budgets, early stops."""
    return SearchRequest(
        model=str(model),
        task=task_named(task),
        output=folder,
        recipe=Recipe(activations=ActivationSettings(calibration_batches=1)),
        target=0.16,
        latency=LatencyRequest(device="a100", share=0.65, batch=4096, sequence=64),
        schemes=SCHEMES,
        keep=3,
        proposals=6,
        probe_examples=32,
        holdout=0.5,
        data_dir=data,
        resume=resume,
    )


def run_search(model: Path, data: Path, folder: Path, *arguments: str, processes: int = 1) -> Ended:
    """Search in `processes` processes joined by gloo."""
    return run_forked(main, [*map(str, (model, data, folder)), *arguments], processes=processes)


def main(arguments: Sequence[str]) -> None:
    """Search, and die on the way where that is asked for."""
    parser = argparse.ArgumentParser()
    for name in ("model", "data", "folder"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--kill-at-probe", type=int)
    parser.add_argument("--kill-at-uniform", type=int)
    parser.add_argument("--kill-at-score", type=int, help="of the search per component")
    parser.add_argument("--kill-at-marginal", type=int)
    parser.add_argument("--kill-at-refined", type=int)
    parser.add_argument("--kill-at-point", type=int)
    given = parser.parse_args(arguments)

    def on_progress(progress: Progress) -> None:
        match progress:
            case SensitivityDone(origin="component", number=given.kill_at_probe, uniform=False):
                os.kill(os.getpid(), signal.SIGKILL)
            case SensitivityDone(uniform=True, number=given.kill_at_uniform):
                os.kill(os.getpid(), signal.SIGKILL)
            case CandidateScored(origin="component", number=given.kill_at_score):
                os.kill(os.getpid(), signal.SIGKILL)
            case SensitivityDone(refinement=1, number=given.kill_at_marginal):
                os.kill(os.getpid(), signal.SIGKILL)
            case PointScored(number=given.kill_at_point):
                os.kill(os.getpid(), signal.SIGKILL)
            case CandidateScored(refinement=1, number=given.kill_at_refined):
                os.kill(os.getpid(), signal.SIGKILL)

    request = request_for(given.model, given.data, given.folder, resume=given.resume)
    search_model(request, on_progress)
    join_processes().end_training()
