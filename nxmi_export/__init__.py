"""Compress BERT-class encoders, export them, and prove that what runs is what was trained.

Importing this package loads neither torch, onnxruntime nor TensorRT; a stage loads what it needs.
"""

from nxmi_export._version import __version__

__all__ = ["__version__"]
