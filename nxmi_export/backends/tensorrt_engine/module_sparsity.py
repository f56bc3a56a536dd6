"""One module's engine layers and what the whole build says of sparse kernels in, its share out.

Since TensorRT 10 the log only counts sparse layers. A count decides about one layer where it is
none or all; otherwise the layer's own kernel must be named as a sparse one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nxmi_export.backends.tensorrt_engine.build_log import EngineLayer, as_in_names
from nxmi_export.backends.tensorrt_engine.sparsity import (
    SparseEvidence,
    names_dense_kernel,
    names_sparse_kernel,
)
from nxmi_export.backends.tensorrt_engine.verdict import Verdict

__all__ = ["ModuleSparsity", "module_sparsity"]


@dataclass(frozen=True, slots=True)
class ModuleSparsity:
    """What a build shows about sparse kernels in the layers of one module."""

    eligible: Verdict  # the builder took its weights for 2:4
    eligible_reason: str
    chosen: Verdict  # a kernel that skips zeros runs it
    chosen_reason: str


def module_sparsity(
    layers: Sequence[EngineLayer],
    evidence: SparseEvidence,
    candidates: Sequence[EngineLayer] | None,
) -> ModuleSparsity:
    """Judge the module that `layers`, one or more, run.

    `candidates` are all engine layers with 2:4 weights, each once, this module's among them, and
    None where some were not found: a count then says nothing about one of them. The unit of the
    log's counts is taken for the layer of the engine, after fusion. Where counts fall, or one of
    the candidates is named as a dense kernel, they are of something else and prove nothing.
    """
    eligible, eligible_reason = _eligible(layers, evidence, candidates)
    chosen, chosen_reason = _chosen(layers, evidence, candidates)
    return ModuleSparsity(eligible, eligible_reason, chosen, chosen_reason)


def _eligible(
    layers: Sequence[EngineLayer],
    evidence: SparseEvidence,
    candidates: Sequence[EngineLayer] | None,
) -> tuple[Verdict, str]:
    count = evidence.eligible
    if evidence.eligible_names:
        named = all(_is_named(layer, evidence.eligible_names) for layer in layers)
        where = "in" if named else "not in"
        verdict = Verdict.PROVED if named else Verdict.REFUTED
        return verdict, f"{where} the log's list of {count} layers eligible for sparse kernels"
    if count is None:
        return Verdict.UNPROVEN, "the log does not say how many layers are eligible"
    if count == 0:
        return Verdict.REFUTED, "the log finds no layer eligible for sparse kernels"
    if candidates is not None and count == len(candidates) and evidence.grows:
        return Verdict.PROVED, f"the log finds all {count} layers with 2:4 weights eligible"
    return Verdict.UNPROVEN, f"{_counted(count, candidates)} eligible, and the log does not name it"


def _chosen(
    layers: Sequence[EngineLayer],
    evidence: SparseEvidence,
    candidates: Sequence[EngineLayer] | None,
) -> tuple[Verdict, str]:
    count = evidence.chosen
    if all(names_sparse_kernel(layer) for layer in layers):
        kernels = ", ".join(dict.fromkeys(layer.tactic for layer in layers))
        if count == 0:
            return Verdict.UNPROVEN, f"the kernel is {kernels}, but the log counts no sparse one"
        return Verdict.PROVED, f"the kernel is {kernels}"
    if evidence.chosen_names:
        named = all(_is_named(layer, evidence.chosen_names) for layer in layers)
        where = "in" if named else "not in"
        verdict = Verdict.PROVED if named else Verdict.REFUTED
        return verdict, f"{where} the log's list of {count} layers with a sparse kernel"
    if count is None:
        return Verdict.UNPROVEN, "the log does not count sparse kernels, and the kernel names none"
    if count == 0:
        found = evidence.eligible or 0
        return (
            Verdict.REFUTED,
            f"of {found} eligible layers the builder chose a sparse kernel for 0",
        )
    if candidates is not None and evidence.grows and _is_of_all(count, evidence, candidates):
        return Verdict.PROVED, f"the builder chose sparse kernels for all {count} layers"
    kernels = ", ".join(dict.fromkeys(layer.tactic for layer in layers if layer.tactic))
    return Verdict.UNPROVEN, (
        f"{_counted(count, candidates)} run a sparse kernel, and this one's name, "
        f"{kernels or 'which is not given'}, does not say so"
    )


def _is_of_all(count: int, evidence: SparseEvidence, candidates: Sequence[EngineLayer]) -> bool:
    whole = count == evidence.eligible == len(candidates)
    return whole and not any(map(names_dense_kernel, candidates))


def _counted(count: int, candidates: Sequence[EngineLayer] | None) -> str:
    return f"{count} of {len(candidates)} layers" if candidates is not None else f"{count} layers"


def _is_named(layer: EngineLayer, names: Sequence[str]) -> bool:
    """Whether a list of the log has the layer, by its own name or by a node in it."""
    wanted = {as_in_names(name) for name in (layer.name, *layer.named_nodes)}
    return not wanted.isdisjoint(map(as_in_names, names))
