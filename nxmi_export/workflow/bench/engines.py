"""An artefact in, its TensorRT engine with and without sparse kernels out, as contenders.

The second is the same graph built again, for the same shapes and with the same options, with
kernels that skip 2:4 zeros forbidden. What the two differ by is what sparsity is worth here.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from nxmi_export.artefact import PLAN, Artefact
from nxmi_export.backends.tensorrt_engine import (
    TensorRtRunner,
    build_engine,
    find_library,
    open_device,
)
from nxmi_export.backends.tensorrt_engine.engine_facts import EngineFacts
from nxmi_export.bench import Alone, Contender, NotRun
from nxmi_export.errors import ArtefactError, CapabilityMissing
from nxmi_export.workflow.interruptible import interruptible

__all__ = ["DENSE_KERNELS", "ENGINE", "engine_contenders"]

ENGINE, DENSE_KERNELS = "tensorrt", "tensorrt-dense-kernels"
# A plan of another GPU or release, or without weights, leaves its place empty and stops nothing.
_REFUSALS = (CapabilityMissing, ArtefactError)
_BUILT = Alone(
    refused=NotRun("it is built where it is timed, and a builder's memory is not its own")
)
_NO_PLAN = NotRun(f"the artefact has no {PLAN}; nxmi-export build makes it")


def engine_contenders(artefact: Artefact, *, cuda_graph: bool) -> tuple[Contender, ...]:
    """Both, whether or not they can run here; raises ArtefactError for a damaged engine.json."""
    facts = EngineFacts.read(artefact)
    record = artefact.manifest.files.get(PLAN)
    known = {} if record is None else {"file": PLAN, "sha256": record.sha256}
    if facts is not None:
        known |= {"library": f"{facts.library.name} {facts.library.version}"}

    def engine() -> AbstractContextManager[TensorRtRunner] | NotRun:
        if facts is None:
            return _NO_PLAN
        plan = facts.plan_to_run(artefact)
        library = find_library(facts.library.name)
        return TensorRtRunner(plan, library=library, name=ENGINE, cuda_graph=cuda_graph)

    def dense_kernels() -> AbstractContextManager[TensorRtRunner] | NotRun:
        reason = _no_comparison(artefact, facts)
        if facts is None or reason is not None:
            return _NO_PLAN if reason is None else reason
        return _without_sparse_kernels(artefact, facts, cuda_graph=cuda_graph)

    return (
        Contender(
            ENGINE,
            f"TensorRT, {PLAN}",
            engine,
            known,
            on_cpu=False,
            refusals=_REFUSALS,
            alone=Alone(libraries=() if facts is None else (facts.library.name,)),
        ),
        Contender(
            DENSE_KERNELS,
            "TensorRT, sparse kernels forbidden",
            dense_kernels,
            on_cpu=False,
            refusals=_REFUSALS,
            alone=_BUILT,
        ),
    )


def _no_comparison(artefact: Artefact, facts: EngineFacts | None) -> NotRun | None:
    """Why a build without sparse kernels would show nothing, if it would not."""
    if facts is not None and facts.library.is_rtx:
        return NotRun("TensorRT-RTX builds the same plan with and without sparse kernels")
    if facts is not None and facts.options.sparsity == "disable":
        return NotRun(
            f"{PLAN} was built with --sparsity disable and has no sparse kernels to compare with"
        )
    if not any(each.storage.startswith("2:4") for each in artefact.manifest.linears.values()):
        return NotRun("no linear of the artefact is 2:4, so that no sparse kernel could be chosen")
    return None


@contextmanager
def _without_sparse_kernels(
    artefact: Artefact, facts: EngineFacts, *, cuda_graph: bool
) -> Iterator[TensorRtRunner]:
    facts.plan_to_run(artefact)  # or the second would come without its weights as well
    library = find_library(facts.library.name)
    # First, because a plan that cannot be run need not be built.
    open_device(f"running {PLAN} without sparse kernels").close()
    with TemporaryDirectory() as folder:
        plan = Path(folder) / PLAN
        with interruptible(None) as heard:
            build_engine(
                artefact.path(facts.graph.name),
                plan,
                profiles=facts.shape_profiles(artefact.manifest.position_limit),
                library=library,
                options=replace(facts.engine_options(), sparse_weights=False),
                on_progress=heard,
            )
        with TensorRtRunner(
            plan, library=library, name=DENSE_KERNELS, cuda_graph=cuda_graph
        ) as runner:
            yield runner
