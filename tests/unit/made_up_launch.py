"""Several processes of one launch, made up of threads that tell each other what they know."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from nxmi_export.compression.training import processes

__all__ = ["launched"]

SECONDS = 60  # until a process counts as gone

Result = TypeVar("Result")


def launched(
    monkeypatch: pytest.MonkeyPatch, count: int, run: Callable[[Any], Result]
) -> list[Result]:
    """What `run` returns in each of `count` processes, by rank; it is given their accelerators."""
    meeting, told = threading.Barrier(count, timeout=SECONDS), [None] * count
    rank = threading.local()

    def gathered(own: list[Any]) -> list[Any]:
        told[rank.here] = own[0]
        meeting.wait()
        every = list(told)
        meeting.wait()  # nobody tells the next thing before all have heard this one
        return every

    def process(number: int) -> Result:
        rank.here = number
        try:
            return run(
                SimpleNamespace(
                    process_index=number, num_processes=count, is_main_process=number == 0
                )
            )
        except BaseException:
            meeting.abort()
            raise

    monkeypatch.setattr(processes, "gather_object", gathered)
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(process, range(count)))
