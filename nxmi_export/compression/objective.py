"""What training minimizes: the task's loss and the distance to the dense model, per example.

Every term is a value per example that depends on that example alone, so the mean over a batch is
the same however the batch is split into processes and micro-batches, and however it is padded.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nxmi_export.compression.attention import SOFTMAX_SCALE
from nxmi_export.errors import InternalError, UnsupportedModel
from nxmi_export.recipe import DistillationSettings

__all__ = ["Objective"]

# Added to attention probabilities: half a step of the quantized softmax, whose zeros stand for
# anything up to it. Their divergence stays finite, and its gradient in proportion.
_HALF_STEP = SOFTMAX_SCALE / 2
_SMALLEST_VARIANCE = 1e-6  # of a teacher whose hidden states are all equal


class Objective:
    """The terms of `settings`, with `teacher` (put into eval mode and frozen) for distillation.

    The teacher belongs on the student's device and stays outside of any distributed wrapper. It
    runs in the autocast context of the caller; the terms themselves are computed in float32.

    Raises InternalError where the settings need a teacher and there is none.
    """

    def __init__(
        self, settings: DistillationSettings, teacher: PreTrainedModel | None, is_regression: bool
    ) -> None:
        if settings.needs_teacher and teacher is None:
            raise InternalError(
                "distillation",
                expected="the dense model as a teacher",
                found="none",
                remedy="please report it with the recipe",
            )
        self._settings = settings
        self._is_regression = is_regression
        self._teacher = teacher if settings.needs_teacher else None
        if self._teacher is not None:
            self._teacher.eval().requires_grad_(False)
            if settings.attention:
                # the other implementations do not tell their probabilities
                self._teacher.set_attn_implementation("eager")

    @property
    def reaches_logits(self) -> bool:
        """Whether every parameter that makes the logits has a part in what is minimized."""
        return self._settings.labels > 0 or self._settings.logits > 0

    def forward_options(self) -> dict[str, bool]:
        """What to ask of the student's forward pass, as keyword arguments."""
        options = {
            "output_hidden_states": self._settings.hidden > 0,
            "output_attentions": self._settings.attention > 0,
        }
        return {name: True for name, wanted in options.items() if wanted}

    def terms(self, student: Any, feeds: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """The unweighted terms that have a weight, float32 of shape (batch,) each.

        `student` is the output of its forward pass on `feeds`, whose labels are `labels`.
        """
        settings = self._settings
        terms: dict[str, Tensor] = {}
        if settings.labels:
            terms["labels"] = self._label_loss(student.logits.float(), labels)
        if self._teacher is None:
            return terms
        with torch.no_grad():
            teacher = self._teacher(**feeds, **self.forward_options())
        real = feeds["attention_mask"].bool()
        if settings.logits:
            terms["logits"] = self._logit_loss(student.logits.float(), teacher.logits.float())
        if settings.hidden:
            # the first one is the output of the embeddings
            pairs = zip(student.hidden_states[1:], teacher.hidden_states[1:], strict=True)
            terms["hidden"] = _mean([_hidden_loss(s.float(), t.float(), real) for s, t in pairs])
        if settings.attention:
            pairs = zip(_told(student.attentions), _told(teacher.attentions), strict=True)
            terms["attention"] = _mean(
                [_attention_loss(s.float(), t.float(), real) for s, t in pairs]
            )
        return terms

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """What is minimized: the weighted sum of `terms`, shape (batch,)."""
        weighted = [getattr(self._settings, name) * term for name, term in terms.items()]
        return torch.stack(weighted).sum(0)

    def _label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self._is_regression:
            return (logits.squeeze(-1) - labels).square()
        return nn.functional.cross_entropy(logits, labels, reduction="none")

    def _logit_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self._is_regression:
            return (student - teacher).square().squeeze(-1)
        temperature = self._settings.temperature
        divergence = _divergence(
            (student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1)
        )
        # Hinton et al., 2015: gradients of equal size at every temperature
        return divergence * temperature**2


def _hidden_loss(student: Tensor, teacher: Tensor, real: Tensor) -> Tensor:
    """Mean squared error of (batch, tokens, hidden) over real tokens, over the teacher's variance.

    The variance, too, is that of the example's own real tokens.
    """
    weights = real / real.sum(1, keepdim=True).clamp_min(1)

    def mean(values: Tensor) -> Tensor:
        return (values.mean(-1) * weights).sum(1)

    centred = teacher - mean(teacher)[:, None, None]
    variance = mean(centred.square()).clamp_min(_SMALLEST_VARIANCE)
    return mean((student - teacher).square()) / variance


def _attention_loss(student: Tensor, teacher: Tensor, real: Tensor) -> Tensor:
    """Divergence of (batch, heads, queries, keys), mean over heads and real queries."""
    keys = real[:, None, None, :]
    rows = _divergence(_log_smoothed(student, keys), _log_smoothed(teacher, keys)).mean(1)
    return (rows * real).sum(1) / real.sum(1).clamp_min(1)


def _log_smoothed(probabilities: Tensor, keys: Tensor) -> Tensor:
    """Logarithms over the real keys, summing to one as probabilities; zero elsewhere."""
    raised = (probabilities + _HALF_STEP) * keys
    raised = raised / raised.sum(-1, keepdim=True).clamp_min(_HALF_STEP)
    return raised.masked_fill(~keys, 1).log()


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher ‖ student) of logarithms of probabilities, over the last axis."""
    return (teacher.exp() * (teacher - student)).sum(-1)


def _mean(losses: list[Tensor]) -> Tensor:
    return torch.stack(losses).mean(0)


def _told(attentions: Any) -> Any:
    if not attentions or any(layer is None for layer in attentions):
        raise UnsupportedModel(
            "distillation of attention",
            expected="the attention probabilities of every block",
            found="none",
            remedy="write attention: 0 under distillation in the recipe",
        )
    return attentions
