"""A dev split that was run in, the smallest set of layers whose return restores its score out."""

import signal
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from transformers import PreTrainedModel

from nxmi_export.backends.torch_eager import TorchRunner
from nxmi_export.compression.insert_quantizers import compressed_linears
from nxmi_export.errors import UsageError
from nxmi_export.parity import RungResult, Stage, rung_of
from nxmi_export.parity.bisect import Bisection, BudgetSpent, Goal, ReturningLayers, smallest_set
from nxmi_export.parity.logits import logits_of
from nxmi_export.recipe import Recipe
from nxmi_export.workflow.parity.climb import Climbed
from nxmi_export.workflow.parity.ladder import NAMES, Ladder

__all__ = ["bisection", "check_bisectable"]


def check_bisectable(ladder: Ladder) -> None:
    """Refuse what has no layer to return, before the work."""
    if ladder.request.bisect_budget is None:
        return
    if ladder.artefact.manifest.recipe is None or not compressed_linears(ladder.model):
        raise UsageError(
            f"bisecting {ladder.artefact.directory}",
            expected="a model that was compressed",
            found="no compressed layer",
            remedy="leave --bisect out",
        )


def bisection(ladder: Ladder, climbed: Climbed, budget: int) -> Bisection | None:
    """Return layers to the dense model's, or where there is none to their own floats.

    The score to restore is the dense model's, else that of the model with every layer returned, up
    to the gate's drop. Layers that compression changed most are suspected first. The first Ctrl-C
    ends the search with the best set so far; None where it came before any set was known.
    """
    model, dense = ladder.model, ladder.dense
    assert isinstance(model, PreTrainedModel)
    assert dense is None or isinstance(dense, PreTrainedModel)
    facts = ladder.artefact.manifest.recipe
    assert facts is not None  # see `check_bisectable`
    recipe = Recipe.from_mapping(facts, source=str(ladder.artefact.directory))
    returning = ReturningLayers(model, recipe, dense)
    done: dict[frozenset[str], float] = {}
    with _stopping() as stopped:

        def metric(layers: frozenset[str]) -> float:
            done[layers] = _score(ladder, climbed, returning.model(layers), stopped).primary
            climbed.on_progress("bisecting, sets of layers", len(done), budget)
            return done[layers]

        try:
            reference = (
                metric(frozenset(returning.layers))
                if dense is None
                else climbed.rungs[Stage.DENSE].primary
            )
            return smallest_set(
                returning.layers,
                metric,
                Goal(reference, ladder.request.gate.max_drop),
                budget=budget,
                suspects=_suspects(model, returning.layers, dense),
                known=dict(done),
            )
        except BudgetSpent:
            return None


def _score(
    ladder: Ladder, climbed: Climbed, model: PreTrainedModel, stopped: Collection[int]
) -> RungResult:
    """Raises BudgetSpent between batches once the search is to stop."""

    def go_on(done: int, total: int) -> None:
        if stopped:
            raise BudgetSpent

    go_on(0, 0)
    data, tokens = climbed.data, ladder.request.batch_tokens
    backend = TorchRunner(model, ladder.artefact.manifest.input_names)
    runner = ladder.for_task(data.dataset.task, Stage.COMPRESSED, backend)
    logits = logits_of(runner, data, data.bucketed(tokens), on_batch=go_on)
    return rung_of(NAMES[Stage.COMPRESSED], data.dataset, logits, tokens)


@torch.no_grad()
def _suspects(
    model: PreTrainedModel, layers: Collection[str], dense: PreTrainedModel | None
) -> list[str]:
    """By how far compression moved the weights, relative to their size."""
    linears = compressed_linears(model)
    moved = {}
    for name in layers:
        linear = linears[name]
        before = linear.weight if dense is None else dense.get_submodule(name).weight
        quantizer = linear.weight_quantizer
        after = linear.weight if quantizer is None else quantizer(linear.weight)
        assert isinstance(before, torch.Tensor)
        moved[name] = float((after - before).norm() / before.norm().clamp(min=1e-12))
    return sorted(moved, key=lambda name: -moved[name])


@contextmanager
def _stopping() -> Iterator[list[int]]:
    """What is yielded fills at the first Ctrl-C; the second interrupts as ever.

    Outside the main thread no signal arrives, and nothing is changed.
    """
    stopped: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)
