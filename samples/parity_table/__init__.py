"""Honest exports of models for every GLUE task, each through the whole ladder on its dev sets."""
