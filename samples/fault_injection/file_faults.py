"""Files of one export beside those of another."""

from nxmi_export.artefact import CPU_MODEL, FP16_MODEL, MODEL, WEIGHTS
from samples.fault_injection.fault import Base, Fault, Plant
from samples.fault_injection.site import Site

__all__ = ["FAULTS"]


def _taken(*names: str, phrases: tuple[str, ...]) -> Plant:
    def plant(site: Site) -> tuple[str, ...]:
        site.take(*names)
        return phrases

    return plant


def _flipped_byte(site: Site) -> tuple[str, ...]:
    path = site.directory / WEIGHTS
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return (WEIGHTS, "SHA-256")


def _missing(site: Site) -> tuple[str, ...]:
    (site.directory / WEIGHTS).unlink()
    return (WEIGHTS, "no such file")


def _cut(site: Site) -> tuple[str, ...]:
    path = site.directory / WEIGHTS
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return (WEIGHTS,)


ANOTHERS = "another checkpoint"
FAULTS = (
    Fault("one byte of the weights changed", "files", _flipped_byte, sealed=False),
    Fault("file of weights missing", "files", _missing, sealed=False),
    Fault("file of weights cut in half", "files", _cut),
    Fault("weights of another checkpoint", "files", _taken(WEIGHTS, phrases=(MODEL, ANOTHERS))),
    Fault("model.onnx of another checkpoint", "files", _taken(MODEL, phrases=(MODEL, ANOTHERS))),
    Fault(
        "model.cpu.onnx of another checkpoint",
        "files",
        _taken(CPU_MODEL, phrases=(CPU_MODEL, ANOTHERS)),
    ),
    Fault(
        "all graphs and weights of another checkpoint",
        "files",
        _taken(MODEL, CPU_MODEL, WEIGHTS, phrases=(MODEL, ANOTHERS)),
    ),
    Fault(
        "float16 file of another checkpoint",
        "files",
        _taken(FP16_MODEL, phrases=(FP16_MODEL, ANOTHERS)),
        Base.FLOAT16,
    ),
)
