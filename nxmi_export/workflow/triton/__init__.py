"""An artefact in, a model repository that Triton Inference Server serves out."""

from nxmi_export.workflow.triton.repository import TritonModel, write_repository
from nxmi_export.workflow.triton.request import BackendName, TritonRequest

__all__ = ["BackendName", "TritonModel", "TritonRequest", "write_repository"]
