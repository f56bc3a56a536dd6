"""Searched configurations, trained: against uniform and random ones within the same budget."""
