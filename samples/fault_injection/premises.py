"""An artefact before a change in, what the proof that nothing changes takes for granted out."""

import math

import numpy as np

from nxmi_export.artefact import MODEL
from nxmi_export.encoding import EncodedDataset
from passes.constants import constant_array
from samples.fault_injection.fault import Premise
from samples.fault_injection.observe import dev_set, values_of_file, vocabulary
from samples.fault_injection.places import WORDS, node_of, pair_of
from samples.fault_injection.site import Site

__all__ = [
    "codes_survive",
    "integer_codes",
    "scores_leave_room",
    "token_is_none",
    "variance_hides_epsilon",
]

_GONE = 104.0  # exp(-104) is 0 in float32, whose smallest number is 2⁻¹⁴⁹, about exp(-103.3)


def scores_leave_room(site: Site, lowest: float) -> tuple[Premise, ...]:
    """That `lowest` added to any score is further below its row's maximum than exp can tell.

    Over every block's scores, (batch, heads, queries, keys), and every example's own padding.
    """
    graph = site.read().graph
    sums = [node.inputs[0] for node in graph if node.op_type == "Softmax"]
    scores = [
        value
        for each in sums
        for value in each.producer().inputs  # type: ignore[union-attr]
        if getattr(value.producer(), "op_type", "") == "Mul"
    ]
    gap, real = np.inf, np.inf
    names = [str(value.name) for value in scores]
    for batch, outputs in values_of_file(site.directory / MODEL, _data(site), names):
        mask = batch.feeds["attention_mask"].astype(bool)[:, np.newaxis, np.newaxis, :]
        real = min(real, float(mask.sum(-1).min()))
        for name in names:
            seen = np.where(mask, outputs[name], -np.inf).max(-1)
            hidden = np.where(mask, -np.inf, outputs[name]).max(-1)
            gap = min(gap, float((seen - (hidden + lowest)).min()))
    return (
        Premise(
            f"of {len(sums)} blocks, those whose scores were read",
            len(names),
            len(names) == len(sums) > 0,
        ),
        Premise(
            f"least distance of a hidden score to its maximum, above {_GONE:g}",
            gap,
            _GONE < gap < math.inf,
        ),
        Premise("fewest real keys of a row, at least 1", real, real >= 1),
    )


def variance_hides_epsilon(site: Site, norm: str, epsilon: float) -> tuple[Premise, ...]:
    """That `epsilon` is less than half an ulp of every variance, padding's included.

    Before the change and after it, variance + epsilon is then the variance.
    """
    value = node_of(site.read(), norm, "LayerNormalization").inputs[0]
    assert value is not None
    name, least = str(value.name), np.inf
    for _, outputs in values_of_file(site.directory / MODEL, _data(site), [name]):
        least = min(least, float(outputs[name].astype(np.float64).var(-1).min()))
    half = float(np.spacing(np.float32(least))) / 2
    return (
        Premise("smallest variance that the norm divides by", least, math.isfinite(least)),
        Premise(f"half an ulp of it, above {epsilon:g}", half, half > epsilon),
    )


def codes_survive(site: Site, quantizer: str) -> tuple[Premise, ...]:
    """That every code of the quantizer's own scale is quantized to itself again."""
    quantize, _ = pair_of(site.read(), quantizer)
    scale, point = (constant_array(value) for value in quantize.inputs[1:3])
    assert scale is not None
    assert point is not None
    limits = np.iinfo(point.dtype)
    codes = np.arange(limits.min, limits.max + 1, dtype=np.int32)
    values = ((codes - point) * scale).astype(np.float32)
    again = np.rint(values / scale.astype(np.float32)).astype(np.int32) + point
    lost = int(np.count_nonzero(again.clip(limits.min, limits.max) != codes))
    return (Premise(f"of {len(codes)} codes, those that become others", lost, lost == 0),)


def integer_codes(site: Site, quantizer: str) -> tuple[Premise, ...]:
    """That the zero-point, whose type the codes have, is of 8 bits and an integer."""
    quantize, _ = pair_of(site.read(), quantizer)
    point = constant_array(quantize.inputs[2])
    assert point is not None
    integer = point.dtype in (np.int8, np.uint8)
    return (Premise(f"bits of a code, of type {point.dtype}", 8 * point.itemsize, integer),)


def token_is_none(site: Site) -> tuple[Premise, ...]:
    """That no text can be encoded with the last row of the vocabulary's table."""
    table = constant_array(node_of(site.read(), WORDS, "Gather").inputs[0])
    assert table is not None
    highest = max(vocabulary(site.directory))
    return (
        Premise(
            f"highest id of the tokenizer, below {len(table) - 1}",
            highest,
            highest < len(table) - 1,
        ),
    )


def _data(site: Site) -> EncodedDataset:
    return dev_set(site.directory, site.projects)
