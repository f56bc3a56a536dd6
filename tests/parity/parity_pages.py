"""A failed run of two dev sets as its JSON has it, with everything that a page can show."""

from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from parity_results import artefact_storing, result_of, with_wrong

from nxmi_export.artefact import Artefact, FileRecord
from nxmi_export.parity import (
    CodeAgreement,
    Explanation,
    Gate,
    NotCompared,
    ParityResult,
    Stage,
    Step,
    WeightParity,
    judge_run,
)
from nxmi_export.parity.document import run_document
from nxmi_export.parity.judge import CodeDifference
from nxmi_export.parity.layer_weights import Mismatch
from tests.engine_documents import engine_document

HOSTILE = "<script>alert('a')</script> & \"b\" </table> \u202eesrever"
CHANGED = 60  # of the first dev set, more than a page lists
LAYERS = [
    {"name": "bert.embeddings", "max_abs": 0.0, "relative_rms": 0.0, "cosine": 1.0},
    {"name": "layer.<0>", "max_abs": 2.5e-7, "relative_rms": 3.25e-8, "cosine": 0.99999999},
    {"name": "layer.1", "max_abs": 0.125, "relative_rms": 0.0375, "cosine": 0.9975},
    {"name": "layer.2", "max_abs": None, "relative_rms": None, "cosine": None},
]
_TIE = CodeDifference("bert.encoder.layer.0.output_quantizer", (3, 7), (12.5, 12.499), (12, 13))


def artefact() -> Artefact:
    """Two kinds of linears and two files; its directory and recipe are named to do harm."""
    made = artefact_storing("2:4+int8", "2:4+int8", "dense")
    files = {
        "model.onnx": FileRecord(sha256="ab" * 32, bytes=1_234_567),
        "model.<cpu>.onnx": FileRecord(sha256="cd" * 32, bytes=7_654),
    }
    changes = {
        "files": files,
        "recipe": {"default": "2:4+int8", "note": HOSTILE},
        "versions": {"torch": "2.13.0"},
        "provenance": {"task": "sst2", "seed": 3},
    }
    return replace(made, manifest=made.manifest.model_copy(update=changes))


def document(**gate: Any) -> dict[str, Any]:
    """SST-2, deployed with more errors than the gate allows, and RTE, with too few examples."""
    return deepcopy(_document(**gate))


@cache
def _document(**gate: Any) -> dict[str, Any]:
    terms = Gate(**gate)
    results = [_changed(), _intact()]
    run = judge_run(results, terms, [f"Beware of {HOSTILE}"])
    made = run_document(artefact(), run, checkpoint="model.pt", max_length=64, gate=terms)
    made["splits"][0]["drift"] = drift()
    made["splits"][0]["layer_errors"] = [
        {"reference": "compressed", "candidate": "written", "examples": 3, "points": LAYERS}
    ]
    return made


def drift() -> dict[str, Any]:
    """What the JSON of a run says of its rungs' drift: a fault, and a rung without one."""
    fault = {"explained": False, "first_layer": "layer.1", "cause": "scale", "reason": HOSTILE}
    nothing = {"explained": True, "first_layer": "", "cause": None, "reason": None}
    return {
        "written": {**fault, "found": {}},
        "optimized": {**nothing, "found": {}},
    }


def engine() -> dict[str, Any]:
    """What engine.json says of a build of which not everything is proved."""
    return engine_document(
        Path("model.artefact"),
        plan={"name": "model.plan", "bytes": 2_933_220, "sha256": "ef" * 32},
        library={"name": "tensorrt_rtx", "version": "1.7.1.116"},
        compute_capabilities=["sm86"],
        int8={
            "verdict": "refuted",
            "linears": {"total": 6, "int8": 5, "int8_output": 0},
            "attentions": {"total": 1, "int8": 1},
            "modules": [
                {"module": "layer.0", "verdict": "proved", "reason": "gemm: Int8 to Float"},
                {"module": "layer.5", "verdict": "refuted", "reason": HOSTILE},
            ],
        },
        sparse_kernels={
            "verdict": "unproven",
            "reason": "its plan says nothing",
            "eligible": None,
            "chosen": None,
        },
        runs={"verdict": "unproven", "reason": "the plan was not run on a GPU"},
    )


