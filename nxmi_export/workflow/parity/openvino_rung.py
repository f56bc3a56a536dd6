"""An artefact in, a runner of its portable file on OpenVINO out, named after what it multiplies."""

from nxmi_export.artefact import MODEL, Artefact
from nxmi_export.backends.openvino_kernels import linear_kernels, products_told
from nxmi_export.backends.openvino_session import OpenVinoRunner

__all__ = ["openvino_runner"]


def openvino_runner(artefact: Artefact, threads: int) -> OpenVinoRunner:
    """As `OpenVinoRunner`; its name says how many quantized linears are multiplied in int8.

    What a report calls the rung then tells where they silently are not.
    """
    path = artefact.path(MODEL)
    runner = OpenVinoRunner(path, threads=threads)
    runner.name = f"{runner.name}, {products_told(linear_kernels(path, runner))}"
    return runner
