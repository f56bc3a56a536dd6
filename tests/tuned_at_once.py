"""Exports that time graphs and fusions decide after a few rounds, whatever else the machine does.

A directory's conftest imports the fixture. It lasts as long as the process, so tests of what is
done for want of a decision set the time for it themselves
(tests/unit/test_bench_session_tuning.py).
"""

from collections.abc import Iterator

import pytest

__all__ = ["tuned_at_once"]


@pytest.fixture(scope="session", autouse=True)
def tuned_at_once() -> Iterator[None]:
    """No more rounds where the first ones cannot tell, as beside other tests they seldom can."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nxmi_export.bench.session_tuning.PATIENCE", 0.0)
        yield
