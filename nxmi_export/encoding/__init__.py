"""Texts in, token ids out: tokenizing a dataset once and cutting it into padded batches."""

from nxmi_export.encoding.cache import CachedEncoder
from nxmi_export.encoding.check_ids import check_ids
from nxmi_export.encoding.dataset import Batch, EncodedDataset, Feeds
from nxmi_export.encoding.rows import TokenRows
from nxmi_export.encoding.tokenize import encode, load_tokenizer

__all__ = [
    "Batch",
    "CachedEncoder",
    "EncodedDataset",
    "Feeds",
    "TokenRows",
    "check_ids",
    "encode",
    "load_tokenizer",
]
