"""Running passes in order: a captured model in, the same model lowered and a ledger out.

After each pass: the structure is valid, the interface is unchanged, a change is reported exactly
if there is one, and what the pass establishes holds. After the last, everything established holds.
"""

from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from passes.contract import GraphPass, Invariant, Rewritten
from passes.errors import InvariantViolated, PassError, PassFailed, RefusedGraph
from passes.ledger import Ledger, PassRecord
from passes.structure import Structure

__all__ = ["VOID_KEY", "lower"]

VOID_KEY = "nxmi.void"  # metadata of a model whose lowering failed: the name of the failed pass


def lower(
    model: ir.Model, passes: Sequence[GraphPass], *, check_each: bool, work_dir: Path | None
) -> Ledger:
    """Run `passes` over `model` in place and account for everything they did.

    With `check_each`, everything established so far is checked after every pass, which names the
    pass that broke it; otherwise after the last.

    Raises `RefusedGraph` for a model that is not valid to begin with, and `PassFailed` for
    anything that a pass raised or broke. The model is then emptied and void, so that nothing half
    lowered is ever written, and the graph before the failing pass is in `work_dir` if one is
    given.
    """
    _refuse_void(model)
    structure = Structure.of(model)
    structure.check()
    established: list[Invariant] = []
    records: list[PassRecord] = []
    for index, graph_pass in enumerate(passes, start=1):
        # The copy shares its tensors with the model; without a directory there is no use for it.
        before = None if work_dir is None else model.clone()
        try:
            result = graph_pass(model)
            structure = _check_promises(result, structure)
            established = [each for each in established if each not in graph_pass.retires]
            established += [each for each in graph_pass.establishes if each not in established]
            if check_each:
                _check_all(established, model)
        except Exception as error:
            _void(model, graph_pass.name)
            kept = _keep(before, work_dir, f"{index:02d}_before_{graph_pass.name}")
            raise _failure(graph_pass.name, error, kept) from error
        if before is not None:
            _release_tensors(before)
        records.append(PassRecord(graph_pass.name, result.entries))
    _check_at_the_end(established, model, work_dir)
    return Ledger(tuple(records))


def _refuse_void(model: ir.Model) -> None:
    failed = model.metadata_props.get(VOID_KEY)
    if failed is not None:
        raise RefusedGraph(
            "lower",
            expected="a captured model",
            found=f"one whose lowering failed in {failed}",
            remedy="capture the model again",
        )


def _check_promises(result: Rewritten, before: Structure) -> Structure:
    """What every pass owes: a valid graph, the interface it was given, and an honest account."""
    after = Structure.of(result.model)
    after.check()
    if after.interface != before.interface:
        raise InvariantViolated(
            "interface",
            expected=str(before.interface),
            found=str(after.interface),
            remedy="a pass may only rewrite what lies between inputs and outputs",
        )
    changed = not after.same_as(before)
    if changed != result.modified:
        raise InvariantViolated(
            "ledger",
            expected="a Change reported exactly if the model changed",
            found="a change that was not reported" if changed else "a Change that was not made",
            remedy="yield one entry for every edit, and none for no edit",
        )
    return after


def _check_all(established: Sequence[Invariant], model: ir.Model) -> None:
    for each in established:
        each.check(model)


def _check_at_the_end(
    established: Sequence[Invariant], model: ir.Model, work_dir: Path | None
) -> None:
    """The last check names no pass: any that ran after the promise was made may have broken it."""
    try:
        _check_all(established, model)
    except PassError as error:
        try:
            kept = _keep(model, work_dir, "after_the_last_pass")
        finally:  # even where the directory cannot be written
            _void(model, "the last check")
        raise PassFailed(
            "lower",
            expected="everything that a pass established to hold after the last one",
            found=f"[{error}]",
            remedy="lower with check_each=True to learn which pass broke it" + _kept_text(kept),
        ) from error


def _keep(model: ir.Model | None, work_dir: Path | None, stem: str) -> Path | None:
    """Write `model` for inspection, its tensors beside it; nothing without a directory."""
    if model is None or work_dir is None:
        return None
    work_dir.mkdir(parents=True, exist_ok=True)
    path = work_dir / f"{stem}.onnx"
    ir.save(model, path, external_data=f"{stem}.onnx.data")
    return path


def _void(model: ir.Model, failed: str) -> None:
    """Empty the graph: what is left cannot be mistaken for a model, saved or run."""
    model.metadata_props[VOID_KEY] = failed
    _release_tensors(model)
    model.graph.remove(list(model.graph))


def _release_tensors(model: ir.Model) -> None:
    """Let go of the weights now: nodes and values refer to each other, so only the garbage
    collector, some time later, would.
    """
    for graph in model.graphs():
        for value in graph.initializers.values():
            value.const_value = None
        graph.initializers.clear()


def _failure(name: str, error: Exception, kept: Path | None) -> PassFailed:
    return PassFailed(
        name,
        expected="a graph it can rewrite and every promise kept",
        found=f"[{error if isinstance(error, PassError) else repr(error)}]",
        remedy="the model is void, capture it again" + _kept_text(kept),
    )


def _kept_text(kept: Path | None) -> str:
    return "" if kept is None else f"; the graph to look at is {kept}"
