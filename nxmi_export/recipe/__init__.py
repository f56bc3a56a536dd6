"""Recipes: what to do to each encoder linear, with which quantizers, and how to train it."""

from nxmi_export.recipe.presets import PRESETS, preset, recipe_from
from nxmi_export.recipe.recipe import Recipe
from nxmi_export.recipe.scheme import Component, Pattern, Placement, Scheme
from nxmi_export.recipe.settings import (
    ActivationSettings,
    Calibration,
    DistillationSettings,
    Granularity,
    SparsitySettings,
    TrainingSettings,
    WeightSettings,
)

__all__ = [
    "PRESETS",
    "ActivationSettings",
    "Calibration",
    "Component",
    "DistillationSettings",
    "Granularity",
    "Pattern",
    "Placement",
    "Recipe",
    "Scheme",
    "SparsitySettings",
    "TrainingSettings",
    "WeightSettings",
    "preset",
    "recipe_from",
]
