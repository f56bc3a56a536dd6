"""One dev split of a parity run in, the SVG of its ladder out: rungs, and what each step changed.

The steps lead from the trained model to what is deployed. What is compared with one rung and leads
to no other hangs beside the ladder: the graph before any pass, the file for the CPU as it is
written, which must equal its neighbour bit for bit, the float16 file, the INT4 file beside what it
was packed from, and OpenVINO. Signs and words say what colours say. The text of the picture is also
its description.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from nxmi_export.parity import Stage
from nxmi_export.report.markup import Html, element
from nxmi_export.report.parity_facts import (
    FAILS,
    Facts,
    Mark,
    check_mark,
    holds,
    split_name,
    step_of,
)

__all__ = ["ENGINE", "NARROW", "WIDE", "ladder_chart"]

WIDE, NARROW = 860, 340  # pixels: a desktop's page, a phone's
ENGINE = "TensorRT engine"  # the rung after the last

_BOX = (116, 90)  # pixels
_LINES = ((20, "name"), (37, "name"), (60, "score"), (79, "note"))  # pixels below a box's edge
_BELOW = 44  # pixels between two boxes, one above the other
# The condition of the gate that judges a step; compression is meant to change predictions.
_EXPLAINED = "changed predictions explained"
_PACKED = "INT4 file equal bit for bit"
_CHECKS = {
    (Stage.COMPRESSED, Stage.CAPTURED): _EXPLAINED,
    (Stage.COMPRESSED, Stage.WRITTEN): _EXPLAINED,
    (Stage.WRITTEN, Stage.OPTIMIZED): "optimized kernels",
    (Stage.WRITTEN, Stage.SHIFTED): "CPU file equal bit for bit",
    (Stage.WRITTEN, Stage.FLOAT16): "float16 file",
    (Stage.WRITTEN, Stage.INT4): _PACKED,
    (Stage.FLOAT16, Stage.INT4): _PACKED,
    (Stage.COMPRESSED, Stage.OPENVINO): "OpenVINO",
}
_SAME_BITS = (Stage.SHIFTED, Stage.INT4)  # as what each is compared with
_MAIN = (Stage.DENSE, Stage.COMPRESSED, Stage.WRITTEN, Stage.OPTIMIZED)


class _Side(NamedTuple):
    """A rung beside the ladder."""

    stage: Stage
    of: Stage  # the rung that it is compared with
    at: Stage  # the rung that it hangs beside
    leaves: Stage | None = None  # the rung that its arrow comes from; None: the one compared with


_SIDES = (
    _Side(Stage.CAPTURED, Stage.COMPRESSED, at=Stage.COMPRESSED),
    _Side(Stage.SHIFTED, Stage.WRITTEN, at=Stage.WRITTEN),
    _Side(Stage.FLOAT16, Stage.WRITTEN, at=Stage.OPTIMIZED),
)


class _Label(NamedTuple):
    text: str
    style: str


class _Place(NamedTuple):
    """The upper left corner of a box."""

    x: float
    y: float


@dataclass(frozen=True)
class _Rung:
    name: tuple[str, str]  # in two lines
    score: str
    note: str
    present: bool


def ladder_chart(split: Facts, engine: Facts | None, width: int = WIDE) -> Html:
    """`split` is one of the run's JSON, `engine` the content of engine.json; `width` in pixels."""
    stages = [each for each in _MAIN if each is not Stage.DENSE or each.value in split["rungs"]]
    drawing = _wide if width >= WIDE else _narrow
    places, height = drawing(len(stages) + 1)
    place_of = dict(zip((*stages, Stage.ENGINE), places, strict=True))
    parts: list[Html] = []
    for stage, following, (place, target) in zip(
        stages, [*stages[1:], None], pairwise(places), strict=True
    ):
        parts += _box(_rung(split, stage), place)
        parts += _edge(place, target, _step_label(split, stage, following))
    parts += _box(_engine_rung(split, engine), places[-1])
    for side in _sides(split, stages):
        beside = _beside(place_of[side.at], upright=width < WIDE)
        label = _step_label(split, side.of, side.stage)
        parts += _box(_rung(split, side.stage), beside)
        place_of[side.stage] = beside
        source = side.leaves or side.of
        if side.at is source or source not in _MAIN:
            parts += _edge(place_of[source], beside, label)
        else:
            parts += _fork(place_of[source], beside, label, upright=width < WIDE)
    return element(
        "svg",
        element("title", f"Ladder of {split_name(split)}"),
        element("desc", " ".join(_told(split, stages, engine))),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}",
        width=str(width),
        height=str(height),
        role="img",
    )


