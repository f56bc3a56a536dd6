"""This machine in, its CPU with the instruction sets that decide how fast INT8 runs out.

Needs the standard library alone, since whoever serves a model asks as well.
"""

import math
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Processor", "this_processor"]

_INT8_INSTRUCTIONS = ("avx2", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")
_CPUINFO = Path("/proc/cpuinfo")
_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # microseconds of processors, and of each period


@dataclass(frozen=True, slots=True)
class Processor:
    """The CPU, with the instruction sets that matter to INT8."""

    model: str
    cores: int  # usable by this process
    int8_instructions: tuple[str, ...]

    def __str__(self) -> str:
        """As documents name it; what differs here multiplies differently."""
        sets = ", ".join(self.int8_instructions) or "no INT8 instructions"
        return f"{self.model}, {self.cores} cores, {sets}"


def this_processor(cpuinfo: Path = _CPUINFO, cpu_max: Path = _CPU_MAX) -> Processor:
    """The first processor Linux lists; elsewhere what Python knows, without instruction sets."""
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    facts: dict[str, str] = dict(
        re.findall(r"^(model name|flags|Features)\s*: (.*)$", text, re.MULTILINE)
    )
    flags = facts.get("flags", facts.get("Features", "")).split()
    return Processor(
        model=facts.get("model name") or platform.processor() or platform.machine(),
        cores=_usable_cores(cpu_max),
        int8_instructions=tuple(name for name in _INT8_INSTRUCTIONS if name in flags),
    )


def _usable_cores(cpu_max: Path) -> int:
    """What the scheduler grants, which in a container is less than what the machine has."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    try:
        quota, period = map(int, cpu_max.read_text().split())
    except (OSError, ValueError):  # "max": no bound
        return cores
    return max(1, min(cores, math.ceil(quota / period)))
