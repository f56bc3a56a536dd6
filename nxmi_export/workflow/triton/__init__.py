"""An artefact in, a model repository that Triton Inference Server serves out.

What loads ONNX is imported from its own module: `repository`.
"""

from nxmi_export.workflow.triton.request import BackendName, TritonRequest

__all__ = ["BackendName", "TritonRequest"]
