"""`certificate.json`: every cell, what it rests on, and the hash of every file it speaks about."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from nxmi_export.artefact import (
    CERTIFICATE,
    MANIFEST,
    Artefact,
    sha256_of,
)
from nxmi_export.certificate.claims import (
    MEANING,
    OF_ATTENTION,
    OF_ENGINE,
    OF_LINEAR,
    OF_MODEL,
    Answer,
    Claim,
    overall,
)
from nxmi_export.checkpoint import checkpoint_sha256
from nxmi_export.errors import ArtefactError

__all__ = [
    "CellRecord",
    "Certificate",
    "ModuleRecord",
    "OutsideFile",
    "bound_files",
    "read_certificate",
]

CONFIG = "config.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CellRecord(_Record):
    """One claim about one subject."""

    answer: Answer
    why: str
    evidence: tuple[str, ...] = ()  # places in the files


class ModuleRecord(_Record):
    """One linear or attention, by its PyTorch name."""

    module: str
    block: str  # the encoder block that it belongs to
    scheme: str | None  # of a linear; None for an attention
    claims: dict[Claim, CellRecord]


class OutsideFile(_Record):
    """A file that the certificate speaks about and the artefact does not hold."""

    path: str
    sha256: str


class Certificate(_Record):
    """The contents of `certificate.json`."""

    schema_: Literal["nxmi-export/certificate/4"] = "nxmi-export/certificate/4"
    version: str  # of nxmi-export
    files: dict[str, str]  # SHA-256 by name inside the artefact
    facts: str  # SHA-256 of all that the manifest says besides its files
    checkpoint: OutsideFile | None  # None where there was none to read
    layer_info: OutsideFile | None  # the inspector's file, where one was given
    parity: OutsideFile | None  # the report of a parity run, where one was given
    engine: str | None  # the library that built it and its version
    linears: tuple[ModuleRecord, ...]
    attentions: tuple[ModuleRecord, ...]
    model: dict[Claim, CellRecord]

    @property
    def answer(self) -> Answer:
        """Of everything together."""
        return overall(cell.answer for _, cell in self._cells())

    def totals(self) -> dict[Claim, dict[Answer, int]]:
        """How often each answer was given, zero included, by claim."""
        counts: dict[Claim, Counter[Answer]] = {}
        for claim, cell in self._cells():
            counts.setdefault(claim, Counter())[cell.answer] += 1
        return {
            claim: {answer: count[answer] for answer in Answer} for claim, count in counts.items()
        }

    def as_json(self) -> dict[str, Any]:
        """Plain data: the answer and totals first, then what they were counted from."""
        content = self.model_dump(mode="json")
        return {
            "schema": content.pop("schema_"),
            "answer": self.answer.value,
            "totals": {
                claim.value: {answer.value: count for answer, count in counts.items()}
                for claim, counts in self.totals().items()
            },
            "claims": {claim.value: MEANING[claim] for claim in self.totals()},
            **content,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Certificate":
        """The same certificate again.

        Raises ValueError for totals that are not its own, for a subject without one of its claims,
        and for what an engine alone can prove where there is none.
        """
        facts = dict(content)
        said = {name: facts.pop(name, None) for name in ("answer", "totals", "claims")}
        certificate = cls.model_validate({"schema_": facts.pop("schema", None), **facts})
        counted = certificate.as_json()
        if any(counted[name] != value for name, value in said.items()):
            raise ValueError("totals that are not those of its cells")
        certificate._check_claims()
        return certificate

    def _check_claims(self) -> None:
        subjects = [
            *((each.module, each.claims, OF_LINEAR) for each in self.linears),
            *((each.module, each.claims, OF_ATTENTION) for each in self.attentions),
            ("the model", self.model, OF_MODEL),
        ]
        for name, claims, wanted in subjects:
            if other := claims.keys() ^ wanted:
                what = ", ".join(sorted(other & claims.keys())) or "less"
                raise ValueError(f"{what} claimed of {name}, and not {', '.join(sorted(wanted))}")
        witnessed = self.engine is not None or self.layer_info is not None
        for claim, cell in self._cells():
            if claim in OF_ENGINE and cell.answer is Answer.PROVED and not witnessed:
                raise ValueError(f"{claim} proved without an engine")

    def _cells(self) -> Iterator[tuple[Claim, CellRecord]]:
        for module in (*self.linears, *self.attentions):
            yield from module.claims.items()
        yield from self.model.items()


def bound_files(artefact: Artefact) -> dict[str, str]:
    """The hash of each file that a certificate speaks about: all that the manifest lists but it."""
    return {
        name: record.sha256
        for name, record in artefact.manifest.files.items()
        if name != CERTIFICATE
    }


def read_certificate(artefact: Artefact) -> Certificate:
    """The artefact's certificate, if it speaks about the files as they are now.

    `artefact` comes from `read_artefact`, which has checked every file against the manifest. Raises
    ArtefactError where there is no certificate, where it is damaged, and where a file that it
    speaks about changed, came or went since; a checkpoint that is gone is none that changed.
    """
    path = artefact.path(CERTIFICATE)
    try:
        content = path.read_bytes()
        certificate = Certificate.from_json(_plain(content))
    except (ValueError, ValidationError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ArtefactError(
            path,
            expected="a certificate that this version reads",
            found=first,
            remedy="certify the artefact again",
        ) from error
    if stale := _stale(certificate, artefact) or _missing(certificate, artefact):
        raise ArtefactError(
            path,
            expected="a certificate of the files as they are now",
            found=stale,
            remedy="certify the artefact again",
        )
    return certificate


def _plain(content: bytes) -> Mapping[str, Any]:
    plain = json.loads(content)
    if not isinstance(plain, dict):
        raise ValueError("no mapping")
    return plain


def _stale(certificate: Certificate, artefact: Artefact) -> str | None:
    now = bound_files(artefact)
    for name in sorted(now.keys() | certificate.files.keys()):
        if name not in now:
            return f"one of {name}, which the artefact no longer has"
        if name not in certificate.files:
            return f"one that does not know {name}"
        if now[name] != certificate.files[name]:
            return f"one of {name} with SHA-256 {certificate.files[name][:12]}…, which has changed"
    checkpoint, source = certificate.checkpoint, artefact.manifest.source
    if checkpoint is not None and checkpoint.sha256 != source.sha256:
        return f"one of another checkpoint, with SHA-256 {checkpoint.sha256[:12]}…"
    if certificate.facts != artefact.manifest.facts_sha256:
        return f"one of a {MANIFEST} that said something else of the model"
    return _changed_outside(certificate, artefact)


def _missing(certificate: Certificate, artefact: Artefact) -> str | None:
    """What the manifest has and the certificate says nothing of, or the other way round."""
    told = {each.module for each in certificate.linears}
    linears = artefact.manifest.linears
    for name in sorted(told - linears.keys()):
        return f"one that speaks of {name}, which the manifest does not list"
    compressed = {name for name, each in linears.items() if each.storage != "dense"}
    for name in sorted(compressed - told):
        return f"one that does not speak of {name}"
    if not told or not certificate.attentions:
        return "one that speaks of no " + ("attention" if told else "linear")
    return None


def _changed_outside(certificate: Certificate, artefact: Artefact) -> str | None:
    for outside in filter(
        None, (certificate.checkpoint, certificate.layer_info, certificate.parity)
    ):
        path = Path(artefact.directory) / outside.path
        if not path.exists():
            continue
        digest = checkpoint_sha256(path) if path.is_dir() else sha256_of(path)
        if digest != outside.sha256:
            return f"one of {path} with SHA-256 {outside.sha256[:12]}…, which has changed"
    return None
