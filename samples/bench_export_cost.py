"""What exporting costs next to `torch.onnx.export` alone: wall time and peak memory, in one run.

    python -m samples.bench_export_cost [--rounds 3] [--json FILE]

A BERT-base with random weights is compressed once (2:4 + int8 by magnitude, scales calibrated on
random tokens) and saved as model.pt. Then whole processes alternate: `nxmi-export export`, which
writes both ONNX files, the manifest and the hashes, and a script that loads the same model and
calls `torch.onnx.export` and `save`, nothing else. Reported are medians and their ratios.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from samples.random_bert import SEED, write_random_bert

_BASELINE = """
import sys, torch
from nxmi_export.capture.translate import TRANSLATIONS
from nxmi_export.checkpoint import read_checkpoint
from nxmi_export.compression import restore

class Logits(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model
    def forward(self, ids, mask, types):
        return self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).logits

model = restore(read_checkpoint(sys.argv[1]))
example = tuple(torch.ones((2, 8), dtype=torch.int64) for _ in range(3))
axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=512)}
with torch.no_grad():
    program = torch.onnx.export(
        Logits(model).eval(), example, dynamo=True, opset_version=20,
        dynamic_shapes=(axes,) * 3, custom_translation_table=TRANSLATIONS, verbose=False,
    )
program.save(sys.argv[2])
"""
# Runs the command after it and prints its wall time and peak resident memory.
_METER = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
seconds = time.perf_counter() - start
kibibytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"seconds": seconds, "peak_mb": kibibytes * 1024 / 1e6}))
"""


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), arguments.rounds)
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(f"{text}\n", encoding="utf-8")


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """Alternate the two commands `rounds` times."""
    model = folder / "model.pt"
    write_random_bert(model)
    script = folder / "baseline.py"
    script.write_text(_BASELINE, encoding="utf-8")
    python = sys.executable
    commands = {
        "torch.onnx.export": [python, str(script), str(model), str(folder / "plain.onnx")],
        "nxmi-export export": [
            *(python, "-m", "nxmi_export", "export", str(model)),
            *("-o", str(folder / "artefact"), "--overwrite"),
        ],
    }
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            figures[name].append(_meter(command))
    medians = {
        name: {key: statistics.median(one[key] for one in runs) for key in runs[0]}
        for name, runs in figures.items()
    }
    ours, plain = medians["nxmi-export export"], medians["torch.onnx.export"]
    return {
        "model": "BERT-base, random weights, 2:4+int8, sparse placement",
        "seed": SEED,
        "rounds": rounds,
        "medians": medians,
        "ratio": {key: ours[key] / plain[key] for key in plain},
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "versions": {name: version(name) for name in ("torch", "transformers", "onnxscript")},
    }


def _meter(command: list[str]) -> dict[str, float]:
    meter = [sys.executable, "-c", _METER, *command]
    out = subprocess.run(meter, check=True, capture_output=True, text=True).stdout
    figures: dict[str, float] = json.loads(out)
    return figures


if __name__ == "__main__":
    main()
