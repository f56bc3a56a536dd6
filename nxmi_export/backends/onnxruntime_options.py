"""What onnxruntime must be told so that its INT8 products are exact on every processor.

On x86 without VNNI instructions onnxruntime multiplies uint8 by int8 with `vpmaddubsw`, which
adds two products in 16 bits and saturates: 2 · 255 · 127 is twice what fits. Nothing warns. With
this option it takes a slower, exact kernel there, and changes nothing where VNNI is.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["EXACT_PRODUCTS", "multiply_exactly"]

EXACT_PRODUCTS: Mapping[str, str] = MappingProxyType({"session.x64quantprecision": "1"})
"""Session configuration entries; whoever opens the CPU graph by other means must set them too."""


def multiply_exactly(options: Any) -> None:
    """Set `EXACT_PRODUCTS` on an `onnxruntime.SessionOptions`."""
    for key, value in EXACT_PRODUCTS.items():
        options.add_session_config_entry(key, value)
