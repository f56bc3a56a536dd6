"""The passes that repair what the linter finds, in the order they run; each accounts for itself."""

from passes.contract import GraphPass
from passes.fold_weight_quantization import FoldWeightQuantization
from passes.lint.fixes.centre_activations import CentreActivations
from passes.lint.fixes.dequantize_first import DequantizeFirst
from passes.lint.fixes.positive_scales import PositiveScales
from passes.lint.fixes.store_floats import StoreFloats
from passes.lint.fixes.store_int8_codes import StoreInt8Codes
from passes.lint.fixes.store_weights_as_read import StoreWeightsAsRead
from passes.lint.fixes.symmetric_activations import SymmetricActivations
from passes.scale_gathered_rows import ScaleGatheredRows
from passes.share_quantizers import ShareQuantizers

__all__ = [
    "EXACT_FIXES",
    "ROUNDING_FIXES",
    "CentreActivations",
    "DequantizeFirst",
    "PositiveScales",
    "StoreFloats",
    "StoreInt8Codes",
    "StoreWeightsAsRead",
    "SymmetricActivations",
]

EXACT_FIXES: tuple[type[GraphPass], ...] = (
    DequantizeFirst,
    StoreInt8Codes,
    StoreFloats,
    PositiveScales,
    CentreActivations,
    FoldWeightQuantization,
    ScaleGatheredRows,
    StoreWeightsAsRead,
    ShareQuantizers,
)
# First, because what the exact fixes assume of zero-points is what it makes true.
ROUNDING_FIXES: tuple[type[GraphPass], ...] = (SymmetricActivations,)
