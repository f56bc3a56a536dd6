"""Samples export the same few models."""

from tests.traced_once import traced_once

__all__ = ["traced_once"]  # a fixture of every test
