"""The dense model and its variants in, how changes of several weights act together out.

A change ΔW of a weight moves the logits of an example by about u = J ΔW to first order, and the
changes of several weights by the sum of theirs. The divergence from the dense model is to second
order the generalized Gauss-Newton form of that sum, which for KL is the Fisher information
(Martens, "New insights and perspectives on the natural gradient method", JMLR 2020, §9.2):

    KL(p ‖ p moved by u) ≈ ½ Σ_c p_c (u_c − ū)²,  ū = Σ_c p_c u_c       squared difference: u²

That is the squared length of the vector of √(p_c / 2) · (u_c − ū), here called an effect. With g
the gradient of a logit at a linear's output and x the linear's input, u is the sum of g · (ΔW x)
over the tokens: no gradient of a weight is ever formed, and one backward pass per class but one
serves every scheme. The rounding of activations is not part of it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor, nn
from transformers import PreTrainedModel

from nxmi_export.encoding import EncodedDataset, Feeds
from nxmi_export.search.rounds import spread
from nxmi_export.search.space import SearchSpace
from nxmi_export.search.variants import DENSE, Variants

__all__ = ["Curvature", "Key", "curvature"]

Array = NDArray[np.float64]
_BATCH = 8  # examples; the inputs of all linears are kept for as many
Key = tuple[str, str]  # a linear, or a group, and its scheme as a recipe writes it


@dataclass(frozen=True)
class Curvature:
    """The effect of every option of every group, each (examples · outputs,).

    Scaled so that the squared length of a sum is the mean divergence over the examples.
    """

    effects: Mapping[Key, Array] = field(repr=False)

    def grouped(self, space: SearchSpace) -> "Curvature":
        """This one, of linears, for the groups of `space`: changes made together add up."""
        return Curvature(
            {
                (group.name, text): np.sum([self.effects[n, text] for n in group.linears], axis=0)
                for group in space.groups
                for text in group.by_text
            }
        )

    def together(self, changes: Sequence[Key]) -> float:
        """The divergence of all `changes` at once, to second order."""
        return _squared(np.sum([self.effects[key] for key in changes], axis=0))

    def interaction(self, changes: Sequence[Key]) -> float:
        """What they cost together beyond the sum of what each costs alone; may be negative."""
        return self.together(changes) - sum(_squared(self.effects[key]) for key in changes)


def curvature(
    model: PreTrainedModel, variants: Variants, data: EncodedDataset, accelerator: Accelerator
) -> Curvature:
    """Measure the effect of every scheme of every linear in `variants` on the examples of `data`.

    `model` runs as it is, with the dense weights, in evaluation mode; `dense` has no effect. The
    processes share out the examples.
    """
    model.eval()
    shape = (len(data), data.dataset.task.num_outputs)
    moves = {
        (name, str(scheme)): np.zeros(shape)
        for name in variants.linears
        for scheme in variants.schemes(name)
    }
    logits = np.zeros(shape)
    batches = list(data.batches(_BATCH))
    found = spread(batches, lambda batch: _moves(model, batch.feeds, variants), accelerator)
    for batch, (moved, rows) in zip(batches, found, strict=True):
        logits[batch.indices] = rows
        for key, move in moved.items():
            moves[key][batch.indices] = move
    moves |= {(name, str(DENSE)): np.zeros(shape) for name in variants.linears}
    probabilities = None if data.dataset.task.is_regression else softmax(logits, axis=1)
    return Curvature({key: _effect(move, probabilities) for key, move in moves.items()})


def _effect(moves: Array, probabilities: Array | None) -> Array:
    """Moves of the logits, (examples, outputs), in the metric of the divergence."""
    if probabilities is None:
        return np.asarray(moves / np.sqrt(len(moves))).reshape(-1)
    centred = moves - (probabilities * moves).sum(axis=1, keepdims=True)
    return np.asarray(np.sqrt(probabilities / (2 * len(moves))) * centred).reshape(-1)


def _squared(effect: Array) -> float:
    return float(effect @ effect)


def _moves(
    model: PreTrainedModel, feeds: Feeds, variants: Variants
) -> tuple[dict[Key, Array], Array]:
    """Of one batch, how each variant moves its logits, (batch, outputs), and the logits."""
    schemes = {name: each for name in variants.linears if (each := variants.schemes(name))}
    with _calls(model, tuple(schemes)) as calls, torch.enable_grad():
        tensors = {name: torch.from_numpy(ids).to(model.device) for name, ids in feeds.items()}
        logits = model(**tensors).logits
        # Probabilities do not change where all logits move alike, so one may be taken as fixed.
        classes = logits.shape[1] > 1
        moving = logits - logits[:, :1] if classes else logits
    taken = [(name, x, y) for name, each in calls.items() for x, y in each]
    found = {
        (name, str(each)): np.zeros(logits.shape) for name, of in schemes.items() for each in of
    }
    for column in range(int(classes), logits.shape[1]) if taken else ():  # nothing but dense
        gradients = torch.autograd.grad(
            moving[:, column].sum(), [y for _, _, y in taken], retain_graph=True
        )
        for (name, x, _), gradient in zip(taken, gradients, strict=True):
            for scheme in schemes[name]:
                # Made when it is used: those of all linears take as much as the variants do.
                change = variants.weight(name, scheme) - variants.weight(name, DENSE)
                move = (gradient * (x @ change.T)).double().flatten(1).sum(1)
                found[name, str(scheme)][:, column] += move.cpu().numpy()
    return found, logits.detach().double().cpu().numpy()


_Calls = dict[str, list[tuple[Tensor, Tensor]]]  # of each linear, input and output of each call


@contextmanager
def _calls(model: nn.Module, linears: tuple[str, ...]) -> Iterator[_Calls]:
    """Keep what goes through the linears during the block; a shared block runs repeatedly."""
    calls: _Calls = {name: [] for name in linears}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            calls[name].append((inputs[0].detach(), output))

        return hook

    handles = [model.get_submodule(n).register_forward_hook(keep(n)) for n in linears]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
