"""The memory of this process, as far as the system tells it."""

import ctypes
import sys
from pathlib import Path

import pytest

from nxmi_export.process_memory import (
    ProcessMemory,
    forget_peak,
    process_memory,
    return_freed_memory,
)

MEGABYTE = 1 << 20
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems tell it in other ways")
STATUS = """Name:\tpython
State:\tR (running): so far
VmHWM:\t    3000 kB
VmRSS:\t    2000 kB
RssAnon:\t    1500 kB
"""


def now() -> ProcessMemory:
    found = process_memory()
    assert found is not None
    return found


def test_it_is_read_in_bytes(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(STATUS)
    found = process_memory(status)
    assert found == ProcessMemory(resident=2000 << 10, anonymous=1500 << 10, peak=3000 << 10)
    assert found.mapped == 500 << 10


@pytest.mark.parametrize(
    "content", ["", STATUS.replace("RssAnon", "Other"), STATUS.replace("2000 kB", "")]
)
def test_a_system_that_tells_it_otherwise_leaves_it_unknown(content: str, tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(content)
    assert process_memory(status) is None
    assert process_memory(tmp_path / "absent") is None


@LINUX
def test_what_is_written_is_anonymous_and_what_is_mapped_is_not(tmp_path: Path) -> None:
    before = now()
    held = bytearray(b"\1") * (64 * MEGABYTE)
    after = now()
    assert after.anonymous - before.anonymous == pytest.approx(len(held), rel=0.1)
    assert after.mapped - before.mapped < 8 * MEGABYTE
    assert after.peak >= after.resident


@LINUX
def test_a_forgotten_peak_is_what_is_resident_now() -> None:
    held = bytearray(b"\1") * (64 * MEGABYTE)
    high = now().peak
    del held
    assert now().peak == pytest.approx(high, rel=0.02)
    assert forget_peak()
    assert now().peak < high - 48 * MEGABYTE


def test_a_peak_that_cannot_be_forgotten_is_said(tmp_path: Path) -> None:
    assert forget_peak(tmp_path / "absent" / "clear_refs") is False


@LINUX
def test_freed_blocks_are_given_back() -> None:
    library = ctypes.CDLL(None)
    if not hasattr(library, "malloc_trim"):
        pytest.skip("another C library than glibc")
    library.malloc.restype = ctypes.c_void_p
    size, count = 64 << 10, 1024  # below the size from which glibc maps a block of its own
    blocks = [library.malloc(size) for _ in range(count)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    # The last stays, so that nothing can be cut off behind it.
    for block in blocks[:-1]:
        library.free(ctypes.c_void_p(block))
    before = now().anonymous
    assert return_freed_memory() is True
    assert before - now().anonymous > 0.8 * size * count
    library.free(ctypes.c_void_p(blocks[-1]))


def test_a_c_library_without_the_call_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bare:
        def __init__(self, name: None) -> None:
            pass

    monkeypatch.setattr(ctypes, "CDLL", Bare)
    assert return_freed_memory() is False
