"""Samples export the same few models."""

from tests.traced_once import traced_once
from tests.tuned_at_once import tuned_at_once

__all__ = ["traced_once", "tuned_at_once"]  # fixtures of every test
