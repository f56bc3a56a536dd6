"""Operations and a processor's peak rates in, the least time that a forward pass can take out.

The limit is that of products alone: linears at the rate of large INT8 products on onnxruntime's
exact kernels, attention at that of float32, everything between them for nothing. No model reaches
it on these kernels. Kernels that saturate may pass it, and so may another library's.
"""

from dataclasses import dataclass

__all__ = ["Limits", "Operations", "Peaks"]


@dataclass(frozen=True)
class Operations:
    """Multiplications and additions of one forward pass, two for each product."""

    linears: int  # products with a weight, pooler and head included
    attention: int  # queries with keys, and probabilities with values


@dataclass(frozen=True)
class Limits:
    """The least seconds of a forward pass whose linears are float32 or INT8."""

    float32: float
    int8: float


@dataclass(frozen=True)
class Peaks:
    """Operations a second of the fastest large linear on onnxruntime, exactly.

    INT8 means codes of activations times codes of weights, with the quantizer of its input.
    """

    float32: float
    int8: float

    def limits(self, work: Operations) -> Limits:
        """What these rates allow."""
        attention = work.attention / self.float32
        return Limits(
            float32=work.linears / self.float32 + attention,
            int8=work.linears / self.int8 + attention,
        )
