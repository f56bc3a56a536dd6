"""The deployment certificate: of every encoder GEMM, what is proved, refuted or unproven."""

from nxmi_export.certificate.certify import Trained, Witnesses, certify
from nxmi_export.certificate.claims import MEANING, Answer, Claim
from nxmi_export.certificate.document import Certificate, OutsideFile, read_certificate
from nxmi_export.certificate.engine import Witness, built_engine, inspected_engine
from nxmi_export.certificate.runs import engine_ran

__all__ = [
    "MEANING",
    "Answer",
    "Certificate",
    "Claim",
    "OutsideFile",
    "Trained",
    "Witness",
    "Witnesses",
    "built_engine",
    "certify",
    "engine_ran",
    "inspected_engine",
    "read_certificate",
]
