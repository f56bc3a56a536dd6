"""What onnxruntime must be told so that its products are those of the graph on every processor.

On x86 without VNNI instructions onnxruntime multiplies uint8 by int8 with `vpmaddubsw`, which
adds two products in 16 bits and saturates: 2 · 255 · 127 is twice what fits. Where floats meet
stored integers it rounds the floats to 8 bits, one scale for every 32, although the graph rounds
none. Nothing warns of either. The options below take exact kernels.
"""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["EXACT_PRODUCTS", "FLOAT_PRODUCTS", "WITHOUT_FUSIONS"]

EXACT_PRODUCTS: Mapping[str, str] = MappingProxyType({"session.x64quantprecision": "1"})
"""Entries for integer products; slower without VNNI, and no other with it."""

FLOAT_PRODUCTS: Mapping[str, str] = MappingProxyType(
    {"session.qdq_matmulnbits_accuracy_level": "1"}
)
"""Entries for products of floats and stored integers: sums in float32 (4, the default, is int8)."""

WITHOUT_FUSIONS = "optimization.disable_specified_optimizers"
"""The key of an entry that names fusions to leave out, separated by semicolons."""