def bench() -> dict[str, Any]:
    """What bench.json says of one shape: two that ran, and an engine that did not."""
    call = {"runs": 9, "p10": 0.0010, "p50": 0.0011, "p90": 0.00125, "p99": 0.0015, "spread": 1.1}
    speed = {"median": 2.5, "low": 2.25, "high": 3.0}
    ran = {"ran": True, "call": call, "gpu": None, "examples_per_second": 909.09}
    ran["of_int8_limit"] = 0.375
    memory = {"ran": True, "loaded_anonymous": 40_000_000, "peak_loading": 120_000_000}
    memory["peak_running"] = 150_000_000
    return {
        "baseline": "pytorch",
        "settings": {"threads": 2},
        "environment": {"processor": "a processor, 2 cores", "gpu": "none"},
        "contenders": {
            "pytorch": {"what": "PyTorch, dense float32"},
            "onnxruntime": {"what": "onnxruntime, model.cpu.onnx"},
            "tensorrt": {"what": "TensorRT, model.plan"},
        },
        "texts": [
            {
                "source": "4 of sst2 validation",
                "batching": "by length, at most 64 tokens a batch",
                "examples": 4,
                "tokens": 96,
                "padded_tokens": 120,
                "rounds": 3,
                "other_cores": 0.0,
                "results": {
                    "pytorch": {**ran, "of_int8_limit": None, "speedup": None},
                },
            }
        ],
        "peaks": {
            "measured": True,
            "operations_per_second": {"float32": 1e11, "int8": 2.5e11},
        },
        "memory": {
            "measured": True,
            "batch": 1,
            "sequence": 128,
            "results": {
                "pytorch": {**memory, "loaded": 100_000_000, "baseline": 250_000_000},
                "onnxruntime": {**memory, "loaded": 60_060_000, "baseline": 90_000_000},
                "tensorrt": {"ran": False, "reason": HOSTILE},
            },
        },
        "workloads": [
            {
                "batch": 1,
                "sequence": 128,
                "rounds": 3,
                "other_cores": 0.5,
                "results": {
                    "pytorch": {**ran, "speedup": {"median": 1.0, "low": None, "high": None}},
                    "onnxruntime": {**ran, "speedup": speed},
                    "tensorrt": {"ran": False, "reason": HOSTILE},
                },
            }
        ],
    }


def _changed() -> ParityResult:
    result = result_of(with_wrong(2, "written"), with_wrong(CHANGED))
    steps = tuple(_explained(step) for step in result.steps)
    mismatch = Mismatch("layer.1", "code", "3", "-3", position=(5, 1), count=2)
    weights = {**result.weights, "model.<cpu>.onnx": WeightParity(14, 12, 12, 20, (mismatch,), 13)}
    codes = (CodeAgreement("layer.0", 99, 1, 0), CodeAgreement("layer.1", 90, 9, 1))
    environment = {"onnxruntime": "1.32.0", "processor": HOSTILE}
    return replace(result, steps=steps, weights=weights, codes=codes, environment=environment)


def _explained(step: Step) -> Step:
    """The texts of the first change do harm; it is a tie, and the second was not examined."""
    changes = step.comparison.changes
    if not changes:
        return step
    first = replace(changes[0], texts=(HOSTILE,))
    comparison = replace(step.comparison, changes=(first, *changes[1:]))
    tie = Explanation(0, True, f"A rounding tie ({_TIE}).", _TIE, 17, 0.001)
    unseen = (Explanation(each.index, None, "The codes are not seen.") for each in changes[2:])
    return replace(step, comparison=comparison, explanations=(tie, *unseen))


def _intact() -> ParityResult:
    result = result_of(with_wrong(0, "written", examples=8, task="rte"))
    steps = tuple(
        replace(step, statistics=NotCompared("<nothing> to compare"))
        if step.candidate is Stage.OPTIMIZED
        else step
        for step in result.steps
    )
    return replace(result, steps=steps)
