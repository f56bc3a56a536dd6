r"""Encoders that onnxruntime's own quantizer made, through the linter, its fixes and TensorRT-RTX.

    python -m samples.other_tools --model runs/engines/minilm-dense --data GLUE_DIR
    python -m samples.other_tools --random          a BERT-base with random weights instead
    python -m samples.other_tools --print           the table, in Markdown

`quantize_static` is calibrated on MRPC (on random tokens with --random) under three settings: its
defaults, symmetric int8 with float biases, and the same for linear layers alone. Each file is
linted and built as it is, then mended with everything that `lint --fix --requantize` has, linted
and built again. Results are JSON files in samples/results/other_tools.
"""

import argparse
import json
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from transformers import AutoModelForSequenceClassification, BertConfig, PreTrainedModel

from nxmi_export.backends.tensorrt_engine import (
    Int8Coverage,
    Library,
    ProductNodes,
    ShapeProfile,
    build_engine,
    find_library,
    int8_coverage,
)
from nxmi_export.capture import capture
from nxmi_export.errors import EngineBuildFailed
from nxmi_export.output_files import atomic_file
from nxmi_export.workflow.lint import LintRequest, lint_graph
from passes import attention_matmuls
from passes.lint import Finding, Severity
from passes.lint.reading import Reading
from passes.lint.unfold import unfold
from samples.fine_tune import INPUTS, TrainingData, encoded, train_split

__all__ = ["SETTINGS", "Feeds", "Sentences", "capture_dense", "markdown", "measure", "quantize"]

Feeds = dict[str, npt.NDArray[np.int64]]

RESULTS = Path(__file__).parent / "results" / "other_tools"
SEED, BATCHES, BATCH = 0, 8, 8
_SYMMETRIC: dict[str, Any] = {
    "activation_type": QuantType.QInt8,
    "weight_type": QuantType.QInt8,
    "per_channel": True,
    "op_types_to_quantize": ["MatMul"],
}
_OPTIONS = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "symmetric": _SYMMETRIC | {"extra_options": _OPTIONS},
    # What suits TensorRT: without the products of attention (see `quantize`), whose softmax it does
    # not quantize at 1/127.
    "linears": _SYMMETRIC | {"extra_options": _OPTIONS},
}


class Sentences(CalibrationDataReader):
    """Batches, one by one, as onnxruntime asks for them."""

    def __init__(self, feeds: Iterable[Feeds]) -> None:
        self._left = iter(feeds)

    def get_next(self) -> Feeds | None:
        """The next batch; None at the end."""
        return next(self._left, None)


