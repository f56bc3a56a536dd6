"""What memory this process holds, as Linux tells it, and how what is free goes back to the system.

Anonymous memory is the process's own. Pages of files that it maps count as resident too, but the
kernel may drop those and read them again, and processes of one file share them.
"""

import ctypes
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ProcessMemory", "forget_peak", "process_memory", "return_freed_memory"]

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"  # as Linux documents for that file
_KIB = 1024


@dataclass(frozen=True)
class ProcessMemory:
    """Bytes that are in memory now, and the most that were since the peak was forgotten."""

    resident: int
    anonymous: int
    peak: int  # of `resident`

    @property
    def mapped(self) -> int:
        """Pages of files, those of libraries included."""
        return self.resident - self.anonymous


def process_memory(status: Path = _STATUS) -> ProcessMemory | None:
    """That of this process; None where the system does not tell it in this form."""
    try:
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    try:
        resident, anonymous, peak = (
            int(told[name].split()[0]) * _KIB for name in ("VmRSS", "RssAnon", "VmHWM")
        )
    except (KeyError, ValueError, IndexError):
        return None
    return ProcessMemory(resident, anonymous, peak)


def forget_peak(clear: Path = _CLEAR) -> bool:
    """Let the peak be what is resident now; False where the system does not."""
    try:
        clear.write_text(_FORGET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def return_freed_memory() -> bool:
    """Give the system what was freed in this process; False where its C library cannot.

    glibc keeps freed blocks below a size for later, and that size grows with what is freed. What
    has just made and dropped copies of weights would hold their memory for good.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # no such function; no such call on Windows
        return False
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return bool(trim(0))
