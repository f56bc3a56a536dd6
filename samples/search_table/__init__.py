"""Searched configurations, trained: against uniform ones and a random one of the same size."""
