"""The quickstart: real weights and real text through every stage, on a CPU, in a few minutes.

    make demo        or        python -m samples.demo [--folder runs/demo] [--fresh]

1. MiniLM-L6 (a pip package) is fine-tuned on movie-review sentences (another pip package).
2. `nxmi-export compress` brings its encoder to 2:4 + INT8: ADMM, QAT, distillation.
3. `nxmi-export model.pt` writes the artefact, `build` compiles a TensorRT-RTX engine without a GPU.
4. `parity` compares PyTorch and onnxruntime on held-out reviews.

A stage whose output is there already is skipped, so an interrupted demo goes on where it was.
"""

import argparse
import shlex
import shutil
import sys
import time
from pathlib import Path

from nxmi_export.__main__ import main as nxmi_export
from nxmi_export.errors import CapabilityMissing
from samples.fine_tune import CONSOLE, PRECISION
from samples.fine_tune import main as fine_tune
from samples.movie_reviews import prepare_movie_reviews

__all__ = ["main"]

# Less than a user would spend on a model of theirs: a few minutes on two cores.
EXAMPLES = 6400 if PRECISION == "bf16" else 1600  # of 8 525; float32 trains four times slower
DENSE_EPOCHS, COMPRESSION_EPOCHS = 1, 2


def main() -> int:
    """Run the stages that have not been run; returns the exit code of the last one that ran."""
    parser = argparse.ArgumentParser(description="The nxmi-export quickstart.")
    parser.add_argument("--folder", type=Path, default=Path("runs/demo"))
    parser.add_argument("--fresh", action="store_true", help="start over")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    if arguments.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    reviews = prepare_movie_reviews(folder / "reviews")
    where = ("--task", "reviews", "--data", str(reviews))
    limit = ("--limit", str(EXAMPLES), "--precision", PRECISION)
    dense, model, artefact = folder / "dense", folder / "model.pt", folder / "artefact"
    if not dense.exists():
        fine_tune([*where, *limit, "-o", str(dense), "--epochs", str(DENSE_EPOCHS)])
    code = 0
    if not model.exists():
        epochs = ("--epochs", str(COMPRESSION_EPOCHS))
        code = _command("compress", str(dense), *where, *limit, *epochs, "-o", str(model))
    if code == 0:
        code = _command(str(model), "-o", str(artefact), "--overwrite")
    if code == 0:
        code = _command("build", str(artefact))
        if code == CapabilityMissing.exit_code:
            CONSOLE.print("no TensorRT here, so the demo goes on without an engine")
            code = 0
    if code == 0:
        code = _command("parity", str(artefact), *where, "--dense", str(dense))
    CONSOLE.print(f"{time.perf_counter() - start:.0f} s in all; everything is under {folder}")
    return code


def _command(*arguments: str) -> int:
    CONSOLE.print(f"\n[bold]$ nxmi-export {shlex.join(arguments)}[/]", highlight=False)
    return nxmi_export(list(arguments))


if __name__ == "__main__":
    sys.exit(main())
