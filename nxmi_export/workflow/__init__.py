"""The verbs as functions: `export`, `build`, `parity` and `inspect`, each in its own module."""
