"""Every measured cell in, a sentence for each aim out: met, missed or open, with its worst case."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from samples.cpu_peers.cells import MODELS, Cell, cells
from samples.cpu_peers.compare import Fastest, Shape, shapes_of

__all__ = ["sentences"]


@dataclass(frozen=True)
class Aim:
    """What one figure of every shape is to reach."""

    what: str
    least: float
    figure: Callable[[Shape], float | None]  # None: one side of it did not run
    told: Callable[[float], str]
    models: tuple[str, ...] = tuple(MODELS)
    # Other comparisons, which decide nothing and are told.
    beside: Mapping[str, Callable[[Shape], float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Figure:
    value: float
    where: str


def sentences(results: Mapping[Cell, Mapping[str, Any] | None]) -> list[str]:
    """In the order of the aims; a cell that did not run leaves an aim open unless it is missed."""
    return [_sentence(aim, results) for aim in AIMS]


def _sentence(aim: Aim, results: Mapping[Cell, Mapping[str, Any] | None]) -> str:
    wanted = {cell: results.get(cell) for cell in cells() if cell.model in aim.models}
    ran = {cell: found for cell, found in wanted.items() if found is not None}
    gaps = [f"{cell.name} did not run" for cell in wanted if cell not in ran]
    named = _figures(aim.figure, ran)
    gaps += [f"{where} lacks a side" for where, value in named if value is None]
    figures = [_Figure(value, where) for where, value in named if value is not None]
    if not figures:
        return f"{aim.what}: open, as nothing was measured."
    worst, best = (take(figures, key=lambda each: each.value) for take in (min, max))
    reached = sum(each.value >= aim.least for each in figures)
    verdict = "missed" if reached < len(figures) else "open" if gaps else "met"
    parts = [
        f"{aim.what}: {verdict}",
        f"{aim.told(worst.value)} at worst ({worst.where}), {aim.told(best.value)} at best",
        f"reached at {reached} of {len(figures)}",
        *_beside(aim, ran),
        *gaps,
    ]
    return f"{'; '.join(parts)}."


def _beside(aim: Aim, ran: Mapping[Cell, Mapping[str, Any]]) -> Iterator[str]:
    for what, figure in aim.beside.items():
        values = [value for _, value in _figures(figure, ran) if value is not None]
        if values:
            yield f"{what}, {aim.told(min(values))} to {aim.told(max(values))}"


def _figures(
    figure: Callable[[Shape], float | None], ran: Mapping[Cell, Mapping[str, Any]]
) -> list[tuple[str, float | None]]:
    """Of every shape that was measured, with its name."""
    return [
        (f"{cell.model}, {cell.threads_told}, {shape.name}", figure(shape))
        for cell, found in ran.items()
        for shape in shapes_of(found)
    ]


def _times_faster(
    than: Callable[[Shape], Fastest | None],
    side: Callable[[Shape], Fastest | None] = lambda shape: shape.ours,
) -> Callable[[Shape], float | None]:
    def figure(shape: Shape) -> float | None:
        other, ours = than(shape), side(shape)
        return None if other is None or ours is None else ours.times_faster_than(other)

    return figure


def _of_limit(shape: Shape) -> float | None:
    return None if shape.ours is None else shape.ours.of_limit


def _ratio(value: float) -> str:
    return f"{value:.2f}×"


def _percent(value: float) -> str:
    return f"{value:.0%}"


AIMS = (
    Aim(
        "At least 4.0× PyTorch float32 on BERT-base",
        4.0,
        _times_faster(lambda shape: shape.pytorch),
        _ratio,
        ("bert-base",),
    ),
    Aim(
        "At least 1.2× the best exact peer on onnxruntime at every shape",
        1.2,
        _times_faster(lambda shape: shape.onnxruntime_exact),
        _ratio,
        beside={
            "beside default runs as well, exact or not": _times_faster(
                lambda shape: shape.onnxruntime_any
            )
        },
    ),
    Aim(
        "At least 1.0× NNCF, both on OpenVINO",
        1.0,
        _times_faster(lambda shape: shape.openvino_any, lambda shape: shape.ours_openvino),
        _ratio,
        beside={
            "where NNCF's products are exact as well": _times_faster(
                lambda shape: shape.openvino_exact, lambda shape: shape.ours_openvino
            ),
            "the fastest of ours on either library": _times_faster(
                lambda shape: shape.openvino_any
            ),
        },
    ),
    Aim("At least 75 % of the INT8 limit on BERT-base", 0.75, _of_limit, _percent, ("bert-base",)),
    Aim("At least 60 % of the INT8 limit on MiniLM", 0.60, _of_limit, _percent, ("minilm",)),
)
