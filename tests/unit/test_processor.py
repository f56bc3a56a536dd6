"""What the processor is called: documents that compare machines compare these words."""

from pathlib import Path

import pytest

from nxmi_export.processor import Processor, this_processor

CPUINFO = """processor\t: 0
model name\t: Imaginary Xeon
flags\t\t: fpu avx2 avx512f avx512_vnni amx_int8 sse2

processor\t: 1
model name\t: Imaginary Xeon
flags\t\t: fpu avx2 avx512f avx512_vnni amx_int8 sse2
"""


def test_the_processor_is_described(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(CPUINFO)
    found = this_processor(cpuinfo)
    assert found.model == "Imaginary Xeon"
    assert found.int8_instructions == ("avx2", "avx512_vnni", "amx_int8")
    assert found.cores >= 1


def test_a_system_without_cpuinfo_still_names_its_processor(tmp_path: Path) -> None:
    found = this_processor(tmp_path / "absent")
    assert found.model
    assert found.int8_instructions == ()


@pytest.mark.parametrize(
    ("text", "cores"), [("50000 100000", 1), ("100000 100000", 1), ("max 100000", None), ("", None)]
)
def test_a_containers_share_of_the_processors_counts(
    text: str, cores: int | None, tmp_path: Path
) -> None:
    cpu_max = tmp_path / "cpu.max"
    all_of_them = this_processor(cpu_max=cpu_max).cores
    cpu_max.write_text(text)
    assert this_processor(cpu_max=cpu_max).cores == (cores or all_of_them)


def test_instruction_sets_are_part_of_the_name() -> None:
    assert str(Processor("EPYC", 2, ("avx2", "avx512_vnni"))) == "EPYC, 2 cores, avx2, avx512_vnni"
    assert str(Processor("PowerPC", 1, ())) == "PowerPC, 1 cores, no INT8 instructions"
