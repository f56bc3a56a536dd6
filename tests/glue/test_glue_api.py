import subprocess
import sys

from nxmi_export import glue

HEAVY = ("torch", "transformers", "pandas", "onnxruntime", "datasets")


def test_public_names() -> None:
    assert glue.__all__ == [
        "TASKS",
        "Dataset",
        "Task",
        "load_dataset",
        "predict",
        "primary",
        "score",
        "task_named",
    ]


def test_importing_glue_loads_no_framework() -> None:
    program = (
        f"import sys, nxmi_export.glue; print([name for name in {HEAVY} if name in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert loaded.stdout.strip() == "[]"
