"""Everything one parity run found, as a value and as JSON."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from nxmi_export.glue import Dataset
from nxmi_export.parity.bisect import Bisection
from nxmi_export.parity.codes import CodeAgreement
from nxmi_export.parity.drift.measure import Drift
from nxmi_export.parity.drift.rung import RungDrift
from nxmi_export.parity.explanation import Explanation
from nxmi_export.parity.ladder import Comparison, RungResult, Stage
from nxmi_export.parity.probes import Reach, Sizes
from nxmi_export.parity.score_statistics import NotCompared
from nxmi_export.parity.shapes import ShapeParity, ShapeSetting
from nxmi_export.parity.statistics import ScoreComparison
from nxmi_export.parity.weights import Mismatch, WeightParity

__all__ = ["SCHEMA", "ParityResult", "Probes", "Step", "Unproven"]

SCHEMA = "nxmi-export/parity/3"


@dataclass(frozen=True)
class Step:
    """Two rungs compared, and what is known of the changed examples."""

    reference: Stage
    candidate: Stage
    comparison: Comparison
    explanations: tuple[Explanation, ...] = ()  # of changed examples
    statistics: ScoreComparison | NotCompared | None = None  # None: not asked for
    replayed: tuple[Explanation, ...] = ()  # of a few others, whose logits may differ unnoticed

    @property
    def explained(self) -> tuple[int, ...]:
        """The changed examples that rounding ties explain."""
        ties = {e.index for e in self.explanations if e.explained}
        return tuple(c.index for c in self.comparison.changes if c.index in ties)

    @property
    def unexplained(self) -> tuple[int, ...]:
        """The changed examples that nothing explains: no explanation, a refused one, or none."""
        explained = set(self.explained)
        return tuple(c.index for c in self.comparison.changes if c.index not in explained)

    @property
    def refuted(self) -> tuple[Explanation, ...]:
        """Of the changed examples, those whose replay found something else than rounding."""
        changed = {c.index for c in self.comparison.changes}
        return tuple(e for e in self.explanations if e.explained is False and e.index in changed)


@dataclass(frozen=True)
class Unproven:
    """Why a rung of the ladder could not be run here."""

    reason: str  # one sentence
    deployed: bool  # whether the artefact has it: then nothing is known of what would run


@dataclass(frozen=True)
class Probes:
    """What came of made-up inputs that use what no text of the dev set does (see `probes`).

    Every rung is compared but the dense model, which differs anyway, OpenVINO and an engine: they
    show no codes, and what they decide on a made-up input proves nothing.
    """

    sizes: Sizes
    reach: Reach
    dev_set: Reach
    steps: tuple[Step, ...]  # every example replayed, or equal bit for bit
    float16: CodeAgreement | None = None  # of its first quantizer, behind the embeddings
    float16_gap: float | None = None  # allowed to logits of a float16 file that quantizes nothing
    drift: Mapping[Stage, RungDrift] = field(default_factory=dict)  # measured where they fail


@dataclass(frozen=True)
class ParityResult:
    """What was run and compared; what was not is absent, which `verdict` notices."""

    rungs: Mapping[Stage, RungResult]
    steps: tuple[Step, ...] = ()
    weights: Mapping[str, WeightParity] = field(default_factory=dict)  # by file name
    shapes: tuple[ShapeParity, ...] = ()
    codes: tuple[CodeAgreement, ...] = ()
    environment: Mapping[str, str] | None = None  # library → version, as the caller knows them
    unproven: Mapping[Stage, Unproven] = field(
        default_factory=dict
    )  # rungs that are not in `rungs`
    drift: Mapping[Stage, RungDrift] = field(default_factory=dict)  # empty: not measured
    layer_errors: tuple[Drift, ...] = ()  # between stages by name; empty: not measured
    bisection: Bisection | None = None  # None: not asked for
    probes: Probes | None = None  # None: not run
    records: tuple[Mismatch, ...] = ()  # what the manifest says otherwise than the graphs

    def step(self, reference: Stage, candidate: Stage) -> Step | None:
        """The comparison of these two rungs, if there was one."""
        for step in self.steps:
            if (step.reference, step.candidate) == (reference, candidate):
                return step
        return None

    @property
    def dataset(self) -> Dataset | None:
        """What the first rung ran over; None where no rung ran."""
        return next((rung.dataset for rung in self.rungs.values()), None)

    @property
    def name(self) -> str:
        """The task and split, as in "mnli validation_matched"."""
        dataset = self.dataset
        return f"{dataset.task.name} {dataset.split}" if dataset else "nothing"

    def as_json(self) -> dict[str, Any]:
        """Plain data under the schema `SCHEMA`; a number that is NaN or infinite becomes null."""
        document = {
            "schema": SCHEMA,
            "dataset": _dataset(self.dataset),
            "rungs": {
                stage.value: _rung(self.rungs[stage]) for stage in Stage if stage in self.rungs
            },
            "unproven": {stage.value: asdict(each) for stage, each in self.unproven.items()},
            "steps": [_step(step) for step in self.steps],
            "weights": {
                name: {"equal": each.equal, "foreign": each.foreign, **_counts(each)}
                for name, each in self.weights.items()
            },
            "shapes": [_shape(shape) for shape in self.shapes],
            "codes": [_codes(count) for count in self.codes],
            "drift": {stage.value: each.as_json() for stage, each in self.drift.items()},
            "layer_errors": [each.as_json() for each in self.layer_errors],
            "bisection": self.bisection.as_json() if self.bisection else None,
            "records": [asdict(each) for each in self.records],
            "probes": None if self.probes is None else _probes(self.probes),
            "environment": dict(self.environment or {}),
        }
        plain: dict[str, Any] = _plain(document)
        return plain


def _dataset(dataset: Dataset | None) -> dict[str, Any] | None:
    if dataset is None:
        return None
    return {
        "task": dataset.task.name,
        "labels": list(dataset.task.labels),
        "primary_metric": dataset.task.primary_metric,
        "split": dataset.split,
        "examples": len(dataset),
        "source": dataset.source,
        "sha256": dataset.sha256,
    }


def _rung(rung: RungResult) -> dict[str, Any]:
    return {
        "name": rung.name,
        "examples": len(rung.dataset),
        "batch_tokens": rung.batch_tokens,
        "scores": dict(rung.scores),
        "primary": rung.primary,
        "non_finite_examples": rung.non_finite.tolist(),
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "reference": step.reference.value,
        "candidate": step.candidate.value,
        "comparison": _comparison(step.comparison),
        "explanations": [asdict(explanation) for explanation in step.explanations],
        "replayed": [asdict(explanation) for explanation in step.replayed],
        "unexplained": step.unexplained,
        "statistics": _statistics(step.statistics),
    }


def _counts(weights: WeightParity) -> dict[str, Any]:
    """Names are told where something is wrong with them."""
    return {name: value for name, value in asdict(weights).items() if name != "compared"}


def _shape(shape: ShapeParity) -> dict[str, Any]:
    return {**asdict(shape), "settings": [_shape_setting(each) for each in shape.settings]}


def _shape_setting(setting: ShapeSetting) -> dict[str, Any]:
    """Logits are what replays are held against, and no result."""
    facts = asdict(replace(setting, logits=None))
    del facts["logits"]
    return {**facts, "unexplained": setting.unexplained}


def _probes(probes: Probes) -> dict[str, Any]:
    return {
        "sizes": asdict(probes.sizes),
        "reach": asdict(probes.reach),
        "dev_set": asdict(probes.dev_set),
        "steps": [_probe_step(step) for step in probes.steps],
        "float16": None if probes.float16 is None else _codes(probes.float16),
        "float16_gap": probes.float16_gap,
        "drift": {stage.value: each.as_json() for stage, each in probes.drift.items()},
    }


def _probe_step(step: Step) -> dict[str, Any]:
    """Without labels there are no scores, and a changed prediction is an example like any other."""
    comparison = step.comparison
    return {
        "reference": step.reference.value,
        "candidate": step.candidate.value,
        "names": [comparison.reference, comparison.candidate],
        "examples": comparison.examples,
        "different": len(comparison.different),
        "largest_logit_gap": comparison.largest_logit_gap,
        "replayed": [asdict(each) for each in (*step.explanations, *step.replayed)],
    }


def _codes(count: CodeAgreement) -> dict[str, Any]:
    return {**asdict(count), "rate": count.rate}


def _statistics(found: ScoreComparison | NotCompared | None) -> dict[str, Any] | None:
    """Either a comparison or the reason why there is none; null where none was asked for."""
    match found:
        case None:
            return None
        case NotCompared(reason):
            return {"compared": False, "reason": reason}
        case _:
            return {"compared": True, **found.as_json()}


def _comparison(comparison: Comparison) -> dict[str, Any]:
    """Of the examples that differ in any bit, which are most, their number and the first."""
    facts = asdict(comparison)
    different = facts.pop("different")
    return {**facts, "different": len(different), "first_different": next(iter(different), None)}


def _plain(value: Any) -> Any:
    """`value` as JSON has it: lists for tuples, null for what is no number."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case _:
            return value
