"""A task model in, the blocks of its encoder out; refuses by name what quantizers cannot reach."""

from collections.abc import Callable, Iterator

from transformers import PreTrainedModel

from nxmi_export.compression.architectures import albert, bert, distilbert, mobilebert, modernbert
from nxmi_export.compression.encoder_block import EncoderBlock
from nxmi_export.errors import UnsupportedModel

__all__ = ["SUPPORTED", "layout_of"]

_LAYOUTS: dict[str, Callable[[PreTrainedModel], Iterator[EncoderBlock]]] = {
    "albert": albert,
    "bert": bert,
    "camembert": bert,
    "distilbert": distilbert,
    "electra": bert,
    "mobilebert": mobilebert,
    "modernbert": modernbert,
    "roberta": bert,
    "xlm-roberta": bert,
}
SUPPORTED = tuple(_LAYOUTS)

# Encoders that one could take for supported, and why their attention cannot be reached.
_REFUSED = {
    "convbert": "ConvBERT, which mixes its attention with convolutions made at run time",
    "deberta": "DeBERTa, which adds position scores inside an attention of its own",
    "deberta-v2": "DeBERTa-v2, which adds position scores inside an attention of its own",
    "mpnet": "MPNet, which adds a position bias inside an attention of its own",
}


def layout_of(model: PreTrainedModel) -> Iterator[EncoderBlock]:
    """The encoder blocks of `model`, in order of execution, each once.

    Raises UnsupportedModel for other architectures.
    """
    model_type = model.config.model_type
    layout = _LAYOUTS.get(model_type)
    if layout is None:
        names = ", ".join(SUPPORTED)
        raise UnsupportedModel(
            model_type,
            expected=f"an encoder built on transformers' attention functions ({names})",
            found=_REFUSED.get(model_type, f"a model of type {model_type!r}"),
            remedy="export it without a recipe, or start from one of these",
        )
    return layout(model)
