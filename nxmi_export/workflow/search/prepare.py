"""A request in, everything that scoring needs out: first what is quick to refuse, then the rest."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Self

from accelerate import Accelerator
from transformers import PreTrainedModel

from nxmi_export.checkpoint import CompressedCheckpoint
from nxmi_export.compression import restore
from nxmi_export.compression.training.fingerprint import fingerprint
from nxmi_export.compression.training.options import RunOptions
from nxmi_export.compression.training.processes import (
    failing_together,
    share,
    share_weights,
    told_by_all,
)
from nxmi_export.errors import UsageError
from nxmi_export.latency import LatencyTable
from nxmi_export.recipe import Scheme
from nxmi_export.report.schemes_in_words import int4_as_stored
from nxmi_export.search.budget import Budget, check_feasible, check_listable
from nxmi_export.search.fisher import Curvature, curvature
from nxmi_export.search.latency_model import LatencyModel
from nxmi_export.search.progress import LinearPrepared, Origin, Progress, StageBegun
from nxmi_export.search.rounds import spread
from nxmi_export.search.score import (
    Logits,
    Scorer,
    ScoringOptions,
    dense_logits,
    expected_divergences,
)
from nxmi_export.search.shared_variants import shared_variants
from nxmi_export.search.space import SearchSpace, check_used
from nxmi_export.search.superset import Superset
from nxmi_export.search.variants import variants
from nxmi_export.workflow.dense_model import read_dense
from nxmi_export.workflow.search.budget import budget_of, coverage, latency_table
from nxmi_export.workflow.search.data import SLICE_REMARK, SearchData
from nxmi_export.workflow.search.outputs import Outputs
from nxmi_export.workflow.search.request import LatencyRequest, SearchRequest

__all__ = ["Problem", "Ready"]

Tell = Callable[[Progress], None]

_FORMAT = "5"  # raised whenever a score, or which candidates there are, comes about otherwise
# Of a request, what decides scores, or which there are, and is not in the training's fingerprint.
_DECISIVE = (
    *("per", "projection", "objective", "keep", "error", "proposals", "refinements"),
    "probe_examples",
)


@dataclass(frozen=True)
class Problem:
    """What is searched, in one process; nothing has been computed yet."""

    request: SearchRequest
    accelerator: Accelerator
    source: CompressedCheckpoint
    model: PreTrainedModel  # dense, the same in all processes
    data: SearchData
    spaces: Mapping[Origin, SearchSpace]  # those to search, the one per layer last
    table: LatencyTable | None
    latency: LatencyModel | None
    budget: Budget
    remarks: tuple[str, ...]  # what was decided on the way that a reader should know

    @classmethod
    def open(
        cls, request: SearchRequest, outputs: Outputs, accelerator: Accelerator, tell: Tell
    ) -> Self:
        """Read model and data; raises UsageError and its kinds for what cannot be searched."""
        source = read_dense(request.model, base=request.base)
        model = restore(source)
        share_weights(model, accelerator)
        data = SearchData.load(request, source)
        _check_counts(request)
        table = None
        with failing_together(accelerator):
            if accelerator.is_main_process:
                table = latency_table(
                    request, source, model, outputs, lambda stage: tell(StageBegun(stage))
                )
        table = told_by_all(accelerator, table)[0]
        latency = None
        if table is not None and request.latency is not None:
            rows = request.latency.batch * request.latency.sequence
            latency = LatencyModel.of(model, table, request.recipe.placement, rows)
        budget = budget_of(request, latency)
        with failing_together(accelerator):
            try:
                spaces, remarks = _spaces(request, model, budget)
            except UsageError as refusal:
                if accelerator.is_main_process and table is not None and table.source == "measured":
                    raise _with_kept_table(refusal, request, table, outputs) from refusal
                raise
        stored = int4_as_stored((each.bits for each in request.schemes), request.recipe.placement)
        remarks += (*coverage(request, table), *_of_tables(request), *stored, SLICE_REMARK)
        return cls(
            request, accelerator, source, model, data, spaces, table, latency, budget, remarks
        )

    @property
    def fingerprint(self) -> dict[str, str]:
        """Everything that decides a score, by what a user would call it."""
        request = self.request
        options = RunOptions(seed=request.seed, precision=request.precision)
        recipe = request.recipe.as_mapping()
        run = fingerprint(self.model, self.data.calibration, recipe, options, processes=1)
        of_slice = fingerprint(self.model, self.data.slice, recipe, options, processes=1)
        # None of them changes a score.
        unrelated = ("compiled", "accumulation", "processes")
        return {
            **{name: value for name, value in run.items() if name not in unrelated},
            "slice": of_slice["training data"],
            "search": _FORMAT,
            "scipy": version("scipy"),
            "target": repr(request.target),
            "budget": self.budget.describe(),
            **_of_latency(request.latency, self.table),
            "schemes": ", ".join(map(str, request.schemes)),
            **{name.replace("_", " "): str(getattr(request, name)) for name in _DECISIVE},
        }


@dataclass(frozen=True)
class Ready:
    """What scores and predicts."""

    superset: Superset  # what both of these run
    scorer: Scorer  # of candidates; for a divergence, telling examples tend to come first
    prober: Scorer  # of single changes, in an order of its own, in which no example is preferred
    reference: Logits  # of the dense model, in the order of the slice and of the task
    curvature: Curvature  # of every linear

    @classmethod
    def of(cls, problem: Problem, tell: Tell) -> Self:
        """Project and round every weight under every scheme, calibrate, and run the dense model.

        The processes share out what takes long, and have the same afterwards.
        """
        request, accelerator = problem.request, problem.accelerator
        schemes = {
            linear: group.options
            for space in problem.spaces.values()
            for group in space.groups
            for linear in group.linears
        }
        tell(StageBegun("preparing the weights"))
        prepared = shared_variants(
            {name: problem.model.get_parameter(f"{name}.weight").detach() for name in schemes},
            lambda only: variants(
                problem.model,
                schemes,
                request.recipe,
                problem.data.calibration,
                request.projection,
                only=only,
                on_linear=lambda name, number, total: tell(LinearPrepared(number, total, name)),
            ),
            accelerator,
        )
        tell(StageBegun("calibrating the quantizers"))
        superset = Superset(problem.model, request.recipe, prepared, problem.data.calibration)
        share(list(superset.activation_scales.values()), accelerator)
        options = ScoringOptions(
            seed=request.seed, precision=request.precision, order=problem.data.order
        )
        tell(StageBegun("running the dense model"))
        held = problem.data.slice
        reference = told_by_all(accelerator, dense_logits(superset, held, options))[0]
        # What is proposed depends on probes. Were they the examples that a candidate is given up
        # on, those would no longer be a random sample to it.
        unseen = replace(options, seed=request.seed + 1, chunk=request.probe_examples)
        prober = Scorer(superset, held, reference, unseen)
        weights = None
        if request.objective == "divergence":
            tell(StageBegun("finding the examples that tell most"))
            distances = spread(_pilots(schemes), prober.distances, accelerator)
            weights = told_by_all(accelerator, expected_divergences(distances))[0]
        scorer = Scorer(superset, held, reference, options, weights)
        tell(StageBegun("differentiating the dense model"))
        probed = held.select(prober.positions[: request.probe_examples])
        bends = curvature(problem.model, prepared, probed, accelerator)
        return cls(superset, scorer, prober, reference, told_by_all(accelerator, bends)[0])


def _pilots(options: Mapping[str, tuple[Scheme, ...]]) -> list[dict[str, Scheme]]:
    """The candidates of one scheme throughout, as far as each linear has it."""
    schemes = dict.fromkeys(each for of_linear in options.values() for each in of_linear)
    return [
        {linear: scheme if scheme in has else has[0] for linear, has in options.items()}
        for scheme in schemes
    ]


def _origins(request: SearchRequest) -> tuple[Origin, ...]:
    return ("component", "layer") if request.per == "both" else (request.per,)


def _spaces(
    request: SearchRequest, model: PreTrainedModel, budget: Budget
) -> tuple[dict[Origin, SearchSpace], tuple[str, ...]]:
    """Those to search, and a remark where one that was asked for cannot be.

    Whatever keeps the budget per component does per layer, but not the other way round. Raises
    UsageError where nothing keeps it, or where there is too much to look at per component alone.
    """
    spaces = {each: SearchSpace.of(model, each, request.schemes) for each in _origins(request)}
    check_used(request.schemes, spaces.values())
    last = list(spaces)[-1]
    check_feasible(spaces[last], budget)
    if last == "component":
        check_listable(spaces[last])
    if request.per != "both":
        return spaces, ()
    try:
        check_listable(spaces["component"])
        check_feasible(spaces["component"], budget)
    except UsageError as refusal:
        remark = f"searched per layer alone, as per component it cannot be ({refusal})"
        return {last: spaces[last]}, (remark,)
    return spaces, ()


def _of_tables(request: SearchRequest) -> tuple[str, ...]:
    if request.recipe.embeddings == "dense":
        return ()
    return (
        f"the recipe's tables are {request.recipe.embeddings}, and so are those of the dense model "
        "that divergences are from: they differ from no candidate's",
    )


def _with_kept_table(
    refusal: UsageError, request: SearchRequest, table: LatencyTable, outputs: Outputs
) -> UsageError:
    """The same, with what asks the same clock again: another measurement has other numbers."""
    asked = request.latency
    if asked is None or asked.table is not None or outputs.has_search:
        return refusal  # with times of its own, or in a folder whose search went by others
    table.write(outputs.latency)
    return UsageError(
        refusal.subject,
        expected=refusal.expected,
        found=refusal.found,
        remedy=f"{refusal.remedy}; --latency-table {outputs.latency} keeps these times",
    )


def _check_counts(request: SearchRequest) -> None:
    for name, least in (("keep", 1), ("proposals", 1), ("probe_examples", 1), ("refinements", 0)):
        if getattr(request, name) < least:
            raise UsageError(
                name.replace("_", " "),
                expected=f"at least {least}",
                found=str(getattr(request, name)),
                remedy="give a larger number",
            )
    if not 0 < request.error < 1:
        raise UsageError(
            "error",
            expected="a probability between 0 and 1",
            found=f"{request.error:g}",
            remedy="give one such as 0.05",
        )


def _of_latency(wanted: LatencyRequest | None, table: LatencyTable | None) -> dict[str, str]:
    """What was asked, and of which times; not where these came from, as their hash is here."""
    names = ("seconds", "share", "device", "batch", "sequence", "threads", "table")
    if wanted is None or table is None:
        return {f"latency {name}": "None" for name in names}
    threads, content = table.conditions.get("threads"), _hash(table.as_json())
    asked = (wanted.seconds, wanted.share, table.device, wanted.batch, wanted.sequence)
    values = (*asked, threads, content)
    return {f"latency {name}": str(value) for name, value in zip(names, values, strict=True)}


def _hash(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
