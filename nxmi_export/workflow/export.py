"""A model path in, an artefact directory out."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import onnx_ir as ir

from nxmi_export._version import __version__
from nxmi_export.artefact import (
    CPU_MODEL,
    FP16_MODEL,
    FP16_WEIGHTS,
    INT4_MODEL,
    INT4_WEIGHTS,
    MODEL,
    WEIGHTS,
    Artefact,
    Manifest,
    Source,
    file_record,
    is_artefact,
    read_artefact,
)
from nxmi_export.artefact.manifest import Tuning
from nxmi_export.artefact.records import linear_records, packed_records, table_records
from nxmi_export.backends.onnxruntime_session import exact_options
from nxmi_export.capture import capture
from nxmi_export.checkpoint import CompressedCheckpoint, checkpoint_sha256, read_checkpoint
from nxmi_export.compression import CompressedLinear, compressed_linears, restore
from nxmi_export.compression.restore import check_deployable
from nxmi_export.errors import OutputError, UsageError
from nxmi_export.lowering import (
    LoweredGraph,
    lower,
    tensorrt_fp16_passes,
    tensorrt_int4_passes,
    tensorrt_passes,
)
from nxmi_export.model_facts import ModelFacts, model_facts
from nxmi_export.output_files import atomic_directory
from nxmi_export.recipe import Placement
from nxmi_export.workflow.cpu_graph import TuningRequest, write_cpu_graph
from passes import GraphPass

__all__ = ["ExportRequest", "export"]

_LIBRARIES = ("torch", "transformers", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy")
_OUR_NOTES = "nxmi."
_PACKED_BITS = 4
_INLINE_BELOW = 256  # bytes; scales and shapes stay in the ONNX file, where a reader sees them


@dataclass(frozen=True)
class ExportRequest:
    """What to export and where to."""

    model: str  # a model.pt, a Hugging Face directory or a hub name
    output: Path
    base: str | None = None  # the configuration of a bare state dict
    overwrite: bool = False  # an artefact; any other folder with files in it is refused
    fp16: bool = False  # whether to write model.fp16.onnx as well
    int4_blocks: int | None = None  # inputs to a scale in model.int4.onnx; None: no such file
    tune: bool = False  # whether to time graphs and fusions of onnxruntime on this machine
    tuning_cache: Path | None = None  # a folder of earlier timings; None keeps none


def export(
    request: ExportRequest, *, on_stage: Callable[[str], None] = lambda stage: None
) -> Artefact:
    """Export a model; the directory appears whole or not at all.

    `on_stage` hears what begins. Where a pass fails, the graph before it is kept beside the output,
    in a folder named after it with ".failed". Raises UsageError for what cannot be exported.
    """
    _check_apart(request)
    replaceable = is_artefact if request.overwrite else None
    failed = request.output.with_name(f"{request.output.name}.failed")
    with atomic_directory(request.output, replaceable=replaceable) as folder:
        on_stage("reading the checkpoint")
        checkpoint = read_checkpoint(request.model, base=request.base)
        facts = model_facts(checkpoint.config)
        model = restore(checkpoint)
        check_deployable(model, request.model)
        patterns = _patterns(compressed_linears(model))
        placement = None if checkpoint.recipe is None else checkpoint.recipe.placement
        packed = _four_bit(compressed_linears(model), placement, request)
        on_stage("capturing the graph")
        graph = capture(
            model, input_names=facts.input_names, position_limit=facts.position_limit
        ).model
        _drop_exporter_notes(graph)
        on_stage("lowering for TensorRT")
        tensorrt = lower(graph, tensorrt_passes(patterns), work_dir=failed)
        ir.save(
            tensorrt.model,
            folder / MODEL,
            external_data=WEIGHTS,
            size_threshold_bytes=_INLINE_BELOW,
        )
        graphs = {"tensorrt": tensorrt}
        if request.fp16:
            on_stage("lowering for TensorRT in float16")
            graphs["tensorrt_fp16"] = _write_beside(
                folder, MODEL, (FP16_MODEL, FP16_WEIGHTS), tensorrt_fp16_passes(patterns), failed
            )
        if request.int4_blocks is not None:
            on_stage("packing INT4 blocks")
            graphs["tensorrt_int4"] = _write_beside(
                folder,
                FP16_MODEL if request.fp16 else MODEL,
                (INT4_MODEL, INT4_WEIGHTS),
                tensorrt_int4_passes(patterns, packed, request.int4_blocks),
                failed,
            )
        graphs["onnxruntime"], tuning = write_cpu_graph(
            folder,
            patterns,
            _tuning_request(request, checkpoint, facts),
            work_dir=failed,
            on_stage=on_stage,
        )
        on_stage("writing the manifest")
        _write_facts(folder, request, checkpoint, facts, graphs, tuning)
    return read_artefact(request.output)


def _check_apart(request: ExportRequest) -> None:
    """Refuse an output that would take along what is exported when it is replaced."""
    output = request.output.resolve()
    for name in (request.model, request.base):
        if name is None or not Path(name).exists():
            continue
        if Path(name).resolve().is_relative_to(output):
            raise OutputError(
                output,
                expected="an output folder apart from the model and its base",
                found=f"{name} in its place or inside it",
                remedy="choose another with -o",
            )


def _drop_exporter_notes(model: ir.Model) -> None:
    """Keep of all metadata only our own.

    The exporter notes a stack trace with every node: most of the file's bytes, and the paths and
    line numbers of this machine, which are nobody else's business and differ on the next one.
    """
    graph = model.graph
    values = (*graph.inputs, *graph.initializers.values())
    results = (value for node in graph for value in node.outputs)
    for each in (model, graph, *graph, *values, *results):
        notes = each.metadata_props
        for key in [key for key in notes if not key.startswith(_OUR_NOTES)]:
            del notes[key]


def _write_beside(
    folder: Path,
    source: str,
    names: tuple[str, str],
    steps: Sequence[GraphPass],
    failed: Path,
) -> LoweredGraph:
    """Write the first of `names`, lowered further from the graph `source`.

    Tensors that it alone has go to the second; all others it reads from where `source` does.
    """
    model, weights = names
    graph = lower(ir.load(folder / source), steps, work_dir=failed)
    new = [
        (value, tensor)
        for value in graph.model.graph.initializers.values()
        if (tensor := value.const_value) is not None
        and not isinstance(tensor, ir.ExternalTensor)
        and tensor.nbytes > _INLINE_BELOW
    ]
    stored = ir.external_data.convert_tensors_to_external(
        [tensor for _, tensor in new], folder, weights
    )
    for (value, _), tensor in zip(new, stored, strict=True):
        value.const_value = tensor
    ir.save(graph.model, folder / model)
    return graph


def _four_bit(
    linears: dict[str, CompressedLinear], placement: Placement | None, request: ExportRequest
) -> tuple[str, ...]:
    """The linears whose codes are of 4 bits.

    Raises UsageError where they are to be packed and there are none, or what they are multiplied
    with is rounded too.
    """
    found = tuple(name for name, linear in linears.items() if linear.scheme.bits == _PACKED_BITS)
    if request.int4_blocks is not None and not found:
        schemes = sorted({str(linear.scheme) for linear in linears.values()}) or ["no scheme"]
        raise UsageError(
            f"--int4-blocks {request.int4_blocks}",
            expected="linears with an int4 scheme",
            found=", ".join(schemes),
            remedy="leave the option out, or compress the model to int4 with placement: weights",
        )
    if request.int4_blocks is not None and placement is not Placement.WEIGHTS:
        raise UsageError(
            f"--int4-blocks {request.int4_blocks}",
            expected=f"a model of placement {Placement.WEIGHTS}, whose products are of floats",
            found=f"placement {placement}",
            remedy="leave the option out, or compress the model to int4 with placement: weights",
        )
    return found


def _patterns(linears: dict[str, CompressedLinear]) -> dict[str, tuple[int, int]]:
    patterns = {name: linear.scheme.pattern for name, linear in linears.items()}
    return {name: (each.keep, each.group) for name, each in patterns.items() if each is not None}


def _tuning_request(
    request: ExportRequest, checkpoint: CompressedCheckpoint, facts: ModelFacts
) -> TuningRequest | None:
    if not request.tune:
        return None
    vocabulary = int(checkpoint.config["vocab_size"])
    return TuningRequest(vocabulary, facts.position_limit, request.tuning_cache)


def _write_facts(
    folder: Path,
    request: ExportRequest,
    checkpoint: CompressedCheckpoint,
    facts: ModelFacts,
    graphs: dict[str, LoweredGraph],
    tuning: Tuning | None,
) -> None:
    for name, content in checkpoint.tokenizer.items():
        (folder / name).write_bytes(content)
    config = json.dumps(dict(checkpoint.config), indent=1, sort_keys=True)
    (folder / "config.json").write_text(f"{config}\n", encoding="utf-8")
    manifest = Manifest(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        architecture=checkpoint.architecture,
        model_type=facts.model_type,
        input_names=facts.input_names,
        position_limit=facts.position_limit,
        labels=facts.labels,
        source=_source(request),
        recipe=checkpoint.recipe.as_mapping() if checkpoint.recipe else None,
        provenance=dict(checkpoint.provenance),
        session_options={
            **({} if tuning is None else tuning.options),
            **exact_options(folder / CPU_MODEL),
        },
        tuning=tuning,
        versions={"nxmi-export": __version__} | {name: version(name) for name in _LIBRARIES},
        linears=linear_records(graphs["tensorrt"].model),
        packed=packed_records(graphs["tensorrt_int4"].model) if "tensorrt_int4" in graphs else {},
        embeddings=table_records(graphs["tensorrt"].model),
        ledgers={target: graph.ledger.as_json() for target, graph in graphs.items()},
        files={path.name: file_record(path) for path in sorted(folder.iterdir())},
    )
    manifest.write(folder)


def _source(request: ExportRequest) -> Source:
    path = Path(request.model)
    return Source(
        path=_reference(request.model, request.output),
        sha256=checkpoint_sha256(path) if path.exists() else None,
        base=None if request.base is None else _reference(request.base, request.output),
    )


def _reference(name: str, output: Path) -> str:
    """A local path as seen from the artefact, so that both can move together; else a hub name."""
    path = Path(name)
    return os.path.relpath(path.resolve(), output.resolve()) if path.exists() else name
