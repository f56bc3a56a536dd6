"""Examples in, per quantizer the share of codes on which PyTorch and the ONNX file agree out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nxmi_export.backends import Outputs
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.compression.quantizers import ActivationQuantizer
from nxmi_export.encoding import EncodedDataset
from nxmi_export.parity.graph_quantizers import GraphQuantizer, open_graph, pair_quantizers
from nxmi_export.parity.replay import Values, logits_with_visits

__all__ = ["CodeAgreement", "code_agreement"]


@dataclass(frozen=True)
class CodeAgreement:
    """Counts of one quantizer's codes, those of padding included."""

    module: str
    equal: int = 0
    off_by_one: int = 0
    worse: int = 0

    @property
    def total(self) -> int:
        """All codes compared."""
        return self.equal + self.off_by_one + self.worse

    @property
    def rate(self) -> float:
        """The share of equal codes; NaN where none was compared."""
        return self.equal / self.total if self.total else float("nan")


def code_agreement(
    model: nn.Module,
    onnx_path: Path,
    data: EncodedDataset,
    *,
    indices: NDArray[np.int64],
    batch_size: int,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[CodeAgreement, ...]:
    """Run the examples `indices` freely on both sides; one count per quantizer, in order.

    Codes are compared where each side arrived by itself, so that drift shows; nothing but one
    batch's codes is held. There are no counts where the two have other quantizers: then every
    replay is refused, which fails the gate. Raises ArtefactError for a file that cannot be read.
    """
    pairing = pair_quantizers(model, open_graph(onnx_path).graph)
    if pairing.complaint:
        return ()
    quantizers = pairing.require(onnx_path)
    counts = {module: CodeAgreement(module) for module in quantizers}
    tensors = tuple(quantizer.codes for each in quantizers.values() for quantizer in each)
    done = 0
    with OnnxRuntimeRunner(onnx_path, optimize=False, extra_outputs=tensors) as runner:
        for batch in data.batches(batch_size, order=indices):
            found = _Compared(quantizers, runner.run(batch.feeds))
            logits_with_visits(model, batch.feeds, found.visit)
            for (module, _), (equal, off_by_one, worse) in found.counts.items():
                before = counts[module]
                counts[module] = replace(
                    before,
                    equal=before.equal + equal,
                    off_by_one=before.off_by_one + off_by_one,
                    worse=before.worse + worse,
                )
            done += len(batch.indices)
            on_batch(done, len(indices))
    return tuple(counts.values())


class _Compared:
    """The counts of one batch, by module and value: equal, off by one, worse."""

    def __init__(
        self, quantizers: Mapping[str, tuple[GraphQuantizer, ...]], outputs: Outputs
    ) -> None:
        self._quantizers = quantizers
        self._outputs = outputs
        self._read = Values()
        self.counts: dict[tuple[str, int], tuple[int, int, int]] = {}

    def visit(self, module: str, quantizer: ActivationQuantizer, x: Tensor) -> None:
        """Compare one quantizer; one that is shared is called by each reader, with equal values."""
        graphs, index = self._quantizers[module], self._read.index_of(module, x)
        if index >= len(graphs):
            return  # a value that the graph leaves alone has no codes; its replay is refused
        codes = self._outputs[graphs[index].codes].astype(np.int16)
        found = codes - np.int16(graphs[index].zero_point)
        steps = np.abs(quantizer.codes(x).cpu().numpy().astype(np.int16) - found)
        equal, off_by_one = int(np.count_nonzero(steps == 0)), int(np.count_nonzero(steps == 1))
        self.counts[module, index] = (equal, off_by_one, steps.size - equal - off_by_one)
