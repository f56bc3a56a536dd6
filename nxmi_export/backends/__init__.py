"""What runs an artefact: eager PyTorch, onnxruntime, OpenVINO, TensorRT; one `Runner` seam for all.

Each backend is imported from its own module, so that using one never loads the libraries of
another: `nxmi_export.backends.torch_eager`, `.onnxruntime_session`, `.openvino_session`,
`.tensorrt_engine`.
"""

from nxmi_export.backends.runner import Feeds, Outputs, Runner, check_feeds

__all__ = ["Feeds", "Outputs", "Runner", "check_feeds"]
