"""Graph passes over captured encoders: each rewrites one thing and accounts for every decision.

A leaf package: numpy and onnx_ir, no framework and no runtime. `lower` runs passes in order
and holds them to their promises; `README.md` says what each pass takes and gives.
"""

from passes.canonical_linear import CanonicalLinear
from passes.certify_sparsity import CertifySparsity
from passes.contract import GraphPass, Invariant, Rewritten, invariant
from passes.embedding_tables import EmbeddingTable, embedding_tables
from passes.errors import (
    InvalidGroups,
    InvalidScale,
    InvalidWeight,
    InvariantViolated,
    PassError,
    PassFailed,
    RefusedGraph,
    SparsityRefuted,
)
from passes.float16_outside_islands import Float16OutsideIslands
from passes.fold_weight_quantization import FoldWeightQuantization
from passes.fuse_attention import FuseAttention
from passes.gather_codes import GatherCodes
from passes.integer_products import IntegerProducts
from passes.ledger import Change, Entry, Ledger, PassRecord, Skip
from passes.linear_layers import LinearLayer, Weight, attention_matmuls, linear_layers
from passes.name_nodes import NameNodes
from passes.own_zero_points import OwnZeroPoints
from passes.pack_int4_blocks import PackInt4Blocks
from passes.pipeline import lower
from passes.provenance import MODULE_KEY, module_of
from passes.scale_gathered_rows import ScaleGatheredRows
from passes.share_quantizers import ShareQuantizers
from passes.sparsity import SPARSITY_KEY
from passes.unsigned_activations import UnsignedActivations

__all__ = [
    "MODULE_KEY",
    "SPARSITY_KEY",
    "CanonicalLinear",
    "CertifySparsity",
    "Change",
    "EmbeddingTable",
    "Entry",
    "Float16OutsideIslands",
    "FoldWeightQuantization",
    "FuseAttention",
    "GatherCodes",
    "GraphPass",
    "IntegerProducts",
    "InvalidGroups",
    "InvalidScale",
    "InvalidWeight",
    "Invariant",
    "InvariantViolated",
    "Ledger",
    "LinearLayer",
    "NameNodes",
    "OwnZeroPoints",
    "PackInt4Blocks",
    "PassError",
    "PassFailed",
    "PassRecord",
    "RefusedGraph",
    "Rewritten",
    "ScaleGatheredRows",
    "ShareQuantizers",
    "Skip",
    "SparsityRefuted",
    "UnsignedActivations",
    "Weight",
    "attention_matmuls",
    "embedding_tables",
    "invariant",
    "linear_layers",
    "lower",
    "module_of",
]
