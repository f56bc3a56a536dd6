"""A global batch in, its gradients and losses out, over micro-batches and processes."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedModel

from nxmi_export.compression.layers import weights_made_once
from nxmi_export.compression.objective import Objective
from nxmi_export.compression.training.batches import Indices, MicroBatch, Share, micro_batches
from nxmi_export.compression.training.compiled import compiled, running_compiled
from nxmi_export.compression.training.divergence import first_not_finite
from nxmi_export.compression.training.options import RunOptions
from nxmi_export.compression.training.processes import told_by_all
from nxmi_export.compression.training.randomness import draws_apart
from nxmi_export.encoding import EncodedDataset

__all__ = ["Gradients"]


class _Student(nn.Module):
    """The model with its objective, as one forward pass that DDP can wrap.

    The objective is no module, so the teacher inside it stays outside of DDP; and the model's own
    `forward` stays as it is, for those who measure the model between steps.
    """

    def __init__(self, model: PreTrainedModel, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, feeds: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """The unweighted terms, (batch,) each, and "loss", their weighted sum."""
        with weights_made_once():
            output = self.model(**feeds, **self.objective.forward_options())
        terms = self.objective.terms(output, feeds, labels)
        return {"loss": self.objective.total(terms), **terms}


class Gradients:
    """Accumulates the gradients of the mean loss over global batches in every `.grad`."""

    def __init__(
        self,
        model: PreTrainedModel,
        objective: Objective,
        data: EncodedDataset,
        accelerator: Accelerator,
        share: Share,
        options: RunOptions,
    ) -> None:
        self._model = model
        self._plain = _Student(model, objective)
        self._data = data
        self._accelerator = accelerator
        self._share = share
        self._autocast_type = options.autocast_type
        self._compiled = options.compiled
        self._prepared = not options.compiled
        self.wrap()

    def wrap(self) -> None:
        """Look again at which parameters there are; equal in every process afterwards."""
        if self._share.processes > 1:
            # It keeps a reference to the wrapper before. One process has none, and a collection
            # looks through every object of the libraries, which takes longer than a short run.
            self._accelerator.free_memory()
            if self._accelerator.ddp_handler is not None:
                # Hidden states alone, for one, reach neither the pooler nor the classifier, and
                # MobileBERT may have bottlenecks that it does not use.
                unused = not self._plain.objective.reaches_logits or getattr(
                    self._model.config, "use_bottleneck_attention", False
                )
                self._accelerator.ddp_handler.find_unused_parameters = unused
        student = compiled(self._plain) if self._compiled else self._plain
        self._student = self._accelerator.prepare_model(student)

    def of(self, batch: Indices, scaler: torch.amp.GradScaler) -> dict[str, Tensor]:
        """Backward over `batch`; returns this process's part of the means, shape () each.

        "loss" is what was minimized, the others its unweighted terms. Summed over processes they
        are the means over the global batch, and so are the gradients, which are summed already.
        """
        parts = list(micro_batches(self._data, batch, self._share))
        if not self._prepared:
            self._prepare(parts[0])
        means: dict[str, Tensor] = {}
        for number, part in enumerate(parts, start=1):
            # Only the last backward waits for the other processes.
            last = number == len(parts)
            with nullcontext() if last else self._accelerator.no_sync(self._student):
                for name, mean in self._backward(part, scaler).items():
                    means[name] = means[name] + mean if name in means else mean
        return means

    def where_not_finite(self, batch: Indices) -> str | None:
        """Where the numbers of `batch`, which is run once more, or else the gradients end.

        As `first_not_finite`, of the first process that finds a place; told in all of them alike.
        """

        def forward() -> None:
            for part in micro_batches(self._data, batch, self._share):
                self._forward(self._plain, part)

        places = told_by_all(self._accelerator, first_not_finite(self._model, forward))
        return next((place for place in places if place), None)

    def _prepare(self, part: MicroBatch) -> None:
        """One forward pass of what is to be compiled, as it is.

        transformers puts hooks on the blocks when hidden states are first asked for, and no graph
        holds that: the step would stay cut there.
        """
        with torch.no_grad(), draws_apart(self._accelerator.device):
            self._forward(self._plain, part)
        self._prepared = True

    def _backward(self, part: MicroBatch, scaler: torch.amp.GradScaler) -> dict[str, Tensor]:
        with self._running():
            terms = self._forward(self._student, part)
        means = {name: term.float().sum() * part.weight for name, term in terms.items()}
        # DDP divides the sum over processes by their number.
        loss: Tensor = scaler.scale(means["loss"] * self._share.processes)
        with self._running():
            torch.autograd.backward(loss)
        return {name: mean.detach() for name, mean in means.items()}

    def _running(self) -> AbstractContextManager[None]:
        return running_compiled() if self._compiled else nullcontext()

    def _forward(self, student: nn.Module, part: MicroBatch) -> dict[str, Tensor]:
        part = part.to(self._accelerator.device)
        kind = self._autocast_type
        with torch.autocast(part.labels.device.type, kind, enabled=kind is not None):
            terms: dict[str, Tensor] = student(part.feeds, part.labels)
        return terms
