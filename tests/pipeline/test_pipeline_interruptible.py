"""Real signals, sent to this process: none is lost and none arrives where it would be."""

import signal
import threading
from collections.abc import Iterator

import pytest

from nxmi_export.backends.tensorrt_engine import BuildProgress
from nxmi_export.workflow.interruptible import interruptible

STEP = BuildProgress("Building engine", None, 1, 6)


@pytest.fixture(autouse=True)
def default_handler() -> Iterator[None]:
    """Python's own, which a shell's background job does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_a_signal_waits_for_the_next_step() -> None:
    heard: list[BuildProgress] = []
    with interruptible(heard.append) as report:
        report(STEP)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            report(STEP)
    assert heard == [STEP]


def test_a_signal_after_the_last_step_is_raised_at_the_end() -> None:
    with pytest.raises(KeyboardInterrupt), interruptible(None):
        # Without a value if it were raised right here.
        went_on = signal.raise_signal(signal.SIGINT) is None  # type: ignore[func-returns-value]
    assert went_on


def test_without_a_signal_steps_pass_through() -> None:
    heard: list[BuildProgress] = []
    with interruptible(heard.append) as report:
        report(STEP)
    assert heard == [STEP]


def test_an_error_of_the_build_is_not_hidden_by_a_pending_signal() -> None:
    def fail_after_a_signal() -> None:
        with interruptible(None):
            signal.raise_signal(signal.SIGINT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_a_signal()


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interruptible(None) as report:
        signal.raise_signal(signal.SIGINT)
        report(STEP)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_another_thread_may_build() -> None:
    heard: list[BuildProgress] = []

    def build() -> None:
        with interruptible(heard.append) as report:
            report(STEP)

    thread = threading.Thread(target=build)
    thread.start()
    thread.join()
    assert heard == [STEP]
