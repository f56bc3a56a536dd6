"""Length of the input: what tables and kernels allow."""

from collections.abc import Iterator

from passes.lint.finding import Place, Severity, rule
from passes.lint.reading import Reading
from passes.lint.walk import quantize_behind

__all__ = ["attention_length", "position_limit"]

_LONGEST_INT8_ATTENTION = 512


@rule("position-limit", Severity.ALTER, remedy="build for no more tokens than positions")
def position_limit(reading: Reading) -> Iterator[Place]:
    """A profile beyond the table of positions builds, with a warning at most, and reads what lies
    behind the table.
    """
    longest = _longest(reading)
    for node, positions in reading.positions():
        if longest is not None and longest > positions:
            yield node, f"{longest} tokens and {positions} positions"


@rule("attention-length", Severity.DEGRADE, remedy="build for 512 tokens at most")
def attention_length(reading: Reading) -> Iterator[Place]:
    """The fused INT8 attention kernels end at 512 tokens; longer, attention runs in pieces."""
    longest = _longest(reading)
    for attention in reading.attentions:
        quantized = all(map(quantize_behind, attention.operands.values()))
        if quantized and longest is not None and longest > _LONGEST_INT8_ATTENTION:
            yield attention.softmax, f"INT8 attention over {longest} tokens"


def _longest(reading: Reading) -> int | None:
    """Tokens of the longest input: as asked, or fixed in the graph."""
    if reading.sequence is not None:
        return reading.sequence
    shapes = (value.shape for value in reading.model.graph.inputs)
    fixed = [shape[1] for shape in shapes if shape is not None and len(shape) == 2]
    return max((size for size in fixed if isinstance(size, int)), default=None)
