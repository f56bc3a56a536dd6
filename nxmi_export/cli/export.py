"""`nxmi-export export MODEL`: write an artefact directory."""

from pathlib import Path
from typing import Annotated

import typer

from nxmi_export.cli.caches import user_cache
from nxmi_export.cli.console import RESULTS, stages
from nxmi_export.errors import UsageError
from nxmi_export.report.tables import artefact_table

__all__ = ["export_command"]

_BLOCKS = (16, 32, 64, 128)  # as TensorRT-RTX was seen to build
_Autotune = Annotated[
    bool,
    typer.Option(
        help="Time on this machine which graph is fastest on onnxruntime and which of its fusions "
        "pay, and record the choice. Timings are kept in nxmi-export/tuning of $XDG_CACHE_HOME or "
        "~/.cache."
    ),
]
_EXAMPLES = """
Examples

    nxmi-export model.pt

    nxmi-export model.pt -o deploy/sst2 --overwrite

    nxmi-export weights.pt --base ./my-fine-tuned-bert

    nxmi-export ./my-fine-tuned-bert -o deploy/dense

    nxmi-export model.pt --fp16

    nxmi-export weights-only.pt --int4-blocks 128

    nxmi-export model.pt --no-autotune

Exit codes: 0 written; 2 the model or the command line cannot be used; 3 a library is missing; 4 \
internal error; 130 interrupted, and nothing is left half-written.
"""


def export_command(
    model: Annotated[
        str, typer.Argument(help="A model.pt, a Hugging Face directory, or a hub name.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="The artefact directory; default: MODEL's name + .artefact"
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="For a bare state dict: the directory or hub name of its configuration."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an artefact; other folders are left alone.")
    ] = False,
    fp16: Annotated[
        bool,
        typer.Option(
            "--fp16",
            help="Also write model.fp16.onnx: for TensorRT, floats in float16 where they fit.",
        ),
    ] = False,
    int4_blocks: Annotated[
        int | None,
        typer.Option(
            "--int4-blocks",
            metavar="SIZE",
            help="Also write model.int4.onnx: 4-bit weights of float products packed two to a "
            f"byte, with a scale for every {', '.join(map(str, _BLOCKS))} inputs.",
        ),
    ] = None,
    autotune: _Autotune = True,
) -> None:
    """Write ONNX files for TensorRT and onnxruntime, with stored integers and a manifest."""
    _check_blocks(int4_blocks)
    with stages() as begin:
        begin("loading PyTorch")
        from nxmi_export.workflow.export import ExportRequest, export

        request = ExportRequest(
            model,
            output or _default_output(model),
            base,
            overwrite,
            fp16,
            int4_blocks,
            tune=autotune,
            tuning_cache=user_cache("tuning") if autotune else None,
        )
        artefact = export(request, on_stage=begin)
    RESULTS.print(artefact_table(artefact))


def _check_blocks(size: int | None) -> None:
    if size is not None and size not in _BLOCKS:
        raise UsageError(
            f"--int4-blocks {size}",
            expected=f"{', '.join(map(str, _BLOCKS[:-1]))} or {_BLOCKS[-1]} inputs",
            found=str(size),
            remedy="take 64 or 128, which kernels are made for",
        )


def _default_output(model: str) -> Path:
    path = Path(model)
    name = path.resolve().name if path.exists() else model.rsplit("/", 1)[-1]
    parent = path.parent if path.exists() else Path()
    return parent / f"{name.removesuffix('.pt')}.artefact"


export_command.__doc__ = f"{export_command.__doc__}\n{_EXAMPLES}"
