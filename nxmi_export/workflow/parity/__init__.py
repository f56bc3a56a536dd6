"""An artefact and its tasks in, the whole ladder run and judged out."""

from nxmi_export.workflow.parity.request import ParityRequest
from nxmi_export.workflow.parity.run import check_parity

__all__ = ["ParityRequest", "check_parity"]
