r"""How far float32 sums of PyTorch and onnxruntime lie apart, next to what parity allows them.

    python -m samples.rounding_noise ARTEFACT --task mrpc --data GLUE_DIR

Both sides begin every quantizer from equal codes, as parity's replay does. Gaps are in units of
√K·u and the magnitude near each value, where parity allows a single one 8 and the root mean square
over a tensor ½ (`nxmi_export/parity/noise.py` says why). Gaps close to those would make honest
exports fail, and allowances far above all gaps would let faults pass.
"""

import argparse
import json
import math
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, from_numpy, nn

from nxmi_export.artefact import MODEL, Artefact, read_artefact
from nxmi_export.backends import Outputs
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.checkpoint import read_checkpoint
from nxmi_export.compression import restore
from nxmi_export.compression.quantizers import ActivationQuantizer
from nxmi_export.encoding import EncodedDataset, encode, load_tokenizer
from nxmi_export.glue import load_dataset, task_named
from nxmi_export.output_files import atomic_file
from nxmi_export.parity.drift.point import Kind, Point, real_values
from nxmi_export.parity.graph_quantizers import GraphQuantizer, open_graph, pair_quantizers
from nxmi_export.parity.noise import (
    SAFETY,
    UNIT_ROUNDOFF,
    expected_ties,
    local_magnitudes,
    typical_noise,
    widest_sum,
)
from nxmi_export.parity.replay import Values, logits_with_visits

__all__ = ["Noise", "main", "measure"]

_BATCH_TOKENS = 2048
_MAX_LENGTH = 128  # tokens


@dataclass
class Noise:
    """The gaps of one quantizer over all examples, in units of √K·u and the magnitude near them."""

    values: int = 0
    steps: float = 0.0  # the largest value, in steps of the scale
    largest: float = 0.0
    average: float = 0.0  # the largest root mean square over one example
    tipped: int = 0  # codes that differ
    expected: float = 0.0  # that would tip if noise were as large as `typical_noise`


def main() -> None:
    """Print the table and write it as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("artefact", type=Path)
    parser.add_argument("--task", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=32)
    parser.add_argument("--json", type=Path, help="where to write the figures, too")
    arguments = parser.parse_args()
    artefact, task = read_artefact(arguments.artefact), task_named(arguments.task)
    dataset = load_dataset(task, task.dev_splits[0], arguments.data).head(arguments.examples)
    checkpoint = read_checkpoint(str(artefact.source()))
    tokenizer = load_tokenizer(checkpoint.tokenizer, source=artefact.directory)
    names = artefact.manifest.input_names
    data = encode(dataset, tokenizer, input_names=names, max_length=_MAX_LENGTH)
    model = restore(checkpoint).eval()
    found = measure(model, artefact, data)
    Console().print(_table(found, widest_sum(model)))
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        facts = {
            "placement": (artefact.manifest.recipe or {}).get("placement"),
            "examples": len(dataset),
            "widest_sum": widest_sum(model),
            "versions": {name: version(name) for name in ("torch", "onnxruntime")},
            "quantizers": {module: asdict(noise) for module, noise in found.items()},
        }
        with atomic_file(arguments.json) as temporary:
            temporary.write_text(f"{json.dumps(facts, indent=1)}\n", encoding="utf-8")


def measure(model: nn.Module, artefact: Artefact, data: EncodedDataset) -> dict[str, Noise]:
    """`Noise` by the quantizer's module, between `model` and the file as it is written."""
    path = artefact.path(MODEL)
    quantizers = pair_quantizers(model, open_graph(path).graph).require(path)
    read = [each for graphs in quantizers.values() for each in graphs]
    tensors = [name for each in read for name in (each.codes, each.value)]
    found: dict[str, Noise] = {}
    with OnnxRuntimeRunner(
        path, optimize=False, extra_outputs=tuple(dict.fromkeys(tensors))
    ) as runner:
        for rows in data.bucketed(_BATCH_TOKENS):
            feeds = data.batch(rows).feeds
            visitor = _Visitor(quantizers, runner.run(feeds), feeds["attention_mask"], found)
            visitor.widest = widest_sum(model)
            logits_with_visits(model, feeds, visitor.visit)
    return found


class _Visitor:
    widest = 1

    def __init__(
        self,
        quantizers: dict[str, tuple[GraphQuantizer, ...]],
        outputs: Outputs,
        mask: NDArray[np.int64],
        found: dict[str, Noise],
    ) -> None:
        self._quantizers, self._outputs, self._mask, self._found = quantizers, outputs, mask, found
        self._read = Values()

    def visit(self, module: str, quantizer: ActivationQuantizer, x: Tensor) -> Tensor:
        """Note the gaps of one value, and let the file's codes flow on."""
        graph = self._quantizers[module][self._read.index_of(module, x)]
        codes = self._outputs[graph.codes].astype(np.int16) - np.int16(graph.zero_point)
        own = (x / quantizer.scale).float().cpu().numpy()
        gaps = self._outputs[graph.value] / graph.step - own
        differ = quantizer.codes(x).cpu().numpy() != codes
        real = real_values(Point(module, Kind.QUANTIZER), own.shape, self._mask)
        for row, where in enumerate(real):
            self._note(module, np.where(where, own[row], 0), gaps[row], differ[row], where)
        return from_numpy(codes.astype(np.float32) * graph.step)

    def _note(
        self,
        module: str,
        own: NDArray[np.float32],
        gaps: NDArray[np.float32],
        differ: NDArray[np.bool_],
        where: NDArray[np.bool_],
    ) -> None:
        noise = self._found.setdefault(module, Noise())
        near = local_magnitudes(own)
        unit = math.sqrt(self.widest) * UNIT_ROUNDOFF * near
        relative = np.divide(gaps, unit, out=np.zeros_like(near), where=where & (unit > 0))
        noise.values += int(where.sum())
        noise.steps = max(noise.steps, float(np.abs(own).max(initial=0)))
        noise.largest = max(noise.largest, float(np.abs(relative).max(initial=0)))
        average = float(np.sqrt(np.square(relative).sum() / max(1, int(where.sum()))))
        noise.average = max(noise.average, average)
        noise.tipped += int((differ & where).sum())
        noise.expected += expected_ties(self.widest, own)


def _table(found: dict[str, Noise], widest: int) -> Table:
    allowed = typical_noise(widest) / (math.sqrt(widest) * UNIT_ROUNDOFF)
    largest = max((noise.largest for noise in found.values()), default=0.0)
    average = max((noise.average for noise in found.values()), default=0.0)
    table = Table(
        title=f"gaps in √K·u, K = {widest}",
        caption=f"largest {largest:.2f} of {SAFETY:g} allowed, average {average:.3f} of "
        f"{allowed:.2g}; expected: codes that would tip if noise were as large as is allowed",
    )
    table.add_column("quantizer", overflow="fold")
    for heading in ("values", "steps", "largest", "average", "tipped", "expected"):
        table.add_column(heading, justify="right", no_wrap=True)
    for module, noise in found.items():
        table.add_row(
            *(module, str(noise.values), f"{noise.steps:.0f}"),
            *(f"{noise.largest:.2f}", f"{noise.average:.3f}"),
            *(str(noise.tipped), f"{noise.expected:.1f}"),
        )
    return table


if __name__ == "__main__":
    main()
