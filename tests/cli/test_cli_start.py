"""Help and diagnosis come at once: nothing heavy is imported for them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "transformers", "onnxscript", "onnx_ir", "accelerate", "datasets"}
ENGINES = {"onnxruntime", "openvino", "tensorrt", "tensorrt_rtx"}
REPORT_MODULES = """
import sys
from nxmi_export.__main__ import main
code = main(sys.argv[1:])
print("loaded", *sys.modules, file=sys.stderr)
sys.exit(code)
"""


def loaded_by(*arguments: str) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-c", REPORT_MODULES, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    name, *modules = run.stderr.split()
    assert name == "loaded"
    assert "nxmi_export.cli.app" in modules
    return set(modules)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["parity", "--help"],
        ["build", "--help"],
        ["bench", "--help"],
        ["triton", "--help"],
    ],
)
def test_help_and_version_load_nothing_heavy(arguments: list[str]) -> None:
    assert loaded_by(*arguments) & (HEAVY | ENGINES) == set()


def test_doctor_loads_no_framework() -> None:
    """It may load what it examines, but not torch, which takes seconds."""
    assert loaded_by("doctor") & HEAVY == set()