def _sides(split: Facts, stages: Sequence[Stage]) -> list[_Side]:
    """Those that ran, and the one that must; INT4 behind float16, or in its place."""
    rungs = split["rungs"]
    sides = [each for each in _SIDES if each.stage is Stage.SHIFTED or each.stage in rungs]
    if Stage.INT4 in rungs and Stage.FLOAT16 in rungs:
        sides.append(_Side(Stage.INT4, Stage.FLOAT16, at=Stage.ENGINE))
    elif Stage.INT4 in rungs:
        sides.append(_Side(Stage.INT4, Stage.WRITTEN, at=Stage.OPTIMIZED))
    if Stage.OPENVINO in rungs:
        sides += _openvino({*stages, Stage.ENGINE} - {side.at for side in sides})
    return sides


def _openvino(free: set[Stage]) -> Iterator[_Side]:
    """Where there is room; it runs the written file, and is compared with PyTorch."""
    for at in (Stage.ENGINE, Stage.COMPRESSED, Stage.DENSE):
        if at in free:
            yield _Side(Stage.OPENVINO, Stage.COMPRESSED, at, leaves=Stage.WRITTEN)
            return


def _wide(count: int) -> tuple[list[_Place], int]:
    gap = (WIDE - 2 - count * _BOX[0]) / (count - 1)
    return [_Place(1 + each * (_BOX[0] + gap), 1) for each in range(count)], 2 * _BOX[
        1
    ] + _BELOW + 2


def _narrow(count: int) -> tuple[list[_Place], int]:
    step = _BOX[1] + _BELOW
    return [_Place(1, 1 + each * step) for each in range(count)], count * step - _BELOW + 2


def _beside(rung: _Place, *, upright: bool) -> _Place:
    if upright:
        return _Place(NARROW - _BOX[0] - 1, rung.y)
    return _Place(rung.x, rung.y + _BOX[1] + _BELOW)


def _rung(split: Facts, stage: Stage) -> _Rung:
    found = split["rungs"].get(stage.value)
    if found is None:
        return _Rung((stage.value, ""), "not run", "", present=False)
    first, _, second = found["name"].partition(", ")
    whole = found["examples"] == split["dataset"]["examples"]
    score = "no number" if found["primary"] is None else f"{found['primary']:.4f}"
    note = "" if whole else f"first {found['examples']}"
    return _Rung((first, second), score, note, present=True)


def _engine_rung(split: Facts, engine: Facts | None) -> _Rung:
    if engine is None:
        return _Rung((ENGINE, ""), "not built", "", present=False)
    library = engine["library"]
    name = ENGINE, library["name"]
    found = split["rungs"].get(Stage.ENGINE.value)
    if found is None:
        return _Rung(name, "unproven", library["version"], present=False)
    score = "no number" if found["primary"] is None else f"{found['primary']:.4f}"
    return _Rung(name, score, library["version"], present=True)


def _step_label(split: Facts, reference: Stage, candidate: Stage | None) -> _Label | None:
    step = None if candidate is None else step_of(split, reference, candidate)
    if step is None or candidate is None:
        return None
    check = _CHECKS.get((reference, candidate))
    mark = None if check is None else _mark(split, check, step)
    text, style = _step_text(step, candidate), mark.style if mark else ""
    return _Label(f"{mark.sign} {text}" if mark else text, style)


def _mark(split: Facts, check: str, step: Facts) -> Mark | None:
    """What the gate says of one step; the explanations of two are one condition."""
    if check != _EXPLAINED:
        return check_mark(split, check)
    found = check_mark(split, check)
    if found is not FAILS:
        return found
    named = f"{step['comparison']['candidate']} "
    return holds(not any(each.startswith(named) for each in split["failures"]))


