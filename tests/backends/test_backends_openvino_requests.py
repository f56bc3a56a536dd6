"""Calls of several threads: each has a request of its own, and gets what it would get alone."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event

import numpy as np
import pytest

from nxmi_export.backends import Feeds
from nxmi_export.backends.openvino_requests import Requests
from nxmi_export.backends.openvino_session import OpenVinoRunner
from nxmi_export.errors import ShapeError
from nxmi_export.processor import this_processor
from nxmi_export.runtime.openvino_session import OpenVinoSession

SECONDS = 20  # of a wait that ends at once, unless calls wait for each other


class _Meets:
    """A request that answers once another is inside as well."""

    def __init__(self, meeting: Barrier) -> None:
        self._meeting = meeting

    def infer(self, feeds: Feeds) -> "_Meets":
        self._meeting.wait(SECONDS)
        self._rows = len(feeds["input_ids"])
        return self

    def to_tuple(self) -> tuple[np.ndarray, ...]:
        return (np.zeros((self._rows, 2), np.float32),)


class _Fails:
    def infer(self, feeds: Feeds) -> object:
        raise RuntimeError("No room.")


class _Compiled:
    """Hands out what `make` makes, and counts it."""

    def __init__(self, make: object) -> None:
        self.make, self.made = make, 0

    def create_infer_request(self) -> object:
        self.made += 1
        return self.make()  # type: ignore[operator]


def test_calls_of_two_threads_are_inside_at_once(
    encoder_path: Path, batch: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting = Barrier(2)
    compiled = _Compiled(lambda: _Meets(meeting))
    with OpenVinoRunner(encoder_path, threads=1, calls=2) as runner, ThreadPoolExecutor(4) as pool:
        monkeypatch.setattr(runner, "_requests", Requests(compiled, 2))
        found = list(pool.map(runner.run, [batch] * 4))
    assert len(found) == 4
    assert compiled.made == 2


def test_no_more_are_inside_than_are_allowed() -> None:
    requests, inside, another = Requests(_Compiled(object), 1), Event(), Event()

    def second() -> None:
        inside.wait(SECONDS)
        with requests.borrowed():
            another.set()

    with ThreadPoolExecutor(1) as pool:
        with requests.borrowed():
            waiting = pool.submit(second)
            inside.set()
            assert not another.wait(0.1)
        waiting.result(SECONDS)


def test_a_single_caller_needs_one_request() -> None:
    compiled = _Compiled(object)
    requests = Requests(compiled, 8)
    for _ in range(3):
        with requests.borrowed():
            pass
    assert compiled.made == 1


def test_a_call_that_fails_gives_its_request_back(
    encoder_path: Path, batch: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = _Compiled(_Fails)
    with OpenVinoRunner(encoder_path, threads=1) as runner:
        monkeypatch.setattr(runner, "_requests", Requests(compiled, 1))
        for _ in range(3):
            with pytest.raises(ShapeError, match=r"No room\."):
                runner.run(batch)
    assert compiled.made == 1


def test_a_call_that_runs_outlives_the_end_of_its_runner(
    encoder_path: Path, batch: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting = Barrier(2)
    with ThreadPoolExecutor(1) as pool:
        with OpenVinoRunner(encoder_path, threads=1) as runner:
            requests = Requests(_Compiled(lambda: _Meets(meeting)), 1)
            monkeypatch.setattr(runner, "_requests", requests)
            running = pool.submit(runner.run, batch)
            while not meeting.n_waiting and not running.done():
                pass
        meeting.wait(SECONDS)
        assert running.result(SECONDS)["logits"].shape == (2, 2)
    with pytest.raises(ValueError, match="after the runner was closed"):
        runner.run(batch)


def test_logits_of_threads_are_bit_for_bit_those_of_one_call_at_a_time(
    encoder_path: Path, batch: dict[str, np.ndarray]
) -> None:
    batches = [{name: ids[:rows, :tokens] for name, ids in batch.items()}
               for rows in (1, 2) for tokens in (2, 4, 7)] * 4  # fmt: skip
    with OpenVinoRunner(encoder_path, threads=1) as alone:
        expected = [alone.run(each)["logits"] for each in batches]
    with OpenVinoRunner(encoder_path, threads=1, calls=3) as runner, ThreadPoolExecutor(3) as pool:
        for found in (list(pool.map(runner.run, batches)) for _ in range(4)):
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one["logits"], other)


def test_each_call_has_its_own_threads(encoder_path: Path) -> None:
    """OpenVINO makes no more streams than there are processors."""
    cores = this_processor().cores
    with OpenVinoRunner(encoder_path, threads=1, calls=cores) as runner:
        names = ("NUM_STREAMS", "INFERENCE_NUM_THREADS")
        assert [runner.compiled.get_property(name) for name in names] == [cores, cores]


@pytest.mark.parametrize(("threads", "calls"), [(1, 6), (2, 3), (4, 1), (9, 1), (None, 1)])
def test_a_server_runs_as_many_calls_as_its_processors_have_threads_for(
    threads: int | None, calls: int, encoder_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(path: Path, *, threads: int | None, calls: int) -> OpenVinoRunner:
        asked.append(calls)
        return OpenVinoRunner(path, threads=threads)

    asked: list[int] = []
    module = "nxmi_export.runtime.openvino_session"
    six = this_processor().__class__("six", 6, ())
    monkeypatch.setattr(f"{module}.this_processor", lambda: six)
    monkeypatch.setattr(f"{module}.OpenVinoRunner", record)
    OpenVinoSession(
        encoder_path, input_names=("input_ids", "attention_mask"), outputs=2, threads=threads
    )
    assert asked == [calls]
