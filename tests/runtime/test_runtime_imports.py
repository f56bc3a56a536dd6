"""A serving image: nothing is there but numpy, onnxruntime, tokenizers and this package."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import nxmi_export
from tests.pipeline.parity_project import Project

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ["a fine film", "the plot is dull"]
PROGRAM = """
import importlib.abc, json, sys

IMAGE = {"numpy", "nxmi_export", "onnxruntime", "tokenizers"} | sys.stdlib_module_names
BEFORE = set(sys.modules)

class Image(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] not in IMAGE:
            raise ModuleNotFoundError(f"{name} is not in the image", name=name)

sys.meta_path.insert(0, Image())
import nxmi_export

with nxmi_export.load(sys.argv[1]) as model:
    labels = [each.label for each in model.predict(json.loads(sys.argv[2]))]
loaded = {name.partition(".")[0] for name in set(sys.modules) - BEFORE}
print(json.dumps({"labels": labels, "foreign": sorted(loaded - IMAGE)}))
"""


def run(program: str, artefact: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, str(artefact), json.dumps(TEXTS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_image_of_three_libraries_predicts(sst2: Project) -> None:
    outcome = run(PROGRAM, sst2.artefact)
    assert outcome.returncode == 0, outcome.stderr
    with nxmi_export.load(sst2.artefact) as model:
        labels = [each.label for each in model.predict(TEXTS)]
    assert json.loads(outcome.stdout) == {"labels": labels, "foreign": []}


@pytest.mark.parametrize("library", ["torch", "transformers", "onnx", "pydantic", "passes"])
def test_the_image_of_that_test_lacks(library: str, sst2: Project) -> None:
    outcome = run(PROGRAM.replace("with nxmi_", f"import {library}\nwith nxmi_"), sst2.artefact)
    assert outcome.returncode == 1
    assert f"ModuleNotFoundError: {library} is not in the image" in outcome.stderr
