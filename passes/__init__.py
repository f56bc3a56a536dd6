"""Graph passes over captured encoders: each rewrites one thing and accounts for every decision.

A leaf package: numpy and onnx_ir, no framework and no runtime. `lower` runs passes in order
and holds them to their promises; `README.md` says what each pass takes and gives.
"""

from passes.canonical_linear import CanonicalLinear
from passes.certify_sparsity import CertifySparsity
from passes.contract import GraphPass, Invariant, Rewritten, invariant
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
from passes.fold_weight_quantization import FoldWeightQuantization
from passes.ledger import Change, Entry, Ledger, PassRecord, Skip
from passes.linear_layers import LinearLayer, Weight, attention_matmuls, linear_layers
from passes.name_nodes import NameNodes
from passes.own_zero_points import OwnZeroPoints
from passes.pipeline import lower
from passes.provenance import MODULE_KEY, module_of
from passes.share_quantizers import ShareQuantizers
from passes.sparsity import SPARSITY_KEY
from passes.unsigned_activations import UnsignedActivations

__all__ = [
    "MODULE_KEY",
    "SPARSITY_KEY",
    "CanonicalLinear",
    "CertifySparsity",
    "Change",
    "Entry",
    "FoldWeightQuantization",
    "GraphPass",
    "InvalidGroups",
    "InvalidScale",
    "InvalidWeight",
    "Invariant",
    "InvariantViolated",
    "Ledger",
    "LinearLayer",
    "NameNodes",
    "OwnZeroPoints",
    "PassError",
    "PassFailed",
    "PassRecord",
    "RefusedGraph",
    "Rewritten",
    "ShareQuantizers",
    "Skip",
    "SparsityRefuted",
    "UnsignedActivations",
    "Weight",
    "attention_matmuls",
    "invariant",
    "linear_layers",
    "lower",
    "module_of",
]
