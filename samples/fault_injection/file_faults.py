"""Files of one export beside those of another."""

from nxmi_export.artefact import CPU_MODEL, FP16_MODEL, MODEL, WEIGHTS, Manifest
from samples.fault_injection.fault import Base, Fault, Plant
from samples.fault_injection.naming import Naming, another_checkpoint, refused
from samples.fault_injection.site import Site

__all__ = ["FAULTS"]


def _taken(*names: str, told: str = "") -> Plant:
    """`told` is the file that the product names; by default the first."""

    def plant(site: Site) -> Naming:
        site.take(*names)
        return another_checkpoint(told or names[0])

    return plant


def _flipped_byte(site: Site) -> Naming:
    path = site.directory / WEIGHTS
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return refused("the file with SHA-256 ", subject=WEIGHTS, found="other contents")


def _missing(site: Site) -> Naming:
    (site.directory / WEIGHTS).unlink()
    return refused("every file of the manifest", subject=WEIGHTS, found="no such file")


def _cut(site: Site) -> Naming:
    path = site.directory / WEIGHTS
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return refused(
        f"bytes, which {MODEL} reads", subject=WEIGHTS, found=f"{path.stat().st_size} bytes"
    )


def _unlisted(site: Site) -> Naming:
    """Nothing then tells whether they are the ones that were exported."""
    files = Manifest.read(site.directory).files
    site.facts(files={name: each for name, each in files.items() if name != WEIGHTS})
    return refused(
        "a graph whose tensors lie in files that the manifest lists",
        subject=CPU_MODEL,
        found=f"one that reads {WEIGHTS}",
    )


FAULTS = (
    Fault("one byte of the weights changed", "files", _flipped_byte, sealed=False),
    Fault("file of weights missing", "files", _missing, sealed=False),
    Fault("file of weights cut in half", "files", _cut),
    Fault("weights without a hash", "files", _unlisted),
    Fault("weights of another checkpoint", "files", _taken(WEIGHTS, told=MODEL)),
    Fault("model.onnx of another checkpoint", "files", _taken(MODEL)),
    Fault(
        "model.cpu.onnx of another checkpoint",
        "files",
        _taken(CPU_MODEL),
    ),
    Fault(
        "all graphs and weights of another checkpoint",
        "files",
        _taken(MODEL, CPU_MODEL, WEIGHTS),
    ),
    Fault(
        "float16 file of another checkpoint",
        "files",
        _taken(FP16_MODEL),
        Base.FLOAT16,
    ),
)
