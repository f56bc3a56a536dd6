"""What a contender takes of this process's memory, with stand-ins that take a known amount."""

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np
import pytest

from nxmi_export.backends import Feeds, Outputs
from nxmi_export.bench import Alone, Contender, Memory, NotRun
from nxmi_export.bench import memory as memory_module
from nxmi_export.bench.memory import memory_here
from nxmi_export.errors import CapabilityMissing, NxmiError, ShapeError
from nxmi_export.latency import Workload

MEGABYTE = 1 << 20
HELD, DROPPED, IN_A_RUN = 48 * MEGABYTE, 96 * MEGABYTE, 160 * MEGABYTE
SHAPE = Workload(2, 8)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems tell it in other ways")
REFUSED = {"expected": "one", "found": "another", "remedy": "do it"}


def written(size: int) -> bytearray:
    return bytearray(b"\1") * size


class Greedy:
    """Holds some memory, needs more while it loads, and most while it runs."""

    name, input_names = "greedy", ("input_ids",)

    def __init__(self, refusal: NxmiError | None = None) -> None:
        self._held, self._refusal = written(HELD), refusal
        dropped = written(DROPPED - HELD)
        assert len(dropped) < DROPPED

    def run(self, feeds: Feeds) -> Outputs:
        if self._refusal is not None:
            raise self._refusal
        assert feeds["input_ids"].shape == (SHAPE.batch, SHAPE.sequence)
        assert len(written(IN_A_RUN - HELD)) + len(self._held) == IN_A_RUN
        return {"logits": np.zeros((SHAPE.batch, 2), np.float32)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held = bytearray()


def of(open_: Callable[[], Greedy | NotRun], *libraries: str) -> Memory | NotRun:
    contender = Contender("greedy", "Greedy", open_, alone=Alone(libraries=libraries))
    return memory_here(contender, SHAPE, vocabulary=9)


@LINUX
def test_what_is_held_and_what_is_needed_meanwhile_are_told_apart() -> None:
    found = of(Greedy)
    assert isinstance(found, Memory)
    assert found.loaded == pytest.approx(HELD, rel=0.1)
    assert found.loaded_anonymous == pytest.approx(HELD, rel=0.1)
    assert found.peak_loading == pytest.approx(DROPPED, rel=0.1)
    assert found.peak_running == pytest.approx(IN_A_RUN, rel=0.1)
    assert found.baseline > 10 * MEGABYTE  # an interpreter with numpy


@LINUX
def test_libraries_are_imported_before_anything_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []

    def note(name: str) -> None:
        imported.append(name)
        if name == "absent":
            raise ImportError(name)

    def open_() -> NotRun:
        assert imported == ["absent", "present"]
        return NotRun("opened last")

    monkeypatch.setattr(memory_module.importlib, "import_module", note)
    # A library that is absent is for `open` to refuse, in its own words.
    assert of(open_, "absent", "present") == NotRun("opened last")


@LINUX
@pytest.mark.parametrize(
    "refusal", [CapabilityMissing("GPU", **REFUSED), ShapeError("8", **REFUSED)]
)
def test_a_refusal_is_the_reason(refusal: NxmiError) -> None:
    assert of(lambda: Greedy(refusal)) == NotRun(str(refusal))


@pytest.mark.parametrize(
    ("name", "silent"), [("process_memory", lambda: None), ("forget_peak", lambda: False)]
)
def test_a_system_that_does_not_tell_is_a_reason(
    name: str, silent: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_module, name, silent)
    assert of(Greedy) == NotRun(
        "this system does not tell a process what memory it holds as Linux does"
    )
