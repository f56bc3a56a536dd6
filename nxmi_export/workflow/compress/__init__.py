"""A fine-tuned task model and a recipe in, the compressed model and what it cost out."""

from nxmi_export.workflow.compress.request import CompressRequest
from nxmi_export.workflow.compress.result import CompressResult
from nxmi_export.workflow.compress.run import compress_model

__all__ = ["CompressRequest", "CompressResult", "compress_model"]
