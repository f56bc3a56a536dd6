"""Whether onnxruntime's own integer product keeps its sums."""

import pytest

from nxmi_export import doctor
from nxmi_export.backends import onnxruntime_products
from nxmi_export.backends.onnxruntime_products import integer_products_are_exact

VNNI = {"avx512_vnni", "avx_vnni", "amx_int8"}


def test_it_does_where_it_is_told_to() -> None:
    assert integer_products_are_exact()


@pytest.mark.skipif(
    bool(VNNI & set(doctor.examine().processor.int8_instructions)),
    reason="this processor adds in 32 bits whatever it is told",
)
def test_the_question_has_another_answer_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_products, "EXACT_PRODUCTS", {})
    assert not integer_products_are_exact()


def test_a_release_without_the_operator_has_no_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_products, "PRODUCT", "ProductOfTomorrow")
    assert not integer_products_are_exact()