def main() -> None:
    """Measure or print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, help="a dense Hugging Face directory")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--print", action="store_true", dest="show")
    arguments = parser.parse_args()
    if not arguments.show:
        if arguments.random == (arguments.model is not None and arguments.data is not None):
            parser.error("name either --random, or --model and --data")
        model = _random_bert() if arguments.random else _load(arguments.model)
        name = "bert-base" if arguments.random else arguments.model.name
        feeds = _random_feeds(model) if arguments.random else _feeds(arguments.data)
        _write(name, model, feeds)
    print(markdown(RESULTS))


def capture_dense(model: PreTrainedModel, path: Path) -> None:
    """Export a dense model; its tensors lie beside the file."""
    limit = model.config.max_position_embeddings
    graph = capture(model, input_names=INPUTS, position_limit=limit)
    ir.save(graph.model, path, external_data=f"{path.name}.data")


def quantize(dense: Path, path: Path, feeds: Iterable[Feeds], settings: str) -> None:
    """Let onnxruntime quantize the file `dense` into `path`."""
    given = dict(SETTINGS[settings])
    if settings == "linears":
        # By name: its option MatMulConstBOnly is not read where pairs of Q and DQ are written.
        products = attention_matmuls(ir.load(dense).graph)
        given["nodes_to_exclude"] = [str(node.name) for node in products]
    quantize_static(dense, path, Sentences(feeds), use_external_data_format=True, **given)


def measure(path: Path, library: Library, profile: ShapeProfile) -> dict[str, Any]:
    """What the linter and the engine say of the file, before and after everything is mended."""
    fixed = path.with_name(f"{path.stem}.fixed.onnx")
    longest = profile.max.sequence
    report = lint_graph(LintRequest(path, sequence=longest, fixed=fixed, requantize=True))
    assert report.before is not None, "a mended copy was asked for"
    assert report.mended is not None
    changes = {record.name: len(record.changes) for record in report.mended.ledger.records}
    return {
        "library": {"name": library.name, "version": library.version},
        "before": {
            "findings": _counts(report.before.findings),
            "engine": _engine(path, library, profile),
        },
        "fixes": {name: count for name, count in changes.items() if count},
        "after": {"findings": _counts(report.findings), "engine": _engine(fixed, library, profile)},
    }


def markdown(results: Path) -> str:
    """One row per model and settings."""
    lines = [
        "| model | quantize_static | as it is | findings | mended | findings left |",
        "|---|---|---|---|---|---|",
    ]
    for path in sorted(results.glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        for settings, each in found["settings"].items():
            entries = [
                text
                for side in ("before", "after")
                for text in (_told(each[side]["engine"]), _severe(each[side]["findings"]))
            ]
            lines.append(f"| {found['model']} | {settings} | {' | '.join(entries)} |")
    return "\n".join(lines)


def _write(name: str, model: PreTrainedModel, feeds: list[Feeds]) -> None:
    library = find_library("tensorrt_rtx")
    profile = ShapeProfile.default(position_limit=model.config.max_position_embeddings)
    found: dict[str, Any] = {"model": name, "onnxruntime": version("onnxruntime"), "settings": {}}
    with tempfile.TemporaryDirectory() as folder:
        dense = Path(folder) / "dense.onnx"
        capture_dense(model, dense)
        for settings in SETTINGS:
            path = Path(folder) / f"{settings}.onnx"
            quantize(dense, path, feeds, settings)
            found["settings"][settings] = measure(path, library, profile)
    RESULTS.mkdir(parents=True, exist_ok=True)
    with atomic_file(RESULTS / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _engine(path: Path, library: Library, profile: ShapeProfile) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "model.plan"
        try:
            result = build_engine(path, plan, profiles=[profile], library=library)
        except EngineBuildFailed as error:
            return {"refused": error.found.split("; ")[0]}
        found = _coverage(path, result.layers)
        return {
            "linears": {"total": len(found.linears), "int8": found.int8_linears},
            "attentions": {"total": len(found.attentions), "fused_int8": found.int8_attentions},
            "kernels": len(result.layers),
            "plan_bytes": result.size_bytes,
        }


def _coverage(path: Path, layers: Any) -> Int8Coverage:
    """Of every linear layer that runs for every token, and every attention; by node names."""
    reading = Reading(unfold(ir.load(path)))
    linears = {str(layer.node.name): str(layer.node.name) for layer in reading.token_layers}
    products = {
        str(node.name): str(each.softmax.name)
        for each in reading.attentions
        for node in (each.scores, each.context)
    }
    return int8_coverage(
        layers,
        ProductNodes(linears | products),
        linears=linears.values(),
        attentions=set(products.values()),
    )


def _counts(findings: Iterable[Finding]) -> dict[str, dict[str, int]]:
    """How often each rule found something, by severity."""
    counts: dict[str, dict[str, int]] = {str(severity): {} for severity in Severity}
    for finding in findings:
        rules = counts[finding.severity]
        rules[finding.rule] = rules.get(finding.rule, 0) + 1
    return counts


def _told(engine: dict[str, Any]) -> str:
    if "refused" in engine:
        return "refused"
    linears, attentions = engine["linears"], engine["attentions"]
    return (
        f"{linears['int8']}/{linears['total']} linears INT8, "
        f"{attentions['fused_int8']}/{attentions['total']} attentions fused"
    )


def _severe(findings: dict[str, dict[str, int]]) -> str:
    """What is refused and degraded, in a phrase; notes are in the JSON."""
    parts = [
        f"{severity}: {', '.join(rules)}"
        for severity, rules in findings.items()
        if rules and severity != Severity.NOTE
    ]
    return "; ".join(parts) or "none but notes"


def _load(path: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        path, attn_implementation="eager"
    )
    return model.eval()


def _random_bert() -> PreTrainedModel:
    torch.manual_seed(SEED)
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(
        BertConfig(), attn_implementation="eager"
    )
    return model.eval()


def _feeds(data: Path) -> list[Feeds]:
    dataset = encoded(train_split(TrainingData("mrpc", data, BATCHES * BATCH)))
    return [batch.feeds for batch in dataset.batches(BATCH)]


def _random_feeds(model: PreTrainedModel) -> list[Feeds]:
    rng = np.random.default_rng(SEED)
    batches = (rng.integers(0, model.config.vocab_size, (BATCH, 128)) for _ in range(BATCHES))
    return [
        dict(zip(INPUTS, (ids, np.ones_like(ids), np.zeros_like(ids)), strict=True))
        for ids in batches
    ]


if __name__ == "__main__":
    main()
