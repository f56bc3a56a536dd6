"""A finished search, made up: every number is simple, and nothing was run for it."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nxmi_export.glue import task_named
from nxmi_export.recipe import Component, Scheme
from nxmi_export.recipe.scheme import DENSE_BITS
from nxmi_export.search.agreement import Agreement
from nxmi_export.search.progress import Origin
from nxmi_export.workflow.search.data import SLICE_REMARK
from nxmi_export.workflow.search.result import (
    FrontierPoint,
    Measured,
    Ranked,
    SearchResult,
    StopStatistics,
    Uniform,
)

SCHEMES = ("2:4", "int8", "int4", "2:4+int8", "2:4+int4")
COSTS = {"2:4": 0.02, "int8": 0.001, "int4": 0.03, "2:4+int8": 0.022, "2:4+int4": 0.07}
LAYERS = 6
_SOME = {"query": "int4", "key": "2:4+int4"}
TARGET = 0.125  # with metadata
_LINEARS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
}
LINEARS = tuple(
    f"bert.encoder.layer.{layer}.{name}" for layer in range(LAYERS) for name in _LINEARS.values()
)


def measured(origin: Origin, texts: tuple[str, ...], *, latency: bool = False) -> Measured:
    """One configuration that costs what its schemes do, some more in the later groups."""
    names = tuple(map(str, Component)) if origin == "component" else LINEARS
    schemes = dict(zip(names, texts, strict=True))
    cost = sum(COSTS[text] * (1 + place / 9) for place, text in enumerate(texts)) / len(texts)
    saved = [Scheme.parse(text) for text in texts]
    nominal, stored = (
        sum(bits) / len(texts) / DENSE_BITS
        for bits in (
            [each.nominal_bits for each in saved],
            [each.bits_with_metadata for each in saved],
        )
    )
    return Measured(
        origin=origin,
        name="/".join(texts) if origin == "component" else f"{len(texts)} linears #{cost:.4f}",
        schemes=schemes,
        nominal=nominal,
        with_metadata=stored,
        seconds=(0.004 + 0.01 * stored) if latency else None,
        divergence=cost,
        metric=0.88 - cost,
        predicted=0.8 * cost,
        predicted_with_interactions=0.9 * cost,
    )


def search_result(
    *, per: str = "both", latency: bool = False, task: str = "mrpc", output: Path | None = None
) -> SearchResult:
    """A search per component, per layer or both, with latencies or without."""
    found: list[Measured] = []
    if per != "layer":
        combinations = itertools.islice(itertools.product(SCHEMES[1:], repeat=6), 0, None, 7)
        found += [measured("component", texts, latency=latency) for texts in combinations]
    if per != "component":
        found += [
            measured(
                "layer",
                tuple(SCHEMES[2 + (place * step) % 4 // 2 * 2] for place in range(len(LINEARS))),
                latency=latency,
            )
            for step in (1, 2, 3, 5)
        ]
    found = [each for each in found if each.with_metadata <= TARGET]
    found.sort(key=lambda each: (each.divergence, each.name))
    ranked = tuple(
        Ranked(rank, f"ranked/{rank:02}.yaml", each) for rank, each in enumerate(found[:5], 1)
    )
    origins: dict[Origin, Ranked] = {}
    for rank, each in enumerate(found, 1):
        origins.setdefault(each.origin, Ranked(rank, f"winner-{each.origin}.yaml", each))
    return SearchResult(
        output=output or Path("found"),
        task=task_named(task),
        task_argument=task,
        budget={
            "size": {"target": TARGET, "metadata": True},
            "latency": {"seconds": 0.0053} if latency else None,
        },
        budget_in_words="at most 0.125 of the float32 size with metadata",
        candidates={"component": 905, "layer": 20},
        dense={"metric": 0.88, "seconds": 0.0095 if latency else None},
        ranked=ranked,
        winners=origins,
        measured=tuple(found),
        frontier=tuple(_frontier(latency=latency)),
        uniform=tuple(_uniform(latency=latency)),
        sensitivities={"layer": _sensitivities()},
        agreement={
            "component": {
                "all": {
                    "predicted": Agreement(76, 0.31),
                    "predicted_with_interactions": Agreement(76, None),
                }
            }
        },
        gaps={"layer": 0.0},
        remarks=(*(("latencies cover the encoder's linears alone",) * latency), SLICE_REMARK),
        stops={"component": StopStatistics(0.05, 905, 829, 60_000, 905 * 366)},
        latency=_table() if latency else None,
        options={
            "max_length": 128,
            "recipe": "deploy",
            "per": per,
            "seed": 0,
            "keep": 5,
            "objective": "divergence",
        },
        data={"slice": {"source": "glue", "split": "train", "examples": 366}},
        source={
            "path": "dense <minilm> & more",
            "model": "../dense <minilm> & more",
            "base": None,
            "architecture": "bert",
            "sha256": "ab" * 32,
        },
        versions={"nxmi-export": "0.1", "torch": "2.13.0"},
        seconds=754.25,
    )


def facts(**options: Any) -> dict[str, Any]:
    """What `search.json` holds of it."""
    return search_result(**options).as_json()


def _sensitivities() -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    return {
        name: {text: {"divergence": cost / LAYERS / 6, "loss": 0.0} for text, cost in COSTS.items()}
        for name in LINEARS
    }


def _frontier(*, latency: bool) -> list[FrontierPoint]:
    points = []
    for swept in ("size", "seconds") if latency else ("size",):
        for place in range(8):
            stored = 0.094 + 0.022 * place
            seconds = 0.004 + 0.01 * stored if latency else None
            predicted = 0.05 * 0.55**place
            measured = 2 * predicted, 0.88 - predicted
            points.append(
                FrontierPoint(swept, stored, stored, seconds, predicted, *measured, _SOME)
            )
    return points


def _uniform(*, latency: bool) -> list[Uniform]:
    every = (measured("layer", (text,) * len(LINEARS), latency=latency) for text in SCHEMES)
    return [
        Uniform(
            scheme=text,
            schemes=each.schemes,
            nominal=each.nominal,
            with_metadata=each.with_metadata,
            seconds=each.seconds,
            divergence=COSTS[text],
            metric=each.metric,
        )
        for text, each in zip(SCHEMES, every, strict=True)
    ]


def _table() -> dict[str, Any]:
    conditions = {"batch": 8, "sequence": 128, "threads": 2}
    return {"source": "measured", "device": "onnxruntime", "conditions": conditions}
