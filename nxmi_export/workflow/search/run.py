"""A request in, the ranked recipes and the account of the search in its folder out."""

import time
from collections.abc import Callable
from contextlib import ExitStack

from accelerate import Accelerator

from nxmi_export.compression.training.processes import (
    check_precision,
    failing_together,
    join_processes,
    told_by_all,
)
from nxmi_export.search.progress import Progress, Remark, StageBegun
from nxmi_export.sole_writer import sole_writer
from nxmi_export.workflow.search.account import account
from nxmi_export.workflow.search.journal import Journal, Known
from nxmi_export.workflow.search.outputs import Outputs
from nxmi_export.workflow.search.picture import picture_of
from nxmi_export.workflow.search.prepare import Problem, Ready
from nxmi_export.workflow.search.publish import publish
from nxmi_export.workflow.search.refinement import refined_by_measuring
from nxmi_export.workflow.search.request import SearchRequest
from nxmi_export.workflow.search.result import SearchResult
from nxmi_export.workflow.search.stages import Stage, StageResult

__all__ = ["search_model"]

OnProgress = Callable[[Progress], None]


def search_model(
    request: SearchRequest, on_progress: OnProgress = lambda progress: None
) -> SearchResult | None:
    """Search; recipes, pictures and the account of the search appear at the end.

    The result, on the main process of a distributed launch; the others get None, write nothing
    and report nothing. It does not depend on the number of processes.

    A search that ends early leaves its journal, which `resume` continues to the same result.
    Raises UsageError and its kinds for what cannot be searched as asked, such as a budget that no
    configuration keeps, and CapabilityMissing for a device that is to be timed and is not here.
    """
    begun = time.perf_counter()
    check_precision(request.precision)
    accelerator, outputs = join_processes(), Outputs(request.output)
    tell = on_progress if accelerator.is_main_process else _silent
    with ExitStack() as stack:
        with failing_together(accelerator):
            if accelerator.is_main_process:
                stack.enter_context(outputs.in_folder())
                stack.enter_context(sole_writer(outputs.journal))
                outputs.check(request)
        return _search(request, outputs, accelerator, tell, begun=begun)


def _search(
    request: SearchRequest,
    outputs: Outputs,
    accelerator: Accelerator,
    tell: OnProgress,
    *,
    begun: float,
) -> SearchResult | None:
    is_main = accelerator.is_main_process
    tell(StageBegun("reading the model and the data"))
    problem = Problem.open(request, outputs, accelerator, tell)
    for remark in problem.remarks:
        tell(Remark(remark))
    with ExitStack() as stack:
        journal = None
        with failing_together(accelerator):
            if is_main:
                journal = stack.enter_context(_journal(problem, outputs))
        known: Known = told_by_all(accelerator, journal.known if journal else None)[0]
        ready = Ready.of(problem, tell)
        stage = Stage(problem, ready, known, journal, tell)
        stages = _stages(stage)
        picture = picture_of(stage, stages[-1])
        if not is_main:
            return None
        result, recipes = account(problem, ready, stages, picture, begun=begun)
        publish(outputs, result, recipes)
        return result


def _journal(problem: Problem, outputs: Outputs) -> Journal:
    """The opened place of the search."""
    # What cannot be resumed is refused while everything is still there.
    resumed = Journal(outputs.journal, problem.fingerprint) if problem.request.resume else None
    outputs.begin(problem.request, problem.table)
    return resumed or Journal(outputs.journal, problem.fingerprint)


def _stages(stage: Stage) -> list[StageResult]:
    done: list[StageResult] = []
    if "component" in stage.problem.spaces:
        done.append(stage.per_component())
    if "layer" in stage.problem.spaces:
        before = done[0] if done else None
        done.append(refined_by_measuring(stage, stage.per_layer(before), before))
    return done


def _silent(progress: Progress) -> None:
    """The processes beside the main one report nothing."""
