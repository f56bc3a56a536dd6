"""A compressed model in, the same model with some layers returned to float or dense out."""

from collections.abc import Collection

from accelerate import init_empty_weights
from torch import Tensor
from transformers import PreTrainedModel

from nxmi_export.compression.insert_quantizers import compressed_linears, insert_quantizers
from nxmi_export.errors import CheckpointMismatch, UsageError
from nxmi_export.parity.bisect.exclusion import exclusion_recipe
from nxmi_export.recipe import Recipe

__all__ = ["ReturningLayers"]


class ReturningLayers:
    """Builds models in which chosen layers are plain linears, as `exclusion_recipe` makes them.

    Quantizers of activations are those that such a recipe inserts, under the scales of the
    compressed model, so that a model built here can be saved with that recipe and exported.
    Without `dense`, a returned layer keeps its trained float weight, pruned as it is: its integers
    are undone. With `dense`, the model before compression, it takes that model's weight and bias.
    """

    def __init__(
        self, compressed: PreTrainedModel, recipe: Recipe, dense: PreTrainedModel | None = None
    ) -> None:
        """Raises CheckpointMismatch for a `dense` whose layers have other shapes."""
        self._compressed, self._recipe = compressed, recipe
        self.layers = tuple(compressed_linears(compressed))
        self._state: dict[str, Tensor] = compressed.state_dict()
        self._dense = {} if dense is None else self._dense_state(dense)

    def model(self, layers: Collection[str]) -> PreTrainedModel:
        """The model with `layers` returned, in evaluation mode; it shares all tensors.

        Raises UsageError for a name that is none of `self.layers`.
        """
        unknown = sorted(set(layers) - set(self.layers))
        if unknown:
            raise UsageError(
                "returning layers",
                expected="compressed layers of this model",
                found=unknown[0],
                remedy=f"layers look like {self.layers[0]!r}",
            )
        with init_empty_weights(include_buffers=False):
            model: PreTrainedModel = type(self._compressed)._from_config(
                self._compressed.config, attn_implementation="eager"
            )
        chosen = [name for name in self.layers if name in layers]
        insert_quantizers(model, exclusion_recipe(self._recipe, chosen))
        state = {name: self._state[name] for name in model.state_dict()}
        for layer in chosen:
            state |= {
                name: self._dense[name]
                for name in (f"{layer}.weight", f"{layer}.bias")
                if name in self._dense
            }
        model.load_state_dict(state, assign=True)
        model.eval()
        return model

    def _dense_state(self, dense: PreTrainedModel) -> dict[str, Tensor]:
        state: dict[str, Tensor] = dense.state_dict()
        for layer in self.layers:
            for name in (f"{layer}.weight", f"{layer}.bias"):
                if name not in self._state:
                    continue
                shape, found = self._state[name].shape, state.get(name)
                if found is None or found.shape != shape:
                    raise CheckpointMismatch(
                        f"the dense model's {name}",
                        expected=f"the shape {tuple(shape)} of the compressed model's",
                        found="nothing" if found is None else f"{tuple(found.shape)}",
                        remedy="pass the model that was compressed",
                    )
        return state
