"""`nxmi-export parity ARTEFACT`."""
