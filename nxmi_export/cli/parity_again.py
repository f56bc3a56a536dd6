"""A parity run in, the command lines that export the artefact and compare it again out."""

import shlex
from typing import TYPE_CHECKING

from nxmi_export.artefact import FP16_MODEL, Artefact

if TYPE_CHECKING:
    from nxmi_export.workflow.parity import ParityRequest  # loads torch, and --help should not

__all__ = ["commands_again"]


def commands_again(artefact: Artefact, request: "ParityRequest") -> tuple[str, str]:
    """The export and the comparison; each option is written down, whatever it is by default.

    The export makes the files that the artefact has, in place of these.
    """
    gate, terms = request.gate, request.gate.terms
    options = {
        "--data": request.data_dir,
        "--checkpoint": request.checkpoint,
        "--dense": request.dense,
        "--batch-tokens": request.batch_tokens,
        "--max-length": request.max_length,
        "--limit": request.limit,
        "--probe-tokens": request.probe_tokens,
        "--seed": terms.seed,
        "--max-changed": gate.max_changed,
        "--max-flips": gate.max_flips,
        "--max-drop": gate.max_drop,
        "--margin": terms.margin,
        "--confidence": terms.confidence,
    }
    parity = ["nxmi-export", "parity", str(artefact.directory)]
    for task in request.tasks:
        parity += ["--task", task.argument]
    for name, value in options.items():
        parity += [] if value is None else [name, str(value)]
    for backend in request.backends:
        parity += ["--backend", backend]
    for pair in request.layer_errors:
        parity += ["--layer-errors", ":".join(pair)]
    flags = {"--strict": gate.strict, "--captured": request.captured, "--drift": request.drift}
    parity += [name for name, given in flags.items() if given]
    if request.bisect_budget is not None:
        parity += ["--bisect", "--bisect-budget", str(request.bisect_budget)]
    return shlex.join(_export(artefact, request)), shlex.join(parity)


def _export(artefact: Artefact, request: "ParityRequest") -> list[str]:
    source = request.checkpoint or artefact.source()
    export = ["nxmi-export", "export", str(source), "-o", str(artefact.directory), "--overwrite"]
    if base := artefact.base():
        export += ["--base", str(base)]
    if FP16_MODEL in artefact.manifest.files:
        export += ["--fp16"]
    # One size was asked for, and every layer that is packed has it.
    for block in sorted({each.block for each in artefact.manifest.packed.values()}):
        export += ["--int4-blocks", str(block)]
    # Measured again, another form of model.cpu.onnx may be the fastest.
    return [*export, "--no-autotune" if artefact.manifest.tuning is None else "--autotune"]
