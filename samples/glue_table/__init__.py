"""The GLUE table: every method on every task, one resumable cell at a time."""
