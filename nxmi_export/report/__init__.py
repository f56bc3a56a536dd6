"""What a person reads: tables of artefacts, engines, parity and machines."""

from nxmi_export.report.engine_table import engine_table
from nxmi_export.report.tables import (
    artefact_table,
    diagnosis_table,
    inspection_table,
)

__all__ = ["artefact_table", "diagnosis_table", "engine_table", "inspection_table"]
