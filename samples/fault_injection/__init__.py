"""Deployment faults planted in good artefacts, and what a parity run says of each."""
