"""What TensorRT-RTX itself does with each bad graph of the linter's corpus.

    python -m samples.lint_corpus model.artefact

The artefact is an export with the `sparse` placement and square layers of 256 or more. Every graph
is parsed and built for a GPU that need not be there, and compared with the good one: INT8
products, fused INT8 attentions, kernels. "degraded" means that it built with less.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from nxmi_export.artefact import MODEL
from nxmi_export.backends.tensorrt_engine import (
    BuildResult,
    EngineOptions,
    ShapeProfile,
    build_engine,
    find_library,
)
from nxmi_export.backends.tensorrt_engine.int8_layers import (
    is_fused_attention,
    is_gemm,
    multiplies_int8,
)
from nxmi_export.errors import EngineBuildFailed
from passes.lint import RULES, lint
from samples.bad_graphs import BAD_GRAPHS, BadGraph


@dataclass(frozen=True)
class Built:
    """What counts in an engine."""

    int8_products: int
    float_products: int
    int8_attentions: int
    kernels: int

    @classmethod
    def of(cls, result: BuildResult) -> "Built":
        """Count the layers of a build log."""
        gemms = [layer for layer in result.layers if is_gemm(layer)]
        int8 = sum(multiplies_int8(layer) is True for layer in gemms)
        fused = [layer for layer in result.layers if is_fused_attention(layer)]
        attentions = sum(multiplies_int8(layer) is True for layer in fused)
        return cls(int8, len(gemms) - int8, attentions, len(result.layers))

    def __str__(self) -> str:
        return (
            f"{self.int8_products} INT8 and {self.float_products} float products, "
            f"{self.int8_attentions} fused INT8 attentions, {self.kernels} kernels"
        )


def main() -> None:
    """Print one line per bad graph."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("artefact", type=Path)
    path = parser.parse_args().artefact / MODEL
    with tempfile.TemporaryDirectory() as folder:
        attempt = _builder(Path(folder))
        good = attempt(_load(path), 86, 64)
        print(f"| good graph | – | {good} |\n| rule | severity | TensorRT-RTX |\n|---|---|---|")
        for bad in BAD_GRAPHS:
            print(_row(bad, path, attempt, good), flush=True)


def _load(path: Path) -> ir.Model:
    model = ir.load(path)
    ir.external_data.load_to_model(model)
    return model


def _row(
    bad: BadGraph, path: Path, attempt: Callable[[ir.Model, int, int], str | Built], good: object
) -> str:
    model = _load(path)
    bad.mutate(model)
    if {finding.rule for finding in lint(model, **bad.options)} != {bad.rule}:
        return f"| {bad.rule} | – | not the only rule that this graph breaks |"
    outcome = attempt(model, bad.options.get("sm", 86), bad.options.get("sequence", 64))
    verdict = outcome if isinstance(outcome, str) else _compare(outcome, good)
    severity = next(rule.severity for rule in RULES if rule.name == bad.rule)
    return f"| {bad.rule} | {severity} | {verdict} |"


def _compare(built: Built, good: object) -> str:
    return "the same engine layers" if built == good else f"built otherwise: {built}"


def _builder(folder: Path) -> Callable[[ir.Model, int, int], str | Built]:
    library = find_library("tensorrt_rtx")

    def attempt(model: ir.Model, sm: int, sequence: int) -> str | Built:
        path = folder / "model.onnx"
        ir.save(model, path)
        profile = ShapeProfile.parse(f"min=1x8,opt=8x64,max=8x{sequence}", position_limit=sequence)
        options = EngineOptions(compute_capabilities=(f"sm{sm}",))
        try:
            result = build_engine(
                path, folder / "model.plan", profiles=[profile], library=library, options=options
            )
        except EngineBuildFailed as error:
            where = "parse" if "parser" in error.expected else "build"
            return f"refused at {where}: {error.found.split('; ')[0][:160]}"
        return Built.of(result)

    return attempt


if __name__ == "__main__":
    main()
