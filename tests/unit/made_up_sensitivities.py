"""Sensitivities drawn at random, which no model had to run for."""

import numpy as np

from nxmi_export.search.fisher import Curvature
from nxmi_export.search.sensitivity import Sensitivities, Sensitivity, probes
from nxmi_export.search.space import DEFAULT_SCHEMES, SearchSpace
from tests.tiny_models import tiny_model

__all__ = ["made_up"]


def made_up(*, flat: bool = False, seed: int = 0, layers: int = 2) -> Sensitivities:
    """Per layer of the tiny BERT, intermediate four times hidden.

    `flat`: all alike, without interactions.
    """
    model = tiny_model(num_hidden_layers=layers, intermediate_size=128)
    space = SearchSpace.of(model, "layer", DEFAULT_SCHEMES)
    generator = np.random.default_rng(seed)
    size = 0.0 if flat else 0.3
    effects = {
        (group.name, text): size * generator.normal(size=6)
        for group in space.groups
        for text in group.by_text
    }
    measured = {
        probe: Sensitivity(1.0 if flat else float(generator.exponential()), 0.0)
        for probe in probes(space)
    }
    return Sensitivities(space, measured, Curvature(effects))
