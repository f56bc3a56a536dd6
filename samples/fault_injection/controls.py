"""Artefacts without a fault, judged in the same run: one that is refused is a false alarm.

A fault counts as detected only where the same check, of the same kind of artefact, lets one pass
that was written again as planting writes it, and is otherwise as it was exported.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import onnx_ir as ir

from nxmi_export.artefact import CPU_MODEL, FP16_MODEL, MODEL, Manifest, read_artefact
from nxmi_export.workflow.certify import CertifyRequest, certify_artefact
from samples.fault_injection.engine import write_engine
from samples.fault_injection.fault import Check, Fault
from samples.fault_injection.naming import UNSEEN, Naming
from samples.fault_injection.outcome import Answer, write_report
from samples.fault_injection.site import Site

__all__ = ["controls_of", "void_reasons"]

FAMILY = "control"


def controls_of(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """One for each base and check that `faults` have, and for each kind of evidence."""
    chosen = tuple(faults)
    pairs = dict.fromkeys((fault.base, fault.check) for fault in chosen)
    controls = [
        Fault(f"nothing, {base}, {check}", FAMILY, _PLANTS[check], base, check)
        for base, check in pairs
    ]
    if any(fault.family == "evidence" and fault.check is Check.PARITY for fault in chosen):
        controls.append(Fault("nothing, an engine of its own", FAMILY, _own_engine))
    return tuple(controls)


def void_reasons(controls: Sequence[dict[str, Any]], rows: Iterable[dict[str, Any]]) -> list[str]:
    """Why the verdicts on `rows` mean nothing: a control that did not pass, or was not run."""
    reasons = [
        f"{each['name']}: {each['answer']}; {' '.join(each['messages'])}"
        for each in controls
        if each["answer"] != Answer.PASSED
    ]
    known = {(each["base"], each["check"]) for each in controls}
    needed = dict.fromkeys((row["base"], row["check"]) for row in rows)
    return reasons + [
        f"{base}, {check}: no control" for base, check in needed if (base, check) not in known
    ]


def _written_again(site: Site) -> Naming:
    """Every graph is read and saved, as an edit does."""
    names = [n for n in (MODEL, CPU_MODEL, FP16_MODEL) if n in Manifest.read(site.directory).files]
    site.edit(_unchanged, *names)
    return UNSEEN


def _unchanged(model: ir.Model) -> None:
    """Leave it as it is."""


def _own_engine(site: Site) -> Naming:
    write_engine(site)
    return UNSEEN


def _own_report(site: Site) -> Naming:
    write_report(site.directory, site.projects.data, site.projects.task, site.directory)
    return UNSEEN


def _own_certificate(site: Site) -> Naming:
    certify_artefact(CertifyRequest(read_artefact(site.directory)))
    return UNSEEN


_PLANTS = {
    Check.PARITY: _written_again,
    Check.REPORT: _own_report,
    Check.CERTIFICATE: _own_certificate,
}
