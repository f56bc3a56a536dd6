"""ONNX codes in, PyTorch forced to continue from them: each quantizer judged on equal inputs.

Comparing two free runs says little behind the first code that differs: one tie moves everything
after it, and hides a real fault as well as it would cause a false one. So every quantizer of the
PyTorch model is made to give what the ONNX graph gave. The next one then starts from the same
integers on both sides, whatever differs there arose between the two, and what is left at the end
is the difference of the logits themselves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from nxmi_export.backends import Outputs
from nxmi_export.compression.quantizers import ActivationQuantizer
from nxmi_export.parity.graph_quantizers import GraphQuantizer
from nxmi_export.parity.judge import CodeDifference, Judgement, Side, judge
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
    """The visitor of one PyTorch run over the examples that `outputs` holds the ONNX values of."""

    def __init__(
        self, quantizers: Mapping[str, tuple[GraphQuantizer, ...]], outputs: Outputs, widest: int
    ) -> None:
        self._quantizers = quantizers
        self._outputs = outputs  # float values and codes, (examples, …) each
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
        values = self._outputs[graph.value]
        codes = self._outputs[graph.codes].astype(np.int16) - np.int16(graph.zero_point)
        ratios = (x / quantizer.scale).float().cpu().numpy()
        expected = quantizer.codes(x).cpu().numpy()
        with np.errstate(over="ignore", invalid="ignore"):
            found = np.asarray(values / graph.step, dtype=np.float32)
        for row, findings in enumerate(self.findings):
            reference, candidate = Side(ratios[row], expected[row]), Side(found[row], codes[row])
            findings.add(module, index, judge(module, reference, candidate, self._widest))
        forced = codes.astype(np.float32) * graph.step
        return torch.from_numpy(forced).to(device=x.device, dtype=x.dtype)
