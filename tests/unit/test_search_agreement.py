import pytest

from nxmi_export.search.agreement import Agreement, agreement


def test_the_same_order_agrees_whatever_the_values() -> None:
    found = agreement([1.0, 2.0, 9.0], [0.1, 0.2, 0.3])
    assert found.configurations == 3
    assert found.spearman == pytest.approx(1.0)


def test_the_opposite_order_disagrees() -> None:
    found = agreement([3.0, 2.0, 1.0], [0.1, 0.2, 0.3])
    assert found.configurations == 3
    assert found.spearman == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("predicted", "measured"),
    [
        ([1.0, 2.0], [1.0, 2.0]),
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]),
        ([], []),
    ],
)
def test_two_points_or_no_differences_have_no_order(
    predicted: list[float], measured: list[float]
) -> None:
    assert agreement(predicted, measured) == Agreement(len(measured), None)
