"""An artefact and a task in, the whole ladder run and judged out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from nxmi_export.artefact import CPU_MODEL, MODEL, Artefact
from nxmi_export.backends import Runner
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.backends.torch_eager import TorchRunner
from nxmi_export.checkpoint import CompressedCheckpoint, checkpoint_sha256, read_checkpoint
from nxmi_export.compression import restore
from nxmi_export.encoding import EncodedDataset, encode, load_tokenizer
from nxmi_export.errors import ArtefactError
from nxmi_export.glue import Dataset, Task, load_dataset
from nxmi_export.model_facts import model_facts
from nxmi_export.parity import (
    CodeAgreement,
    Gate,
    Observed,
    ParityResult,
    RungResult,
    ShapeParity,
    Stage,
    Step,
    code_agreement,
    compare,
    explain,
    explain_unobserved,
    run_rung,
    shape_parity,
    verdict,
    weight_parity,
)
from nxmi_export.parity.document import SplitParity
from nxmi_export.parity.environment import run_environment
from nxmi_export.workflow.task_head import InTaskOrder, label_order

__all__ = ["ParityRequest", "SplitParity", "check_parity"]

OnProgress = Callable[[str, int, int], None]
_NAMES = {
    Stage.DENSE: "PyTorch, dense",
    Stage.COMPRESSED: "PyTorch, compressed",
    Stage.WRITTEN: f"{MODEL}, unoptimized",
    Stage.SHIFTED: f"{CPU_MODEL}, unoptimized",
    Stage.OPTIMIZED: f"{CPU_MODEL}, optimized",
}
_BATCH_SIZES = (8, 1, 32)  # the first is what the others are compared with
_PADDED = (64, 128, 256)  # and the position table's whole length


@dataclass(frozen=True)
class ParityRequest:
    """What to compare, over which data, and what is allowed."""

    task: Task
    data_dir: Path | None  # None: the hub
    checkpoint: str | None = None  # None: the one the manifest names
    dense: str | None = None  # the uncompressed model, for the first rung
    batch_size: int = 32
    max_length: int = 128  # tokens
    limit: int | None = None  # examples a split; None: all
    # Examples of the shifted rung, the first ones: it must equal the written one bit for bit, and
    # a wrong constant shows in any example.
    shift_examples: int = 128
    shape_examples: int = 32  # 0: shapes are not compared, which the gate must allow
    code_examples: int = 64  # 0: activation codes are not compared
    gate: Gate = field(default_factory=Gate)


def check_parity(
    artefact: Artefact, request: ParityRequest, *, on_progress: OnProgress
) -> tuple[SplitParity, ...]:
    """Run every dev split of the task; MNLI has two."""
    checkpoint = _checkpoint(artefact, request)
    ladder = _Ladder.open(artefact, checkpoint, request)
    return tuple(
        ladder.climb(load_dataset(request.task, split, request.data_dir), on_progress)
        for split in request.task.dev_splits
    )


@dataclass(frozen=True)
class _Ladder:
    """Everything that does not depend on the split."""

    artefact: Artefact
    request: ParityRequest
    model: nn.Module
    dense: nn.Module | None
    tokenizer: object
    orders: Mapping[Stage, tuple[int, ...]]

    @classmethod
    def open(
        cls, artefact: Artefact, checkpoint: CompressedCheckpoint, request: ParityRequest
    ) -> "_Ladder":
        manifest, task = artefact.manifest, request.task
        order = label_order(str(artefact.directory), manifest.labels, task)
        orders = dict.fromkeys(Stage, order)
        dense = None
        if request.dense is not None:
            source = read_checkpoint(request.dense)
            labels = model_facts(source.config).labels
            orders[Stage.DENSE] = label_order(request.dense, labels, task)
            dense = restore(source)
        tokenizer = load_tokenizer(checkpoint.tokenizer, source=artefact.source())
        return cls(artefact, request, restore(checkpoint), dense, tokenizer, orders)

    def climb(self, dataset: Dataset, on_progress: OnProgress) -> SplitParity:
        request = self.request
        data = self._encode(dataset if request.limit is None else dataset.head(request.limit))
        first = data.select(np.arange(min(request.shift_examples, len(data))))
        rungs = {
            stage: self._run(stage, first if stage is Stage.SHIFTED else data, on_progress)
            for stage in self._stages()
        }
        result = ParityResult(
            rungs=rungs,
            steps=(
                *self._steps(rungs, data, on_progress),
                *self._shift(rungs, first, on_progress),
            ),
            weights={
                name: weight_parity(self.model, self.artefact.path(name))
                for name in (MODEL, CPU_MODEL)
            },
            shapes=self._shapes(data, on_progress),
            codes=self._codes(data, on_progress),
            environment=run_environment(),
        )
        return SplitParity(result, verdict(result, request.gate))

    def _stages(self) -> list[Stage]:
        absent = {
            Stage.DENSE: self.dense is None,
            Stage.SHIFTED: self.request.shift_examples == 0,
        }
        return [stage for stage in Stage if not absent.get(stage, False)]

    def _encode(self, dataset: Dataset) -> EncodedDataset:
        manifest = self.artefact.manifest
        return encode(
            dataset,
            self.tokenizer,
            input_names=manifest.input_names,
            max_length=min(self.request.max_length, manifest.position_limit),
        )

    def _runner(self, stage: Stage) -> Runner:
        """A runner of this rung, its logits in the task's order."""
        return InTaskOrder(self._backend(stage), self.orders[stage], _NAMES[stage])

    def _backend(self, stage: Stage) -> Runner:
        if stage is Stage.WRITTEN:
            return OnnxRuntimeRunner(self.artefact.path(MODEL), optimize=False)
        if stage in (Stage.SHIFTED, Stage.OPTIMIZED):
            optimize = stage is Stage.OPTIMIZED
            return OnnxRuntimeRunner(self.artefact.path(CPU_MODEL), optimize=optimize)
        model = self.dense if stage is Stage.DENSE else self.model
        assert model is not None  # `climb` runs the dense rung only where there is one
        return TorchRunner(model, self.artefact.manifest.input_names)

    def _run(self, stage: Stage, data: EncodedDataset, on_progress: OnProgress) -> RungResult:
        with self._runner(stage) as runner:
            return run_rung(
                runner,
                data,
                batch_size=self.request.batch_size,
                on_batch=partial(on_progress, _NAMES[stage]),
            )

    def _steps(
        self, rungs: Mapping[Stage, RungResult], data: EncodedDataset, on_progress: OnProgress
    ) -> tuple[Step, ...]:
        compressed, written = rungs[Stage.COMPRESSED], rungs[Stage.WRITTEN]
        first = compare(compressed, written)
        observed = Observed(
            self.model,
            self.artefact.path(MODEL),
            compressed,
            written,
            label_order=self.orders[Stage.COMPRESSED],
        )
        explanations = explain(
            observed,
            data,
            [change.index for change in first.changes],
            on_example=partial(on_progress, "explaining changes"),
        )
        second = compare(compressed, rungs[Stage.OPTIMIZED])
        inherited = explain_unobserved(second, written, explanations)
        steps = [
            Step(Stage.COMPRESSED, Stage.WRITTEN, first, explanations),
            Step(Stage.COMPRESSED, Stage.OPTIMIZED, second, inherited),
            # What the kernels alone change; it is counted, because their codes cannot be read.
            Step(Stage.WRITTEN, Stage.OPTIMIZED, compare(written, rungs[Stage.OPTIMIZED])),
        ]
        if Stage.DENSE in rungs:
            # Compression is meant to change the model, so there is nothing to explain.
            dense = compare(rungs[Stage.DENSE], compressed)
            steps.insert(0, Step(Stage.DENSE, Stage.COMPRESSED, dense))
        return tuple(steps)

    def _shift(
        self, rungs: Mapping[Stage, RungResult], first: EncodedDataset, on_progress: OnProgress
    ) -> tuple[Step, ...]:
        if Stage.SHIFTED not in rungs:
            return ()
        written = rungs[Stage.WRITTEN]
        if len(first) < len(written.dataset):
            # Other batches are other sums: only the same ones can be equal bit for bit.
            written = self._run(Stage.WRITTEN, first, on_progress)
        comparison = compare(written, rungs[Stage.SHIFTED])
        return (Step(Stage.WRITTEN, Stage.SHIFTED, comparison),)

    def _shapes(self, data: EncodedDataset, on_progress: OnProgress) -> tuple[ShapeParity, ...]:
        sample = data.select(_spread(len(data), self.request.shape_examples))
        if not len(sample):
            return ()
        longest, limit = int(sample.lengths.max()), self.artefact.manifest.position_limit
        lengths = [each for each in (*_PADDED, limit) if longest < each <= limit]
        results = []
        for stage in (Stage.WRITTEN, Stage.OPTIMIZED):
            move = partial(on_progress, f"shapes, {_NAMES[stage]}")
            with self._runner(stage) as runner:
                shapes = shape_parity(
                    runner,
                    sample,
                    batch_sizes=_BATCH_SIZES,
                    pad_to=sorted(set(lengths)),
                    on_setting=move,
                )
            results.append(shapes)
        return tuple(results)

    def _codes(self, data: EncodedDataset, on_progress: OnProgress) -> tuple[CodeAgreement, ...]:
        indices = _spread(len(data), self.request.code_examples)
        if not len(indices) or self.artefact.manifest.recipe is None:
            return ()
        return code_agreement(
            self.model,
            self.artefact.path(MODEL),
            data,
            indices=indices,
            batch_size=self.request.batch_size,
            on_batch=partial(on_progress, "activation codes"),
        )


def _spread(total: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """At most `count` indices, evenly spread over `total`."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(np.int64))


def _checkpoint(artefact: Artefact, request: ParityRequest) -> CompressedCheckpoint:
    """The checkpoint the artefact was exported from; its hash must be the manifest's."""
    source = artefact.manifest.source
    path = Path(request.checkpoint) if request.checkpoint else artefact.source()
    if isinstance(path, Path) and path.exists():
        if source.sha256 is not None and checkpoint_sha256(path) != source.sha256:
            raise ArtefactError(
                path,
                expected=f"the checkpoint with SHA-256 {source.sha256[:12]}… that was exported",
                found="other contents",
                remedy="export it again, or pass the original with --checkpoint",
            )
    elif source.sha256 is not None:
        raise ArtefactError(
            path,
            expected="the checkpoint that the artefact was exported from",
            found="nothing at this path",
            remedy="pass its new place with --checkpoint",
        )
    base = artefact.base()
    return read_checkpoint(str(path), base=None if base is None else str(base))