def _step_text(step: Facts, candidate: Stage) -> str:
    comparison = step["comparison"]
    if candidate not in _SAME_BITS:
        return f"{len(comparison['changes'])} changed"
    return f"{comparison['different']} differ" if comparison["different"] else "bits equal"


def _box(rung: _Rung, place: _Place) -> Iterator[Html]:
    width, height = _BOX
    yield element(
        "rect",
        x=f"{place.x:.1f}",
        y=f"{place.y:.1f}",
        width=str(width),
        height=str(height),
        rx="8",
        class_="present" if rung.present else "absent",
    )
    lines = zip((*rung.name, rung.score, rung.note), _LINES, strict=True)
    for text, (below, style) in lines:
        if text:
            yield _text(text, place.x + width / 2, place.y + below, "middle", style)


def _edge(source: _Place, target: _Place, label: _Label | None) -> Iterator[Html]:
    """An arrow between two boxes, across or down, and what it is labelled with."""
    width, height = _BOX
    if target.y == source.y:
        x, end, y = source.x + width, target.x, source.y + height / 2
        yield element("path", d=f"M{x:.1f},{y:.1f} H{end - 6:.1f}", class_="arrow")
        yield element("path", d=f"M{end:.1f},{y:.1f} l-7,-4 v8 z", class_="tip")
        if label:
            yield _around((x + end) / 2, y, label)
    else:
        x, y, end = source.x + width / 2, source.y + height, target.y
        yield element("path", d=f"M{x:.1f},{y:.1f} V{end - 6:.1f}", class_="arrow")
        yield element("path", d=f"M{x:.1f},{end:.1f} l-4,-7 h8 z", class_="tip")
        if label:
            yield _text(label.text, x + 12, (y + end) / 2 + 4, "start", label.style)


def _fork(source: _Place, target: _Place, label: _Label | None, *, upright: bool) -> Iterator[Html]:
    """An arrow that leaves another one on its way from `source`, to a box beside the next rung."""
    width, height = _BOX
    if upright:
        y, turn, middle = source.y + height / 2, target.x - 18, target.y + height / 2
        yield element(
            "path", d=f"M{turn:.1f},{y:.1f} V{middle:.1f} H{target.x - 6:.1f}", class_="arrow"
        )
        yield element("path", d=f"M{target.x:.1f},{middle:.1f} l-7,-4 v8 z", class_="tip")
        if label:
            yield _around(turn - 32, middle, label)
    else:
        x, y, into, end = source.x + width / 2, source.y + height, target.x + width / 2, target.y
        yield element("path", d=f"M{x:.1f},{y + 8:.1f} H{into:.1f} V{end - 6:.1f}", class_="arrow")
        yield element("path", d=f"M{into:.1f},{end:.1f} l-4,-7 h8 z", class_="tip")
        if label:
            yield _text(label.text, into + 12, (y + end) / 2 + 4, "start", label.style)


def _text(text: str, x: float, y: float, anchor: str, style: str) -> Html:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=style)


def _around(x: float, y: float, label: _Label) -> Html:
    """The sign and the count above the arrow, what was counted below it: there is no more room."""
    above, below = label.text.rsplit(" ", 1)
    lines = (
        element("tspan", text, x=f"{x:.1f}", y=f"{y + down:.1f}")
        for text, down in ((f"{above} ", -8), (below, 18))
    )
    return element("text", *lines, text_anchor="middle", class_=label.style)


def _told(split: Facts, stages: list[Stage], engine: Facts | None) -> Iterator[str]:
    sides = _sides(split, stages)
    for stage in (*stages, *(side.stage for side in sides)):
        rung = _rung(split, stage)
        yield f"{', '.join(filter(None, (*rung.name, rung.note)))}: {rung.score}."
    for reference, candidate in (*pairwise(stages), *((side.of, side.stage) for side in sides)):
        if step := step_of(split, reference, candidate):
            comparison = step["comparison"]
            yield (
                f"From {comparison['reference']} to {comparison['candidate']}: "
                f"{_step_text(step, candidate)}, of {comparison['examples']}."
            )
    yield f"{ENGINE}: {_engine_rung(split, engine).score}."
