"""A contender and a shape of batch in, the memory of this process that it takes out.

For a fresh process, which does nothing else: what was freed before would be used again unseen.
"""

import importlib
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from nxmi_export.backends import Runner
from nxmi_export.bench.batches import batch_for
from nxmi_export.bench.contender import Contender, NotRun
from nxmi_export.latency import Workload
from nxmi_export.process_memory import (
    ProcessMemory,
    forget_peak,
    process_memory,
    return_freed_memory,
)

__all__ = ["Memory", "memory_here"]

RUNS = 3  # as often as in a turn that is timed
_UNTOLD = NotRun("this system does not tell a process what memory it holds as Linux does")


@dataclass(frozen=True)
class Memory:
    """Bytes of the host; all but `baseline` are above it."""

    baseline: int  # resident with all libraries imported
    loaded: int  # resident once the model is loaded
    loaded_anonymous: int  # of that, what is no page of a file
    peak_loading: int
    peak_running: int  # in the first runs


def memory_here(contender: Contender, workload: Workload, *, vocabulary: int) -> Memory | NotRun:
    """Load it in this process, run it, and say what that took.

    The reason instead where it cannot run here, or not this shape, or nothing tells.
    """
    for name in contender.alone.libraries:
        with suppress(ImportError):  # which `open` then says better
            importlib.import_module(name)
    return_freed_memory()
    base = process_memory()
    if base is None or not forget_peak():
        return _UNTOLD
    try:
        opened = contender.open()
        if isinstance(opened, NotRun):
            return opened
        with opened as runner:
            loaded = _now()
            ran = _run(runner, workload, vocabulary)
    except (*contender.refusals, *contender.shape_refusals) as refusal:
        return NotRun(str(refusal))
    return Memory(
        baseline=base.resident,
        loaded=loaded.resident - base.resident,
        loaded_anonymous=loaded.anonymous - base.anonymous,
        peak_loading=loaded.peak - base.resident,
        peak_running=ran.peak - base.resident,
    )


def _run(runner: Runner, workload: Workload, vocabulary: int) -> ProcessMemory:
    rng = np.random.default_rng(0)
    feeds = batch_for(workload, runner.input_names, vocabulary=vocabulary, rng=rng)
    forget_peak()
    for _ in range(RUNS):
        runner.run(feeds)
    return _now()


def _now() -> ProcessMemory:
    found = process_memory()
    assert found is not None  # it was told at the beginning
    return found
