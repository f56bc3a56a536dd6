"""A metric that fell in, the smallest set of layers whose return restores it out, as a recipe.

goal = Goal(reference=dense_score, tolerance=0.005)
returning = ReturningLayers(model, recipe, dense)          # or any metric of a set of layers
found = smallest_set(layers, lambda s: score(returning.model(s)), goal, budget=60)
write_exclusions(path, exclusion_recipe(recipe, found.layers), found)
"""

from nxmi_export.parity.bisect.ddmin import ddmin
from nxmi_export.parity.bisect.exclusion import exclusion_recipe, write_exclusions
from nxmi_export.parity.bisect.returning import ReturningLayers
from nxmi_export.parity.bisect.smallest_set import Bisection, Certainty, smallest_set
from nxmi_export.parity.bisect.trials import BudgetSpent, Goal, Trial

__all__ = [
    "Bisection",
    "BudgetSpent",
    "Certainty",
    "Goal",
    "ReturningLayers",
    "Trial",
    "ddmin",
    "exclusion_recipe",
    "smallest_set",
    "write_exclusions",
]
