"""One compression in one process, in two, and killed and resumed: what the models differ in.

    python -m samples.same_result --model DENSE --data GLUE_DIR [--task mrpc] [--json FILE]

`nxmi-export compress` on real sentences, with the preset `deploy` unless told otherwise. One run is
stopped by SIGKILL after three quarters of its steps and goes on from its last snapshot. One has two
processes under torchrun, which add the same gradients up in another order; so do two micro-batches
in one process. Another seed tells how far apart two runs are that share nothing but the recipe.
Exits with 1 where the resumed run has other bits than the uninterrupted one, or two processes have
others than two micro-batches. --models keeps what is finished, and an interrupted call goes on.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nxmi_export.checkpoint import checkpoint_sha256, read_checkpoint
from nxmi_export.compression import CompressedLinear, compressed_linears, restore
from nxmi_export.compression.training.snapshots import has_snapshot, snapshot_step
from nxmi_export.processor import this_processor
from nxmi_export.workflow.compress.outputs import Outputs
from samples.fine_tune import CONSOLE

ONE, TWO, PARTS = "one process", "two processes", "two micro-batches"
SEED, KILLED = "another seed", "killed and resumed"
BY_TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Runs:
    """The command that all runs share, and where their models go."""

    command: tuple[str, ...]  # after the interpreter and its launcher
    folder: Path

    def finish(self, name: str, *more: str, launcher: tuple[str, ...] = ("-m",)) -> Path:
        """The model file; a run that has none yet is run to its end."""
        model = self.model(name)
        if model.exists():
            return model
        CONSOLE.print(name)
        if "--resume" not in more:
            more = (*more, "--overwrite")  # what an interrupted call has left
        subprocess.run(self._started(launcher, model, more), env=_environment(), check=True)
        return model

    def kill(self, name: str, after_step: int) -> None:
        """Run until it has logged this step, and kill it where it then is."""
        CONSOLE.print(f"{name}: killed after step {after_step}")
        model = self.model(name)
        log = Outputs(model).log
        log.unlink(missing_ok=True)  # that of an interrupted call
        process = subprocess.Popen(
            self._started(("-m",), model, ("--overwrite",)), env=_environment()
        )
        while not _has_logged(log, after_step):
            if process.poll() is not None:
                raise SystemExit(f"{name}: ended with {process.returncode} before it was killed")
            time.sleep(POLL_SECONDS)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if model.exists():
            raise SystemExit(f"{name}: {model} is there although the run was killed")
        if not has_snapshot(Outputs(model).snapshots):
            raise SystemExit(f"{name}: killed before its first snapshot; train for more epochs")

    def model(self, name: str) -> Path:
        """Where that of a run is, once it is finished."""
        return self.folder / f"{name.replace(' ', '-')}.pt"

    def _started(
        self, launcher: tuple[str, ...], model: Path, more: tuple[str, ...]
    ) -> tuple[str, ...]:
        return (sys.executable, *launcher, *self.command, "-o", str(model), *more)


def _environment() -> dict[str, str]:
    """One thread everywhere: another number adds products up in another order."""
    return os.environ | {"OMP_NUM_THREADS": "1"}


def _has_logged(log: Path, step: int) -> bool:
    if not log.exists():
        return False
    # the line that is being written has no end yet
    *lines, _ = log.read_text(encoding="utf-8").split("\n")
    return any(
        entry["event"] == "step" and entry["step"] >= step for entry in map(json.loads, lines)
    )


def difference(path: Path, reference: Path) -> dict[str, Any]:
    """What one model file has otherwise than another.

    How many tensors are not equal bit for bit; which shares of the stored codes (int8) differ, and
    are zero in one of the two alone; the largest distance of two weights of encoder linears over
    the largest weight of their linear; the largest distance of two steps' losses over the
    reference's; the metric, and in points how far it is from the reference's.
    """
    own, other = _state(path), _state(reference)
    if own.keys() != other.keys():
        raise SystemExit(f"{path}: other tensors than {reference}")
    if _account(path)["source"] != _account(reference)["source"]:
        raise SystemExit(f"{path}: compressed from another model than {reference}")
    linears, others = _linears(path), _linears(reference)
    pairs = [(linear, others[name]) for name, linear in linears.items()]
    codes = [(one.codes(), two.codes()) for one, two in pairs if one.weight_quantizer is not None]
    losses = zip(_losses(path), _losses(reference), strict=True)
    return {
        "tensors": len(own),
        "tensors not equal bit for bit": sum(not _equal(own[key], other[key]) for key in own),
        "codes that differ": _share([one != two for one, two in codes]),
        "codes that are zero in one model alone": _share(
            [(one == 0) != (two == 0) for one, two in codes]
        ),
        "largest distance of two weights over the largest weight": max(
            float((one.weight - two.weight).abs().max() / two.weight.abs().max())
            for one, two in pairs
        ),
        "largest distance of two losses over the loss": max(
            abs(one - two) / two for one, two in losses
        ),
        "metric": _metric(path),
        "points from the other": 100 * (_metric(path) - _metric(reference)),
    }


def _state(path: Path) -> dict[str, Tensor]:
    return dict(read_checkpoint(str(path)).state)


def _linears(path: Path) -> dict[str, CompressedLinear]:
    model = restore(read_checkpoint(str(path)))
    return dict(compressed_linears(model.requires_grad_(False)))


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def _share(parts: list[Tensor]) -> float | None:
    """Of all entries that are true; None where no linear has any."""
    return float(torch.cat([each.flatten() for each in parts]).double().mean()) if parts else None


def _account(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Outputs(path).result.read_text(encoding="utf-8"))
    return found


def _metric(path: Path) -> float:
    return float(_account(path)["metrics"]["compressed"]["primary"])


def main() -> None:
    """Run all of them and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="fine-tuned on the task")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--task", default="mrpc")
    parser.add_argument("--recipe", default="deploy", help="a preset or a YAML file")
    parser.add_argument("--limit", type=int, default=256, help="training examples")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--models", type=Path, help="kept here, in a folder a setting")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    shown = ("task", "recipe", "limit", "epochs", "precision")
    options = [f"--{key}={getattr(arguments, key)}" for key in shown]
    command = (
        "nxmi_export",
        "compress",
        str(arguments.model),
        f"--data={arguments.data}",
        *options,
    )
    with tempfile.TemporaryDirectory() as temporary:
        dense = checkpoint_sha256(arguments.model)[:12]
        name = "_".join([*(str(getattr(arguments, key)) for key in shown), dense])
        runs = Runs(command, (arguments.models or Path(temporary)) / name.replace("/", "-"))
        runs.folder.mkdir(parents=True, exist_ok=True)
        found = _finished(runs)
        reference = found.pop(ONE)
        result = {
            **{key: getattr(arguments, key) for key in shown},
            "dense_sha256": _account(reference)["source"]["sha256"],
            "optimizer steps": len(_losses(reference)),
            "metric of one process": _metric(reference),
            "beside one process": {
                name: difference(path, reference) for name, path in found.items()
            },
            f"{TWO} beside {PARTS}": difference(found[TWO], found[PARTS]),
            "machine": f"{this_processor()}; 1 thread a process",
            "versions": {name: version(name) for name in ("torch", "transformers", "accelerate")},
        }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(f"{text}\n", encoding="utf-8")
    if result["beside one process"][KILLED]["tensors not equal bit for bit"]:
        raise SystemExit("the resumed run has other weights than the uninterrupted one")
    if result[f"{TWO} beside {PARTS}"]["tensors not equal bit for bit"]:
        raise SystemExit("two processes have other weights than two micro-batches")


def _finished(runs: Runs) -> dict[str, Path]:
    found = {
        ONE: runs.finish(ONE),
        TWO: runs.finish(TWO, launcher=BY_TORCHRUN),
        PARTS: runs.finish(PARTS, "--accumulation=2"),
        SEED: runs.finish(SEED, "--seed=1"),
    }
    killed = runs.model(KILLED)
    if not killed.exists():
        runs.kill(KILLED, after_step=3 * len(_losses(found[ONE])) // 4)
        before = _log(killed).splitlines()[: snapshot_step(Outputs(killed).snapshots)]
        runs.finish(KILLED, "--resume")
        # A line holds when it was written, so a run that began anew has others.
        if _log(killed).splitlines()[: len(before)] != before:
            killed.unlink()  # or the next call would take it for a resumed one
            raise SystemExit(f"{KILLED}: began anew, and did not go on from its snapshot")
    return found | {KILLED: killed}


def _log(model: Path) -> str:
    return Outputs(model).log.read_text(encoding="utf-8")


def _losses(model: Path) -> list[float]:
    """Of every optimizer step."""
    entries = map(json.loads, _log(model).splitlines())
    return [float(entry["loss"]) for entry in entries if entry["event"] == "step"]


if __name__ == "__main__":
    main()
