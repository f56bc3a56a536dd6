"""`nxmi-export bench ARTEFACT`: how fast everything runs that can run it here."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from nxmi_export.artefact import BENCH, Artefact, read_artefact
from nxmi_export.cli.console import ERRORS, RESULTS, bars, stages, write_json, write_text
from nxmi_export.cli.parity_files import check_writable
from nxmi_export.task_file import task_from

if TYPE_CHECKING:
    # It loads libraries, and --help should not.
    from nxmi_export.bench.result import BenchResult
    from nxmi_export.workflow.bench import BenchRequest

__all__ = ["bench_command"]

_EXAMPLES = """
Examples

    nxmi-export bench model.artefact

    nxmi-export bench model.artefact --shapes 1x128,8x128,32x64 --threads 2

    nxmi-export bench model.artefact --task sst2 --data glue

    nxmi-export bench model.artefact --against other-tool.onnx \\
        --baseline onnxruntime

    nxmi-export bench model.artefact --against nncf.xml

Everything that can run the model takes turns, round by round; what cannot run here is listed \
with the reason. Other files run as their libraries run them by default; where that may answer \
wrongly on this processor, they run with exact products too, and the table says how far apart the \
logits are.

Exit codes: 0 measured; 2 the command line, the artefact or the data cannot be used; 3 a library \
is missing; 4 internal error.
"""

_SHAPES = "1x128,8x128,32x64"
PROFILE = "profile_model.json"

_Shapes = Annotated[
    str, typer.Option(metavar="SHAPES", help="BATCHxSEQUENCE of the batches, commas between.")
]
_Against = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help="Another .onnx, or OpenVINO's .xml, that reads the same batches; again for more.",
    ),
]
_Baseline = Annotated[
    str, typer.Option(help="What speed is compared with: a key of bench.json, or a file's name.")
]
_Rounds = Annotated[int, typer.Option(min=3, help="Rounds of each shape at most, of 3 runs each.")]
_Seconds = Annotated[
    float, typer.Option(min=0, help="After which a shape gets no further round; 3 rounds at least.")
]
_Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Of PyTorch, onnxruntime and OpenVINO; default: their own choice."),
]
_NoCudaGraph = Annotated[
    bool, typer.Option("--no-cuda-graph", help="Run engines call by call, not as CUDA graphs.")
]
_Task = Annotated[
    str | None,
    typer.Option(
        metavar="TASK",
        help="Time texts of its dev split too, by length and padded to one length; the name, or a "
        "YAML file that describes one of your own.",
    ),
]
_Data = Annotated[
    Path | None,
    typer.Option(help="A directory of Parquet files or classic GLUE TSV; default: the hub."),
]
_Texts = Annotated[int, typer.Option(min=1, help="How many texts, the first of the split.")]
_NoMemory = Annotated[
    bool,
    typer.Option(
        "--no-memory", help="Leave out memory, which takes each a fresh process of some seconds."
    ),
]
_Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Everything, as JSON; default: ARTEFACT/bench.json"),
]


def bench_command(
    directory: Annotated[Path, typer.Argument(metavar="ARTEFACT", help="An exported directory.")],
    shapes: _Shapes = _SHAPES,
    against: _Against = None,
    task: _Task = None,
    data: _Data = None,
    texts: _Texts = 256,
    baseline: _Baseline = "pytorch",
    rounds: _Rounds = 40,
    seconds: _Seconds = 60.0,
    threads: _Threads = None,
    no_cuda_graph: _NoCudaGraph = False,
    no_memory: _NoMemory = False,
    output: _Output = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Time PyTorch, onnxruntime and TensorRT side by side, sparse kernels allowed and forbidden."""
    artefact = read_artefact(directory)
    chosen = None if task is None else task_from(task)
    path = output or directory / BENCH
    files = {
        "-o": path,
        "-o, the picture beside it": path.with_suffix(".svg"),
        "-o, the layer times beside it": path.with_name(PROFILE),
    }
    check_writable(files, artefact)
    with stages() as begin:
        begin("loading libraries")
        from nxmi_export.bench import parse_workloads
        from nxmi_export.workflow.bench import BenchRequest, TextsRequest

        request = BenchRequest(
            parse_workloads(shapes, position_limit=artefact.manifest.position_limit),
            baseline=baseline,
            against=tuple(against or ()),
            threads=threads,
            rounds=rounds,
            seconds=seconds,
            cuda_graph=not no_cuda_graph,
            texts=None if chosen is None else TextsRequest(chosen, data, texts),
            memory=not no_memory,
        )
    _run(artefact, request, path, as_json=as_json)


def _run(artefact: Artefact, request: "BenchRequest", path: Path, *, as_json: bool) -> None:
    from nxmi_export.report.bench_chart import bench_chart
    from nxmi_export.report.bench_memory import memory_notes, memory_table
    from nxmi_export.report.bench_table import bench_notes, bench_tables
    from nxmi_export.workflow.bench import EngineProfile, bench, profile_engine

    identity = _identity(artefact)

    def keep(result: "BenchResult") -> dict[str, Any]:
        document = {"artefact": identity, **result.as_json()}
        write_json(path, document)
        write_text(path.with_suffix(".svg"), bench_chart(document))
        return document

    with bars() as move:
        result = bench(artefact, request, on_progress=move, on_times=keep)
        profile = profile_engine(artefact, request)
    document = keep(result)
    if isinstance(profile, EngineProfile):
        write_json(path.with_name(PROFILE), profile.layers)
    if as_json:
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
        return
    for table in (*bench_tables(document), *memory_table(document)):
        RESULTS.print(table)
    for note in (*bench_notes(document), *memory_notes(document)):
        RESULTS.print(note, soft_wrap=True, highlight=False)
    RESULTS.print(f"everything in {escape(str(path))}", soft_wrap=True, highlight=False)
    picture = escape(str(path.with_suffix(".svg")))
    RESULTS.print(f"a picture in {picture}", soft_wrap=True, highlight=False)
    if isinstance(profile, EngineProfile):
        place = escape(str(path.with_name(PROFILE)))
        text = f"layer times at {profile.workload} in {place}"
    else:
        text = f"no {PROFILE}: {escape(profile.reason)}"
    ERRORS.print(text, soft_wrap=True, highlight=False)


def _identity(artefact: Artefact) -> dict[str, Any]:
    """What binds the results to the artefact: its model files, and where they came from."""
    from nxmi_export.bench import model_files

    manifest = artefact.manifest
    return {
        "created": manifest.created,
        "checkpoint_sha256": manifest.source.sha256,
        "files": model_files(artefact),
    }


bench_command.__doc__ = f"{bench_command.__doc__}\n{_EXAMPLES}"
