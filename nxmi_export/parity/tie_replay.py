"""ONNX codes in, PyTorch forced to continue from them: each quantizer judged on equal inputs.

Comparing two free runs says little behind the first code that differs: one tie moves everything
after it, and hides a real fault as well as it would cause a false one. So every quantizer of the
PyTorch model is made to give what the ONNX graph gave. The next one then starts from the same
integers on both sides, whatever differs there arose between the two, and what is left at the end
is the difference of the logits themselves.

The ONNX graph may have run the examples with more padding: padding is cut off, and what is left of
it is not judged.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nxmi_export.backends import Outputs
from nxmi_export.compression.quantizers import ActivationQuantizer
from nxmi_export.parity.drift.point import Kind, Point, real_values
from nxmi_export.parity.graph_quantizers import GraphQuantizer
from nxmi_export.parity.judge import CodeDifference, Judgement, Side, judge, judge_codes
from nxmi_export.parity.replay import Values

__all__ = ["Findings", "TieReplay"]


@dataclass
class Findings:
    """What the replay found in one example, quantizer by quantizer."""

    judged: set[tuple[str, int]] = field(default_factory=set)  # module, and which of its values
    differing: int = 0  # codes
    first: CodeDifference | None = None  # in order of execution
    largest_gap: float = 0.0  # steps of a scale
    objection: str | None = None  # the first

    def add(self, module: str, index: int, judgement: Judgement) -> None:
        """Take in a quantizer's next value; a shared one is called by each of its readers."""
        if (module, index) in self.judged:
            return
        self.judged.add((module, index))
        self.differing += judgement.differing
        self.first = self.first or judgement.first
        self.largest_gap = float(np.fmax(self.largest_gap, judgement.largest_gap))
        self.objection = self.objection or judgement.objection

    def add_objection(self, objection: str) -> None:
        """Note why rounding ties do not explain the example, unless something came before."""
        self.objection = self.objection or objection


class TieReplay:
    """The visitor of one PyTorch run over the examples that `outputs` holds the ONNX values of.

    `outputs` has the codes of every quantizer, (examples, …), and of graphs that can show them the
    float values too. `mask` is the attention mask of the PyTorch run, (examples, sequence).
    """

    def __init__(
        self,
        quantizers: Mapping[str, tuple[GraphQuantizer, ...]],
        outputs: Outputs,
        mask: NDArray[np.int64],
        widest: int,
    ) -> None:
        self._quantizers = quantizers
        self._outputs = outputs
        self._mask = mask
        self._widest = widest
        self._read = Values()
        self.findings = [Findings() for _ in outputs["logits"]]

    def visit(self, module: str, quantizer: ActivationQuantizer, x: Tensor) -> Tensor | None:
        """Judge one quantizer in every example, and let the ONNX value flow on."""
        graphs, index = self._quantizers[module], self._read.index_of(module, x)
        if index >= len(graphs):
            objection = f"{module} quantizes more values than the {len(graphs)} of the graph"
            for findings in self.findings:
                findings.add_objection(objection)
            return None
        graph = graphs[index]
        codes = _cut(self._outputs[graph.codes], x).astype(np.int16) - np.int16(graph.zero_point)
        ratios = (x / quantizer.scale).float().cpu().numpy()
        reference = Side(ratios, quantizer.codes(x).cpu().numpy())
        values = self._outputs.get(graph.value)
        found = None
        if values is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                found = np.asarray(_cut(values, x) / graph.step, dtype=np.float32)
        if codes.shape == ratios.shape:
            real = real_values(Point(module, Kind.QUANTIZER), codes.shape, self._mask)
            self._judge(module, index, reference, codes, found, real)
        else:
            shapes = f"{ratios.shape[1:]} and {codes.shape[1:]}"
            for findings in self.findings:
                findings.add_objection(f"{module}: the values have the shapes {shapes}")
            return None
        forced = codes.astype(np.float32) * graph.step
        return torch.from_numpy(forced).to(device=x.device, dtype=x.dtype)

    def _judge(
        self,
        module: str,
        index: int,
        reference: Side,
        codes: NDArray[np.int16],
        ratios: NDArray[np.float32] | None,
        real: NDArray[np.bool_],
    ) -> None:
        """Row by row; what padding holds is nobody's business, so there all are 0."""
        for row, findings in enumerate(self.findings):
            where = real[row]
            own = np.where(where, codes[row], 0)
            before = Side(
                np.where(where, reference.ratios[row], 0), np.where(where, reference.codes[row], 0)
            )
            if ratios is None:
                judgement = judge_codes(module, before, own, self._widest)
            else:
                after = Side(np.where(where, ratios[row], 0), own)
                judgement = judge(module, before, after, self._widest)
            findings.add(module, index, judgement)


def _cut(found: NDArray[Any], x: Tensor) -> NDArray[Any]:
    """`found` without the padding on the right that the PyTorch run does not have."""
    if found.ndim != x.ndim:
        return found
    return found[tuple(slice(size) for size in x.shape)]
