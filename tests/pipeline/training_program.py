"""A whole compression run as a process of its own, so that tests can kill it or run several.

Arguments: RECIPE.yaml FOLDER [--resume] [--kill-at STEP] ...

Writes FOLDER/weights.pt (the final state dict; that of process N > 0 as weights-N.pt) and
FOLDER/losses.json, and keeps snapshots in FOLDER/snapshots: one after every step, so that every
step can be continued from. The main process leaves the gradients of its first step, in the order of
the optimizer's parameters, in FOLDER/gradients.pt.
"""

import argparse
import json
import os
import signal
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nxmi_export.compression import RunOptions, compress
from nxmi_export.compression.progress import Progress, StepDone
from nxmi_export.compression.pruning import Sparsifier
from nxmi_export.compression.training import join_processes, quantization, snapshots
from nxmi_export.compression.training.optimizer import Optimizer
from nxmi_export.recipe import Recipe
from tests.forked import Ended, run_forked
from tests.tiny_models import tiny_model, toy_data

__all__ = ["run_program"]

# by the package, whose name the function has taken
compression: Any = import_module("nxmi_export.compression.compress")


def run_program(recipe: Recipe, folder: Path, *arguments: str, processes: int = 1) -> Ended:
    """Run this program on `recipe`, in `processes` processes joined by gloo."""
    folder.mkdir(exist_ok=True)
    path = folder / "recipe.json"
    path.write_text(json.dumps(recipe.as_mapping()))
    return run_forked(main, [str(path), str(folder), *arguments], processes=processes)


def main(given: Sequence[str]) -> None:
    """Compress one block of the tiny model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model-type", default="bert")
    parser.add_argument("--config", type=json.loads, default={}, help="changes of its, as JSON")
    parser.add_argument("--examples", type=int, default=40)
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--kill-at", type=int, help="as soon as this step is reported")
    parser.add_argument("--kill-in-save", type=int, help="in the middle of writing this snapshot")
    parser.add_argument("--disturb", action="store_true", help="all processes but the first")
    arguments = parser.parse_args(given)
    if arguments.disturb and os.environ["RANK"] != "0":
        _compute_differently()
    if arguments.kill_in_save:
        _kill_in_save(arguments.kill_in_save)
    _note_gradients(arguments.folder / "gradients.pt")
    losses: dict[int, float] = {}

    def on_progress(progress: Progress) -> None:
        if isinstance(progress, StepDone):
            losses[progress.number] = progress.loss
            if progress.number == arguments.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    kind = arguments.model_type
    model = tiny_model(kind, num_hidden_layers=1, **arguments.config)
    options = RunOptions(
        accumulation=arguments.accumulation,
        snapshots=arguments.folder / "snapshots",
        snapshot_seconds=0,
        resume=arguments.resume,
    )
    data = toy_data(arguments.examples, model_type=kind)
    recipe = Recipe.from_yaml(arguments.recipe)
    compress(model, data, recipe, options, on_progress=on_progress)
    accelerator = join_processes()
    rank = accelerator.process_index
    torch.save(model.state_dict(), arguments.folder / f"weights{f'-{rank}' if rank else ''}.pt")
    if accelerator.is_main_process:
        (arguments.folder / "losses.json").write_text(json.dumps(losses))
    accelerator.end_training()


def _note_gradients(path: Path) -> None:
    """Of the weights and of the scales, as they are before they are clipped."""
    clip = Optimizer.clip

    def note(self: Optimizer) -> Tensor:
        if not path.exists() and os.environ.get("RANK", "0") == "0":
            torch.save([[each.grad for each in of] for of in (self.weights, self.scales)], path)
        return clip(self)

    Optimizer.clip = note  # type: ignore[method-assign]


def _kill_in_save(number: int) -> None:
    """Let the process die with half of snapshot `number` written."""
    save = snapshots._save
    calls = iter(range(1, number + 1))

    def dying(content: Any, file: Any) -> None:
        save(content, file)
        if next(calls) == number:
            file.truncate(file.tell() // 2)
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    snapshots._save = dying


def _compute_differently() -> None:
    """Let this process come to other numbers than the others wherever each computes its own."""
    calibrate, calibrate_activations = quantization.calibrate, quantization.calibrate_activations
    choose = compression.sparsifier

    def disturbed(*arguments: Any, **options: Any) -> Sparsifier:
        chosen = choose(*arguments, **options)
        start = chosen.start

        def start_elsewhere() -> None:
            start()
            for tensors in chosen.state_dict().values():
                for tensor in tensors.values() if isinstance(tensors, dict) else ():
                    tensor.copy_(tensor.roll(1, dims=1))

        chosen.start = start_elsewhere  # type: ignore[method-assign]
        return chosen

    def stretched(calibrate: Callable[..., None]) -> Callable[..., None]:
        def stretch(model: PreTrainedModel, *arguments: Any, **options: Any) -> None:
            calibrate(model, *arguments, **options)
            for name, buffer in model.named_buffers():
                if name.endswith(("scale", "ratio")):
                    buffer *= 0.5

        return stretch

    compression.sparsifier = disturbed
    quantization.calibrate = stretched(calibrate)
    quantization.calibrate_activations = stretched(calibrate_activations)
