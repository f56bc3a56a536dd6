"""`nxmi-export triton ARTEFACT`: a model repository for Triton Inference Server."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from nxmi_export.artefact import read_artefact
from nxmi_export.cli.console import ERRORS, RESULTS, stages
from nxmi_export.workflow.triton import BackendName, TritonRequest

__all__ = ["triton_command"]

_EXAMPLES = """
Examples

    nxmi-export triton model.artefact -o repository --backend onnxruntime

    nxmi-export triton model.artefact -o repository --backend tensorrt \\
        --name sst2

    tritonserver --model-repository repository

Exit codes: 0 written; 2 the command line or the artefact cannot be used; 4 internal error.
"""

_Output = Annotated[
    Path,
    typer.Option(
        "-o", "--output", metavar="REPOSITORY", help="Where models are; made where it is absent."
    ),
]
_Backend = Annotated[
    BackendName,
    typer.Option(help="tensorrt serves model.plan on a GPU, onnxruntime model.cpu.onnx on CPUs."),
]
_MaxBatch = Annotated[
    int | None,
    typer.Option(min=1, help="Examples of a batch; default: the engine's largest, else 64."),
]
_QueueDelay = Annotated[
    int,
    typer.Option(
        min=0, metavar="MICROSECONDS", help="How long a request may wait for others to join."
    ),
]


def triton_command(
    directory: Annotated[Path, typer.Argument(metavar="ARTEFACT", help="An exported directory.")],
    output: _Output,
    backend: _Backend = "tensorrt",
    name: Annotated[str, typer.Option(help="What clients call the model.")] = "model",
    max_batch: _MaxBatch = None,
    queue_delay: _QueueDelay = 0,
) -> None:
    """Write config.pbtxt with dynamic batching, labels, warm-up and the model, and nothing else."""
    request = TritonRequest(output, name, backend, max_batch, queue_delay)
    with stages() as begin:
        begin("checking the artefact")
        artefact = read_artefact(directory)
        begin("writing the model")
        from nxmi_export.workflow.triton.repository import write_repository

        written = write_repository(artefact, request)
    if written.served.narrowed is not None:
        note = f"note: {written.served.narrowed}; for both, serve an engine for each"
        ERRORS.print(note, soft_wrap=True, highlight=False, markup=False)
    RESULTS.print(
        f"{escape(str(written.folder))} needs {escape(written.served.needs)}", soft_wrap=True
    )


triton_command.__doc__ = f"{triton_command.__doc__}\n{_EXAMPLES}"
