"""An artefact and its checkpoint in, every rung of every task's ladder ready to run out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from nxmi_export.artefact import CPU_MODEL, FP16_MODEL, INT4_MODEL, MODEL, Artefact
from nxmi_export.backends import Runner
from nxmi_export.backends.names import Backend
from nxmi_export.backends.onnxruntime_session import OnnxRuntimeRunner
from nxmi_export.backends.openvino_library import products
from nxmi_export.backends.torch_eager import TorchRunner
from nxmi_export.compression import restore
from nxmi_export.encoding import CachedEncoder, EncodedDataset, check_ids
from nxmi_export.glue import Task, load_dataset
from nxmi_export.parity import Observed, RungResult, Sizes, SpecialTokens, Stage, probe_inputs
from nxmi_export.workflow.parity.dense_source import DenseSource
from nxmi_export.workflow.parity.openvino_rung import openvino_runner
from nxmi_export.workflow.parity.request import ParityRequest
from nxmi_export.workflow.parity.served_tokens import check_served_tokens
from nxmi_export.workflow.parity.source import exported_checkpoint
from nxmi_export.workflow.parity.what_travels import check_recipe
from nxmi_export.workflow.task_head import InTaskOrder, label_order

__all__ = ["NAMES", "OF_THE_FIRST", "GraphFile", "Ladder", "spread"]

NAMES = {
    Stage.DENSE: "PyTorch, dense",
    Stage.COMPRESSED: "PyTorch, compressed",
    Stage.CAPTURED: "captured graph, unoptimized",
    Stage.WRITTEN: f"{MODEL}, unoptimized",
    Stage.SHIFTED: f"{CPU_MODEL}, unoptimized",
    Stage.OPTIMIZED: f"{CPU_MODEL}, optimized",
    Stage.FLOAT16: f"{FP16_MODEL}, unoptimized",
    Stage.INT4: f"{INT4_MODEL}, unoptimized",
    Stage.OPENVINO: "OpenVINO",
    Stage.ENGINE: "TensorRT engine",
}

# What the first examples decide: bits that must be equal, and float16, which a CPU runs slowly.
OF_THE_FIRST = (Stage.SHIFTED, Stage.FLOAT16, Stage.INT4)

LabelOrders = Mapping[Stage, tuple[int, ...]]  # for each label the model's output index


@dataclass(frozen=True)
class GraphFile:
    """An ONNX file, and how onnxruntime runs it."""

    path: Path
    optimized: bool
    entries: Mapping[str, str] = field(default_factory=dict)  # of an optimized session


@dataclass(frozen=True)
class Ladder:
    """Everything that does not depend on the dev split."""

    artefact: Artefact
    request: ParityRequest
    model: nn.Module
    source: DenseSource | None  # of `dense`
    dense: nn.Module | None
    encoder: CachedEncoder
    orders: Mapping[str, LabelOrders]  # by task
    files: Mapping[Stage, GraphFile]  # of the rungs that onnxruntime runs

    @classmethod
    def open(cls, artefact: Artefact, request: ParityRequest) -> "Ladder":
        """Load the models; raises UsageError for a head that one of the tasks does not fit.

        OutputError for a cache that cannot be made, and CapabilityMissing for a backend that is
        absent.
        """
        if Backend.OPENVINO in request.backends:
            products()
        checkpoint = exported_checkpoint(artefact, request.checkpoint)
        check_recipe(artefact, checkpoint)
        source = None if request.dense is None else DenseSource.read(request.dense)
        heads = dict.fromkeys(Stage, (str(artefact.directory), artefact.manifest.labels))
        if source is not None:
            heads[Stage.DENSE] = (source.path, source.facts.labels)
        return cls(
            artefact,
            request,
            model=restore(checkpoint),
            source=source,
            dense=None if source is None else source.model(),
            encoder=CachedEncoder.open(
                checkpoint.tokenizer,
                source=artefact.source(),
                model_type=artefact.manifest.model_type,
                input_names=artefact.manifest.input_names,
                max_length=min(request.max_length, artefact.manifest.position_limit),
                folder=request.cache,
            ),
            orders={task.name: _label_orders(heads, task) for task in request.tasks},
            files=_graph_files(artefact),
        )

    @property
    def stages(self) -> list[Stage]:
        """The rungs to run, in order."""
        absent = dict.fromkeys(OF_THE_FIRST, self.request.shift_examples == 0)
        absent[Stage.DENSE] = self.dense is None
        absent[Stage.OPENVINO] = Backend.OPENVINO not in self.request.backends
        for stage in (Stage.CAPTURED, Stage.FLOAT16, Stage.INT4):
            absent[stage] = absent.get(stage, False) or stage not in self.files
        return [stage for stage in Stage if not absent.get(stage, False)]

    @property
    def observable(self) -> list[Stage]:
        """The rungs that run all examples and show what their quantizers make, in order."""
        apart = set(OF_THE_FIRST)
        return [stage for stage in self.stages if stage in self.files and stage not in apart]

    def observed(self, stage: Stage, rungs: Mapping[Stage, RungResult]) -> Observed:
        """One of them beside compressed PyTorch, for replays."""
        task = rungs[stage].dataset.task
        return Observed(
            self.model,
            self.files[stage].path,
            rungs[Stage.COMPRESSED],
            rungs[stage],
            threads=self.threads,
            label_order=self.orders[task.name][stage],
            optimized=self.files[stage].optimized,
            entries=self.files[stage].entries,
        )

    def dev_splits(self) -> list[EncodedDataset]:
        """Every dev split of every task; MNLI has two.

        Raises ArtefactError where a server would split their texts otherwise, CheckpointError
        where the tokenizer does not fit the model, UsageError where that of `dense` is another.
        """
        # All files are read first: that one is missing should be known before the work.
        datasets = [
            load_dataset(task, split, self.request.data_dir)
            for task in self.request.tasks
            for split in task.dev_splits
        ]
        limit = self.request.limit
        if limit is not None:
            datasets = [dataset.head(limit) for dataset in datasets]
        splits = [self.encoder.encode(dataset) for dataset in datasets]
        assert isinstance(self.model, PreTrainedModel)
        for split in splits:
            check_ids(split, self.model.config.to_dict(), source=self.artefact.source())
            check_served_tokens(self.artefact, split, self.encoder.max_length)
            if self.source is not None:
                self.source.check(split, self.encoder)
        return splits

    @property
    def sizes(self) -> Sizes:
        """What the model can read, as its own configuration says and not the artefact."""
        assert isinstance(self.model, PreTrainedModel)
        config, names = self.model.config, self.artefact.manifest.input_names
        types = int(config.type_vocab_size) if "token_type_ids" in names else 0
        limit = self.artefact.manifest.position_limit  # `check_what_travels` has compared it
        return Sizes(limit, int(config.vocab_size), types)

    def probes(self) -> EncodedDataset | None:
        """Inputs that reach what dev sets do not; None where none were asked for."""
        if self.request.probe_tokens == 0:
            return None
        assert isinstance(self.model, PreTrainedModel)
        tokenizer = self.encoder.tokenizer
        padding = {tokenizer.pad_token_id, self.model.config.pad_token_id} - {None}
        special = SpecialTokens(tokenizer.cls_token_id, tokenizer.sep_token_id, padding or {0})
        names = self.artefact.manifest.input_names
        longest = self.request.probe_tokens
        return probe_inputs(self.request.task, names, self.sizes, special, longest=longest)

    @property
    def threads(self) -> int:
        """Of every rung: as many as PyTorch has, whom a launcher tells what its share is."""
        return torch.get_num_threads()

    def backend(self, stage: Stage) -> Runner:
        """What executes this rung, its logits in the model's own order; not the engine."""
        if file := self.files.get(stage):
            return OnnxRuntimeRunner(
                file.path, optimize=file.optimized, threads=self.threads, entries=file.entries
            )
        if stage is Stage.OPENVINO:
            return openvino_runner(self.artefact, self.threads)
        model = self.dense if stage is Stage.DENSE else self.model
        assert model is not None  # `stages` has the dense rung only where there is one
        return TorchRunner(model, self.artefact.manifest.input_names)

    def for_task(self, task: Task, stage: Stage, backend: Runner) -> Runner:
        """The rung under its own name, its logits in the task's order."""
        name = backend.name if stage is Stage.OPENVINO else NAMES[stage]
        return InTaskOrder(backend, self.orders[task.name][stage], name)


def spread(total: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """At most `count` indices, evenly spread over `total`."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(np.int64))


def _graph_files(artefact: Artefact) -> dict[Stage, GraphFile]:
    files = {
        Stage.WRITTEN: GraphFile(artefact.path(MODEL), optimized=False),
        Stage.SHIFTED: GraphFile(artefact.path(CPU_MODEL), optimized=False),
        Stage.OPTIMIZED: GraphFile(
            artefact.path(CPU_MODEL), optimized=True, entries=artefact.manifest.session_options
        ),
    }
    if FP16_MODEL in artefact.manifest.files:
        files[Stage.FLOAT16] = GraphFile(artefact.path(FP16_MODEL), optimized=False)
    if INT4_MODEL in artefact.manifest.files:
        files[Stage.INT4] = GraphFile(artefact.path(INT4_MODEL), optimized=False)
    return files


def _label_orders(heads: Mapping[Stage, tuple[str, tuple[str, ...]]], task: Task) -> LabelOrders:
    return {stage: label_order(model, labels, task) for stage, (model, labels) in heads.items()}
