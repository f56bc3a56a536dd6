"""An artefact's engine in, a runner of it out, or the reason why nothing is known of it."""

from collections.abc import Iterator
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nxmi_export.artefact import Artefact
from nxmi_export.backends import Feeds, Outputs, Runner
from nxmi_export.backends.tensorrt_engine import ShapeProfile, TensorRtRunner, find_library
from nxmi_export.backends.tensorrt_engine.engine_facts import EngineFacts
from nxmi_export.errors import ArtefactError, CapabilityMissing
from nxmi_export.parity import Unproven

__all__ = ["WithinProfile", "engine_runner"]


def engine_runner(artefact: Artefact, name: str, longest: int) -> Runner | Unproven:
    """The engine over batches of any size, of at most `longest` tokens an example.

    A plan of another library or GPU, or without its weights, is nothing that the data could show.
    Raises ArtefactError for an engine.json that this version does not read, or that is of another
    graph or plan.
    """
    facts = EngineFacts.read(artefact)
    if facts is None:
        return Unproven("No engine was built.", deployed=False)
    facts.check_own(artefact)  # raised here; what `plan_to_run` refuses besides is unproven
    profile = max(
        facts.shape_profiles(artefact.manifest.position_limit),
        key=lambda each: (each.max.sequence, each.max.batch),
    )
    if longest > profile.max.sequence:
        reason = (
            f"The data have examples of {longest} tokens, and the engine was built for "
            f"{profile.max.sequence}; compare with a lower --max-length, or build it for more."
        )
        return Unproven(reason, deployed=True)
    try:
        plan = facts.plan_to_run(artefact)
        runner = TensorRtRunner(plan, library=find_library(facts.library.name), name=name)
    except (CapabilityMissing, ArtefactError) as refusal:
        return Unproven(f"{refusal}.", deployed=True)
    return WithinProfile(runner, profile)


class WithinProfile:
    """A runner of batches of any size, in parts that the profile of an engine holds."""

    def __init__(self, runner: Runner, profile: ShapeProfile) -> None:
        self._runner, self._profile = runner, profile
        self.name, self.input_names = runner.name, runner.input_names

    def run(self, feeds: Feeds) -> Outputs:
        """The parts' outputs, one after the other."""
        parts = [self._run_part(part) for part in self._parts(feeds)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def __enter__(self) -> Self:
        self._runner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._runner.__exit__(kind, error, trace)

    def _parts(self, feeds: Feeds) -> Iterator[Feeds]:
        size = self._profile.max.batch
        for start in range(0, len(feeds["input_ids"]), size):
            yield {name: ids[start : start + size] for name, ids in feeds.items()}

    def _run_part(self, feeds: Feeds) -> Outputs:
        """What a profile wants at least is made up by padding and repeated examples."""
        rows, tokens = feeds["input_ids"].shape
        low = self._profile.min
        grown = (max(0, low.batch - rows), max(0, low.sequence - tokens))
        outputs = self._runner.run({name: _grown(ids, *grown) for name, ids in feeds.items()})
        return {name: array[:rows] for name, array in outputs.items()}


def _grown(ids: NDArray[np.int64], rows: int, tokens: int) -> NDArray[np.int64]:
    """More tokens of 0, which the mask hides, and the last row again."""
    return np.pad(np.pad(ids, ((0, 0), (0, tokens))), ((0, rows), (0, 0)), mode="edge")
