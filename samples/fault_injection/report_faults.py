"""Evidence beside an artefact that speaks of another one."""

from pathlib import Path
from typing import Any

from nxmi_export.artefact import (
    CERTIFICATE,
    CPU_MODEL,
    ENGINE_FACTS,
    MANIFEST,
    MODEL,
    PLAN,
    Manifest,
    read_artefact,
)
from nxmi_export.certificate import Certificate
from nxmi_export.workflow.certify import CertifyRequest, certify_artefact
from samples.fault_injection.engine import write_engine
from samples.fault_injection.fault import Check, Fault
from samples.fault_injection.naming import Naming, refused
from samples.fault_injection.outcome import REPORT, write_report
from samples.fault_injection.places import BLOCK, recoded
from samples.fault_injection.site import Site

__all__ = ["FAULTS"]

_DENSE = f"{BLOCK}.output.dense"
_AS_NOW = "a parity report of the artefact's files as they are now"


def _stale_report(name: str) -> Naming:
    return refused(_AS_NOW, subject=REPORT, found=f"one of a {name} with SHA-256 ")


def _write(site: Site, artefact: Path) -> None:
    write_report(artefact, site.projects.data, site.projects.task, site.directory)


def _report_of_before(site: Site) -> Naming:
    """Parity is run, and a weight changed after it."""
    _write(site, site.directory)
    _change_a_weight(site)
    return _stale_report(CPU_MODEL)


def _report_of_another(site: Site) -> Naming:
    _write(site, site.projects.other())
    return _stale_report(CPU_MODEL)


def _report_edited(site: Site) -> Naming:
    """The report of a failed gate is given the hashes of the files as they are."""
    _write(site, site.projects.other())
    manifest = Manifest.read(site.directory)
    hashes = {name: record.sha256 for name, record in manifest.files.items()}
    site.rewrite(REPORT, lambda document: document.update(artefact=hashes))
    return refused(_AS_NOW, subject=REPORT, found="one of another checkpoint")


def _report_of_other_facts(site: Site) -> Naming:
    """Parity is run, and the labels exchanged after it; no file changes."""
    _write(site, site.directory)
    site.facts(labels=Manifest.read(site.directory).labels[::-1])
    return refused(_AS_NOW, subject=REPORT, found=f"one of a {MANIFEST} that said something else")


def _report_that_says_passed(site: Site) -> Naming:
    """The report of a failed gate, whose answer alone was edited."""
    _change_a_weight(site)
    _write(site, site.directory)
    site.rewrite(REPORT, lambda document: document.update(ok=True))
    return refused(
        "a parity report of the schema ",
        subject=REPORT,
        found="an answer that is not that of its dev sets",
    )


def _certificate_of_before(site: Site) -> Naming:
    certify_artefact(CertifyRequest(read_artefact(site.directory)))
    _change_a_weight(site)
    return refused(
        "a certificate of the files as they are now", subject=CERTIFICATE, found=CPU_MODEL
    )


def _certificate_edited(site: Site) -> Naming:
    """What was unproven is said to be proved."""
    certify_artefact(CertifyRequest(read_artefact(site.directory)))
    site.rewrite(CERTIFICATE, lambda facts: facts.update(answer="proved"))
    return refused(
        "a certificate that this version reads",
        subject=CERTIFICATE,
        found="totals that are not those of its cells",
    )


def _certificate_of_other_facts(site: Site) -> Naming:
    """No file changes, but what the manifest says of them."""
    certify_artefact(CertifyRequest(read_artefact(site.directory)))
    site.facts(session_options={})
    return refused(
        "a certificate of the files as they are now",
        subject=CERTIFICATE,
        found=f"one of a {MANIFEST} that said something else",
    )


def _certificate_of_nothing(site: Site) -> Naming:
    """All modules are left out, and what is said of the whole is counted anew."""
    certify_artefact(CertifyRequest(read_artefact(site.directory)))

    def change(facts: dict[str, Any]) -> None:
        made = Certificate.from_json(facts)
        facts.update(made.model_copy(update={"linears": (), "attentions": ()}).as_json())

    site.rewrite(CERTIFICATE, change)
    return refused(
        "a certificate of the files as they are now",
        subject=CERTIFICATE,
        found="one that does not speak of ",
    )


def _change_a_weight(site: Site) -> None:
    site.edit(recoded(_DENSE, lambda codes: -codes))
    site.seal()


def _engine_of_another_graph(site: Site) -> Naming:
    write_engine(site, **{MODEL: "0" * 64})
    return refused(f"an engine of this artefact's {MODEL}", subject=ENGINE_FACTS)


def _facts_of_another_engine(site: Site) -> Naming:
    write_engine(site, **{PLAN: "0" * 64})
    return refused(f"an engine of this artefact's {PLAN}", subject=ENGINE_FACTS)


FAULTS = (
    Fault("parity report of before a change", "evidence", _report_of_before, check=Check.REPORT),
    Fault("parity report of another artefact", "evidence", _report_of_another, check=Check.REPORT),
    Fault("parity report with the hashes edited", "evidence", _report_edited, check=Check.REPORT),
    Fault(
        "certificate of before a change",
        "evidence",
        _certificate_of_before,
        check=Check.CERTIFICATE,
    ),
    Fault("parity report of other labels", "evidence", _report_of_other_facts, check=Check.REPORT),
    Fault(
        "failed report that says passed", "evidence", _report_that_says_passed, check=Check.REPORT
    ),
    Fault(
        "certificate of other session options",
        "evidence",
        _certificate_of_other_facts,
        check=Check.CERTIFICATE,
    ),
    Fault(
        "certificate of no module",
        "evidence",
        _certificate_of_nothing,
        check=Check.CERTIFICATE,
    ),
    Fault("certificate that claims more", "evidence", _certificate_edited, check=Check.CERTIFICATE),
    Fault("engine built from another graph", "evidence", _engine_of_another_graph),
    Fault("engine.json of another plan", "evidence", _facts_of_another_engine),
)
