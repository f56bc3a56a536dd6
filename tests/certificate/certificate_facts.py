"""A certificate made up by hand: two blocks, one fault, and a name that would do harm as markup."""

from typing import Any

from nxmi_export.certificate import Answer, Certificate, Claim
from nxmi_export.certificate.document import CellRecord, ModuleRecord
from nxmi_export.report.certificate_table import ATTENTION_CLAIMS, LINEAR_CLAIMS

HOSTILE = "</td><b>[red]"
BLOCKS = ("bert.encoder.layer.0", "bert.encoder.layer.1")
LINEARS = ("attention.self.query", "attention.output.dense")
_OF_ENGINE = (Claim.MAPPING, Claim.NO_FLOAT, Claim.MERGED_QKV)
REASON = "no engine was built; run nxmi-export build model.artefact"


def certificate() -> Certificate:
    """Everything of the files proved but one flipped code; nothing of the engine known."""
    return Certificate(
        version="0.1.0",
        files={"model.onnx": "ab" * 32},
        facts="cd" * 32,
        checkpoint=None,
        layer_info=None,
        parity=None,
        engine=None,
        linears=tuple(_linear(block, name) for block in BLOCKS for name in LINEARS),
        attentions=tuple(_attention(block) for block in BLOCKS),
        model={
            Claim.SCALES: CellRecord(answer=Answer.PROVED, why="in model.onnx"),
            Claim.LINT: CellRecord(answer=Answer.PROVED, why="in model.onnx"),
            **{claim: CellRecord(answer=Answer.NOT_CLAIMED, why=REASON) for claim in _OF_ENGINE},
            Claim.RUNS: CellRecord(answer=Answer.UNPROVEN, why=HOSTILE),
        },
    )


def facts() -> dict[str, Any]:
    return certificate().as_json()


def _linear(block: str, name: str) -> ModuleRecord:
    claims = {claim: CellRecord(answer=Answer.UNPROVEN, why=REASON) for claim in LINEAR_CLAIMS}
    for claim in (Claim.MASK, Claim.STORED, Claim.PARITY):
        claims[claim] = CellRecord(answer=Answer.PROVED, why="counted")
    claims[Claim.INT8_OUT] = CellRecord(answer=Answer.NOT_CLAIMED, why="not promised")
    if (block, name) == (BLOCKS[1], LINEARS[0]):
        claims[Claim.PARITY] = CellRecord(
            answer=Answer.REFUTED, why=f"code is 1, not {HOSTILE}", evidence=("build.log line 7",)
        )
    module = f"{block}.{name}"
    return ModuleRecord(module=module, block=block, scheme="2:4+int8", claims=claims)


def _attention(block: str) -> ModuleRecord:
    claims = {
        claim: CellRecord(answer=Answer.NOT_CLAIMED, why="float") for claim in ATTENTION_CLAIMS
    }
    return ModuleRecord(module=f"{block}.attention.self", block=block, scheme=None, claims=claims)
