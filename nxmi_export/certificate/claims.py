"""What a certificate speaks about, each claim with its meaning, and what can be said of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from nxmi_export.backends.tensorrt_engine import Verdict

__all__ = [
    "MEANING",
    "OF_ATTENTION",
    "OF_ENGINE",
    "OF_LINEAR",
    "OF_MODEL",
    "Answer",
    "Cell",
    "Claim",
    "answered",
    "not_claimed",
    "overall",
    "worst",
]


class Answer(StrEnum):
    """Proved, refuted or unproven; or nothing that the recipe promises here."""

    PROVED = "proved"
    REFUTED = "refuted"
    UNPROVEN = "unproven"
    NOT_CLAIMED = "not claimed"


class Claim(StrEnum):
    """One column of the certificate."""

    # of a linear
    MASK = "mask"
    STORED = "stored"
    PARITY = "parity"
    INT8_IN = "int8_in"  # of an attention too
    INT8_OUT = "int8_out"
    ELIGIBLE = "sparse_eligible"
    SPARSE = "sparse_kernel"
    # of an attention
    FUSED = "fused"
    # of the whole model
    SCALES = "scales"
    LINT = "lint"
    MAPPING = "mapping"
    NO_FLOAT = "no_float"
    MERGED_QKV = "merged_qkv"
    RUNS = "runs"


# Every claim that is made, or said not to be, of each subject.
_LINEAR_IN_ENGINE = {Claim.INT8_IN, Claim.INT8_OUT, Claim.ELIGIBLE, Claim.SPARSE}
_MODEL_IN_ENGINE = {Claim.MAPPING, Claim.NO_FLOAT, Claim.MERGED_QKV, Claim.RUNS}
OF_LINEAR = frozenset({Claim.MASK, Claim.STORED, Claim.PARITY, *_LINEAR_IN_ENGINE})
OF_ATTENTION = frozenset({Claim.INT8_IN, Claim.FUSED})
OF_MODEL = frozenset({Claim.SCALES, Claim.LINT, *_MODEL_IN_ENGINE})
# Of these, what an engine alone can prove.
OF_ENGINE = frozenset({*_LINEAR_IN_ENGINE, *_MODEL_IN_ENGINE, *OF_ATTENTION})

MEANING: Mapping[Claim, str] = MappingProxyType(
    {
        Claim.MASK: "the weights in the checkpoint have the N:M pattern",
        Claim.STORED: "the numbers stored in every ONNX file have it, along the reduction axis",
        Claim.PARITY: "the stored codes and scales are PyTorch's, bit for bit",
        Claim.INT8_IN: "the engine multiplies INT8 by INT8",
        # Of TensorRT alone: TensorRT-RTX has no sparse kernels, and its plan is no witness.
        Claim.INT8_OUT: "TensorRT's product writes INT8, which sparse INT8 kernels must",
        Claim.ELIGIBLE: "TensorRT takes the weights for 2:4",
        Claim.SPARSE: "TensorRT runs it by a kernel that skips zeros",
        Claim.FUSED: "one kernel holds both products and the softmax",
        Claim.SCALES: "every activation scale in every ONNX file is PyTorch's, bit for bit",
        Claim.LINT: "TensorRT refuses and degrades nothing in the graph",
        Claim.MAPPING: "every product of the engine is a module's, every module's is found",
        Claim.NO_FLOAT: "no product that the recipe quantizes runs on floats",
        Claim.MERGED_QKV: "query, key and value are one product",
        Claim.RUNS: "the engine ran on a GPU",
    }
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One claim about one module or the model, and what it rests on."""

    answer: Answer
    why: str
    evidence: tuple[str, ...] = ()  # places in the files: "build.log line 1842"


def answered(verdict: Verdict, why: str, evidence: Iterable[str] = ()) -> Cell:
    """A cell of a claim that was made."""
    return Cell(Answer(verdict.value), why, tuple(evidence))


def not_claimed(why: str) -> Cell:
    """A cell of a claim that nobody makes."""
    return Cell(Answer.NOT_CLAIMED, why)


def worst(cells: Iterable[Cell]) -> Cell:
    """The first refuted of several, else the first unproven, else the first proved.

    Several files or witnesses answer for one claim, and all of them have to.
    """
    found = list(cells)
    for answer in (Answer.REFUTED, Answer.UNPROVEN, Answer.PROVED):
        for cell in found:
            if cell.answer is answer:
                return cell
    return found[0]


def overall(answers: Iterable[Answer]) -> Answer:
    """Of everything together: one refutation refutes, and nothing claimed proves nothing."""
    claimed = set(answers) - {Answer.NOT_CLAIMED}
    if Answer.REFUTED in claimed:
        return Answer.REFUTED
    return Answer.PROVED if claimed == {Answer.PROVED} else Answer.UNPROVEN
