import pytest
from rich.console import Console

from nxmi_export.recipe import Scheme
from nxmi_export.report.compression_tables import summary_table


def _linears(*layers: tuple[str | None, int]) -> str:
    """The cell that counts `layers`, (pattern, bits) each."""
    return _rows(*layers)["linears"]


def _rows(*layers: tuple[str | None, int], mask_moved: float | None = None) -> dict[str, str]:
    facts = {
        "compression": {"nominal": 0.5, "with_metadata": 0.5},
        "mask_moved": mask_moved,
        "layers": {
            f"layer.{number}": {"pattern": pattern, "bits": bits}
            for number, (pattern, bits) in enumerate(layers)
        },
        "recipe": {"placement": "sparse", "training": {"epochs": 1}},
        "options": {"recipe": "mine", "seed": 0, "precision": "fp32"},
        "data": {"train": {"examples": 8}},
        "seconds": 1.0,
    }
    console = Console(width=100)
    with console.capture() as capture:
        console.print(summary_table(facts, {}))
    rows = [line.split("│") for line in capture.get().splitlines() if "│" in line]
    return {row[1].strip(): row[2].strip() for row in rows}


def test_masks_are_told_of_where_there_are_any() -> None:
    masks = _rows(("2:4", 8), mask_moved=0.125)["masks"]
    assert masks == "12.50% of their entries are not those of magnitude"
    assert "masks" not in _rows((None, 32))


@pytest.mark.parametrize("scheme", ["dense", "2:4", "int8", "int4", "2:4+int8", "1:4+int4"])
def test_a_linear_is_named_as_a_recipe_names_its_scheme(scheme: str) -> None:
    asked = Scheme.parse(scheme)
    pattern = str(asked.pattern) if asked.pattern else None
    stored = asked.bits or (16 if pattern else 32)  # sparse tensor cores have no float32
    assert _linears((pattern, stored)) == f"1 x {scheme}"


def test_linears_are_counted_by_how_they_are_stored() -> None:
    assert _linears(("2:4", 8), (None, 32), ("2:4", 8), ("2:4", 16)) == (
        "2 x 2:4+int8, 1 x dense, 1 x 2:4"
    )
