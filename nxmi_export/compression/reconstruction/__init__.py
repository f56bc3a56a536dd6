"""Layer-wise reconstruction: N:M and INT4 weights that keep each layer's output, without training.

Magnitude projection minimizes the change of the weight. What matters is the change of the layer's
output on real inputs, ‖(W − Ŵ)·X‖². Two steps lower it, each for all output rows at once:

1. eliminate   column by column, prune (or round) and let the columns behind take up the error; the
               groups' masks are chosen on the way, on weights that carry the compensation so far
               (SparseGPT: Frantar and Alistarh, 2023; GPTQ: Frantar et al., 2023)
2. descend     coordinate descent on what is kept, on the INT4 grid where there is one
               (QuantEase: Behdin et al., 2023); it never raises the error
"""

from nxmi_export.compression.reconstruction.reconstruct import (
    LinearReconstructed,
    reconstructed_weights,
)

__all__ = ["LinearReconstructed", "reconstructed_weights"]
