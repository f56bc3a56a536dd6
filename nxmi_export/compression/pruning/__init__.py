"""How linears reach their N:M patterns in training: ADMM, fixed masks, or masks that follow."""

from nxmi_export.compression.pruning.admm import Admm, ProximalAdmm
from nxmi_export.compression.pruning.choose import sparsifier
from nxmi_export.compression.pruning.fixed_masks import FixedMasks
from nxmi_export.compression.pruning.sparsifier import Sparsifier
from nxmi_export.compression.pruning.sr_ste import SrSte

__all__ = ["Admm", "FixedMasks", "ProximalAdmm", "Sparsifier", "SrSte", "sparsifier"]
