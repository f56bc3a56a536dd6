"""What one process of a launch raises, all of them raise; here the others are made up."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from nxmi_export.compression.training import processes
from nxmi_export.compression.training.processes import failing_together, told_by_all
from nxmi_export.errors import InternalError, ShapeError

REFUSAL = ShapeError("a batch", expected="less", found="more", remedy="shorten it")
Told = Callable[..., Any]


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> Told:
    """The second of two processes, with what the first one tells."""

    def with_first(first: object) -> Any:
        monkeypatch.setattr(processes, "gather_object", lambda own: [first, *own])
        return SimpleNamespace(num_processes=2, process_index=1)

    return with_first


@pytest.fixture
def alone() -> Any:
    return SimpleNamespace(num_processes=1, process_index=0)


def test_nothing_happens_where_nothing_fails(second: Told, alone: Any) -> None:
    with failing_together(second(None)), failing_together(alone):
        pass


@pytest.mark.parametrize("error", [REFUSAL, RuntimeError("nobody planned this")])
def test_a_process_alone_raises_its_own(alone: Any, error: Exception) -> None:
    with pytest.raises(type(error)) as raised, failing_together(alone):
        raise error
    assert raised.value is error


def test_the_error_of_another_process_is_raised_here(second: Told) -> None:
    parts = {"expected": "less", "found": "more", "remedy": "shorten it"}
    with (
        pytest.raises(ShapeError) as raised,
        failing_together(second((ShapeError, "a batch", parts))),
    ):
        pass
    assert str(raised.value) == str(REFUSAL)


def test_an_own_error_is_raised_where_the_others_are_well(second: Told) -> None:
    with pytest.raises(ShapeError) as raised, failing_together(second(None)):
        raise REFUSAL
    assert str(raised.value) == str(REFUSAL)


def test_of_two_errors_all_raise_the_first_processs(second: Told) -> None:
    first = (InternalError, "process 0", {"expected": "a", "found": "b", "remedy": "c"})
    with pytest.raises(InternalError) as raised, failing_together(second(first)):
        raise REFUSAL
    assert str(raised.value) == "process 0: expected a, found b; c"


def test_an_error_that_nobody_planned_is_told_to_the_others_and_keeps_its_trace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(processes, "gather_object", lambda own: told.extend(own) or [*own, None])
    accelerator: Any = SimpleNamespace(num_processes=2, process_index=0)
    with pytest.raises(ZeroDivisionError), failing_together(accelerator):
        _ = 1 / 0
    assert told == [
        (
            InternalError,
            "process 0",
            {
                "expected": "its share of the work",
                "found": "ZeroDivisionError: division by zero",
                "remedy": "please report it with the trace that it printed",
            },
        )
    ]


def test_a_process_that_is_gone_is_an_error_of_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(own: Any) -> None:
        raise RuntimeError("Connection closed by peer\nat somewhere.cc:123")

    monkeypatch.setattr(processes, "gather_object", gone)
    accelerator: Any = SimpleNamespace(num_processes=2, process_index=0)
    with pytest.raises(InternalError) as raised:
        told_by_all(accelerator, None)
    assert str(raised.value) == (
        "distributed launch: expected 2 processes until the end, found that one is gone "
        "(Connection closed by peer); look for what ended it, such as a lack of memory, and launch "
        "again"
    )
