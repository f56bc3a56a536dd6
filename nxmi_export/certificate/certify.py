"""An artefact, its PyTorch model and every account of its engine in, its certificate out."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel

from nxmi_export._version import __version__
from nxmi_export.artefact import CPU_MODEL, FP16_MODEL, INT4_MODEL, MODEL, Artefact
from nxmi_export.backends.tensorrt_engine import Verdict
from nxmi_export.certificate.checkpoint import mask_in_checkpoint
from nxmi_export.certificate.claims import Answer, Cell, Claim, answered, worst
from nxmi_export.certificate.document import (
    CellRecord,
    Certificate,
    ModuleRecord,
    OutsideFile,
    bound_files,
)
from nxmi_export.certificate.engine import Witness
from nxmi_export.certificate.engine_cells import EngineReading, attention_cells, linear_cells
from nxmi_export.certificate.lint_cell import LintTarget, lint_cell
from nxmi_export.certificate.products import read_products
from nxmi_export.certificate.promises import (
    AttentionPromise,
    LinearPromise,
    Promises,
    promises_of,
)
from nxmi_export.certificate.stored_numbers import (
    GraphFile,
    integer_parity,
    scale_parity,
    stored_pattern,
)
from nxmi_export.certificate.whole_model import engine_claims
from nxmi_export.recipe import Placement

__all__ = ["Trained", "Witnesses", "certify"]


@dataclass(frozen=True)
class Trained:
    """The model that was exported: always its structure, its weights where they can be had."""

    structure: PreTrainedModel
    placement: Placement | None
    state: Mapping[str, Tensor] | None  # of the checkpoint
    model: PreTrainedModel | None  # restored from it
    absent: str  # why there is no state, or no model; empty where both are there
    checkpoint: OutsideFile | None  # what was read


@dataclass(frozen=True)
class Witnesses:
    """Everything that tells of the engine; nothing where none was built."""

    built: Witness | None
    inspected: Witness | None = None
    layer_info: OutsideFile | None = None  # the file of `inspected`
    ran: Cell | None = None  # what a parity report says of running it
    parity: OutsideFile | None = None  # the file of `ran`

    @property
    def present(self) -> tuple[Witness, ...]:
        """Those that there are."""
        return tuple(each for each in (self.built, self.inspected) if each is not None)


def certify(artefact: Artefact, trained: Trained, witnesses: Witnesses) -> Certificate:
    """Judge every claim about every encoder GEMM; nothing is written.

    Raises ArtefactError for a graph that cannot be read and UnsupportedModel for an architecture
    whose encoder is unknown.
    """
    case = _Case.of(artefact, trained, witnesses)
    built = witnesses.built.builder if witnesses.built else None
    return Certificate(
        version=__version__,
        files=bound_files(artefact),
        facts=artefact.manifest.facts_sha256,
        checkpoint=trained.checkpoint,
        layer_info=witnesses.layer_info,
        parity=witnesses.parity,
        engine=None if built is None else f"{built.name} {built.version}",
        linears=tuple(map(case.linear, case.promises.linears)),
        attentions=tuple(map(case.attention, case.promises.attentions)),
        model=_records(case.whole_model()),
    )


@dataclass(frozen=True)
class _Case:
    """Everything that the cells are judged from."""

    artefact: Artefact
    trained: Trained
    promises: Promises
    files: tuple[GraphFile, ...]
    readings: tuple[EngineReading | None, ...]  # one None where there is no engine
    no_engine: str  # why, in that case
    lint: LintTarget
    runs: Cell

    @classmethod
    def of(cls, artefact: Artefact, trained: Trained, witnesses: Witnesses) -> "_Case":
        promises = promises_of(trained.structure, trained.placement)
        named = artefact.manifest.files
        others = (CPU_MODEL, FP16_MODEL, INT4_MODEL)
        graphs = (MODEL, *(name for name in others if name in named))
        halved = {FP16_MODEL, INT4_MODEL} if FP16_MODEL in named else set()
        files = (
            GraphFile(artefact.path(name), trained.structure, trained.model, float16=name in halved)
            for name in graphs
        )
        readings: list[EngineReading] = []
        for witness in witnesses.present:
            graph = artefact.path(witness.graph if witness.graph in named else MODEL)
            products = read_products(graph, trained.structure)
            readings.append(EngineReading(witness, products, promises.linears, promises.attentions))
        place = shlex.quote(str(artefact.directory))
        no_engine = f"no engine was built; run nxmi-export build {place}"
        return cls(
            artefact,
            trained,
            promises,
            tuple(files),
            tuple(readings) or (None,),
            no_engine,
            LintTarget.of(witnesses.built.facts if witnesses.built else None),
            _runs(witnesses, no_engine),
        )

    def linear(self, linear: LinearPromise) -> ModuleRecord:
        """Every claim about one linear."""
        absent = self.trained.absent
        cells = {
            Claim.MASK: mask_in_checkpoint(linear, self.trained.state, absent),
            Claim.STORED: stored_pattern(linear, self.files),
            Claim.PARITY: integer_parity(linear, self.files, absent),
        } | _agreed(linear_cells(linear, each, self.no_engine) for each in self.readings)
        return ModuleRecord(
            module=linear.module,
            block=linear.block,
            scheme=str(linear.scheme),
            claims=_records(cells),
        )

    def attention(self, attention: AttentionPromise) -> ModuleRecord:
        """Every claim about one attention."""
        cells = _agreed(attention_cells(attention, each, self.no_engine) for each in self.readings)
        return ModuleRecord(
            module=attention.module, block=attention.block, scheme=None, claims=_records(cells)
        )

    def whole_model(self) -> dict[Claim, Cell]:
        """Every claim about the files and the engine as wholes."""
        linears = self.promises.linears
        built = [each.path for each in self.files if each.path.name != CPU_MODEL]
        return {
            Claim.SCALES: scale_parity(linears, self.files, self.trained.absent),
            Claim.LINT: worst(lint_cell(path, linears, self.lint) for path in built),
            **_agreed(engine_claims(self.promises, each, self.no_engine) for each in self.readings),
            Claim.RUNS: self.runs,
        }


_NOT_RUN = (
    "certify runs nothing; compare the engine on a machine with its GPU, by nxmi-export parity, "
    "and pass the report with --parity"
)


def _runs(witnesses: Witnesses, no_engine: str) -> Cell:
    """A report is bound to the plan, and the plan has to be of this graph."""
    if witnesses.built is None:
        return answered(Verdict.UNPROVEN, no_engine)
    if witnesses.ran is None:
        return answered(Verdict.UNPROVEN, _NOT_RUN)
    if witnesses.built.objection is not None:
        return answered(Verdict.REFUTED, witnesses.built.objection)
    return witnesses.ran


def _agreed(accounts: Iterable[Mapping[Claim, Cell]]) -> dict[Claim, Cell]:
    """What several accounts of one engine say together: a refutation stands, then a proof.

    One that is silent, as the inspector is about counts, takes nothing from the other.
    """
    first, *others = accounts
    agreed = dict(first)
    for other in others:
        agreed = {claim: _stronger(cell, other[claim]) for claim, cell in agreed.items()}
    return agreed


def _stronger(one: Cell, other: Cell) -> Cell:
    if _WEIGHT[one.answer] != _WEIGHT[other.answer]:
        return max(one, other, key=lambda cell: _WEIGHT[cell.answer])
    if one.answer is not Answer.UNPROVEN or one.why == other.why:
        return one
    places = dict.fromkeys((*one.evidence, *other.evidence))
    return Cell(Answer.UNPROVEN, f"{one.why}; {other.why}", tuple(places))


_WEIGHT = {Answer.NOT_CLAIMED: 0, Answer.UNPROVEN: 1, Answer.PROVED: 2, Answer.REFUTED: 3}


def _records(cells: Mapping[Claim, Cell]) -> dict[Claim, CellRecord]:
    return {
        claim: CellRecord(answer=cell.answer, why=cell.why, evidence=cell.evidence)
        for claim, cell in cells.items()
    }
