from types import SimpleNamespace
from typing import Any

import pytest

from nxmi_export.search.progress import Origin
from nxmi_export.search.ranking import Selection
from nxmi_export.workflow.search.stages import Stage


def _stage(searches: int, **request: object) -> Stage:
    asked = {"objective": "divergence", "keep": 5, "error": 0.05, "refinements": 2} | request
    problem: Any = SimpleNamespace(request=SimpleNamespace(**asked), spaces=range(searches))
    nothing: Any = None
    return Stage(problem, nothing, nothing, None, lambda progress: None)


@pytest.mark.parametrize(("origin", "centres"), [("component", 0), ("layer", 2)])
def test_refinements_of_the_search_per_layer_have_their_share_of_its_error(
    origin: Origin, centres: int
) -> None:
    assert _stage(1).selection(origin) == Selection("divergence", 5, 0.05, centres)
    assert _stage(2).selection(origin) == Selection("divergence", 5, 0.025, centres)
    assert _stage(1, refinements=0).selection(origin).centres == 0
