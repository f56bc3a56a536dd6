"""One engine, built in this process and nothing else: `python -m samples.engine_table.build_one`.

Its peak memory is then the builder's. It is read from VmHWM, since `ru_maxrss` of a child begins
with what its parent held when it started it.
"""

import argparse
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import onnx_ir as ir

from nxmi_export.backends.tensorrt_engine import (
    BuildResult,
    EngineOptions,
    ShapeProfile,
    Verdict,
    build_engine,
    engine_mapping,
    find_library,
    int8_coverage,
    merge_evidence,
)
from nxmi_export.backends.tensorrt_engine.graph_products import (
    product_nodes,
)
from nxmi_export.output_files import atomic_file
from nxmi_export.workflow.build import QuantizedModules

__all__ = ["facts_of", "main", "peak_megabytes"]


def main() -> None:
    """Build and write what is in the engine as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("graph", type=Path)
    parser.add_argument("facts", type=Path)
    parser.add_argument("--capability", required=True)
    parser.add_argument("--positions", type=int, required=True)
    arguments = parser.parse_args()
    library = find_library("tensorrt_rtx")
    profile = ShapeProfile.default(position_limit=arguments.positions)
    options = EngineOptions(compute_capabilities=(arguments.capability,))
    with tempfile.TemporaryDirectory() as folder:
        before = time.process_time()
        result = build_engine(
            arguments.graph,
            Path(folder) / "model.plan",
            profiles=[profile],
            library=library,
            options=options,
        )
        processor = time.process_time() - before
    peak = peak_megabytes()  # before anything else is read
    facts = {
        "library": {"name": library.name, "version": library.version},
        "shapes": str(profile),
        "seconds": round(result.seconds, 2),
        "processor_seconds": round(processor, 2),
        "peak_mb": peak,
        **facts_of(result, arguments.graph),
    }
    with atomic_file(arguments.facts) as temporary:
        temporary.write_text(json.dumps(facts), encoding="utf-8")


def facts_of(result: BuildResult, graph: Path) -> dict[str, Any]:
    """What the build log proves about the engine of `graph`, and each thing that it does not."""
    model = ir.load(graph)
    quantized = QuantizedModules.of(model)
    coverage = int8_coverage(
        result.layers,
        quantized.products,
        linears=quantized.linears,
        attentions=quantized.attentions,
    )
    products = product_nodes(model)
    mapping = engine_mapping(result.layers, products)
    groups = merge_evidence(result.layers, products.together, products)
    judged = (*coverage.linears, *coverage.attentions, *groups)
    return {
        "linears": {
            "total": len(coverage.linears),
            "int8": coverage.int8_linears,
            "int8_output": coverage.int8_output_linears,
        },
        "attentions": {"total": len(coverage.attentions), "fused_int8": coverage.int8_attentions},
        "merged_inputs": {
            "total": len(groups),
            "merged": sum(group.verdict is Verdict.PROVED for group in groups),
        },
        "mapping": {
            "products": mapping.products,
            "unmapped": [each.layer.name for each in mapping.unmapped],
            "missing": list(mapping.missing),
        },
        "exceptions": [each.reason for each in judged if each.verdict is not Verdict.PROVED],
        "kernels": len(result.layers),
        "plan": {"bytes": result.size_bytes, "sha256": result.sha256},
    }


def peak_megabytes() -> int:
    """The most memory that this process ever had resident; Linux only."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    match = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert match is not None, "Linux reports VmHWM of every process"
    return round(int(match[1]) * 1024 / 1e6)


if __name__ == "__main__":
    main()
