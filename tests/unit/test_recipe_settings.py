import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nxmi_export.recipe import Calibration, Granularity, WeightSettings


@pytest.mark.parametrize(
    ("text", "rows"), [("tensor", None), ("channel", 1), ("rows:32", 32), ("rows:999999", 999_999)]
)
def test_granularities_in_words(text: str, rows: int | None) -> None:
    granularity = Granularity.parse(text)
    assert granularity.rows == rows
    assert str(granularity) == text


def test_one_row_a_scale_is_a_scale_a_channel() -> None:
    assert str(Granularity.parse("rows:1")) == "channel"


@given(st.none() | st.integers(1, 999_999))
def test_a_granularity_reads_back_from_its_text(rows: int | None) -> None:
    assert Granularity.parse(str(Granularity(rows=rows))).rows == rows


@pytest.mark.parametrize(
    "text",
    [
        "",
        "row",
        "channels",
        "rows",
        "rows:",
        "rows:0",
        "rows:-1",
        "rows:032",
        "rows:1000000",
        "rows:32 ",
        "rows:3.5",
        "rows:٣",
        "Tensor",
    ],
)
def test_what_is_no_granularity_is_refused(text: str) -> None:
    sentence = f"{text!r} is not a granularity; write tensor, channel or rows:N"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Granularity.parse(text)


@pytest.mark.parametrize(
    ("text", "calibration"),
    [
        ("max", Calibration(method="max")),
        ("mse", Calibration(method="mse")),
        ("percentile:99.95", Calibration(method="percentile", percent=99.95)),
        ("percentile:50", Calibration(method="percentile", percent=50)),
        ("percentile:0.5", Calibration(method="percentile", percent=0.5)),
        ("percentile:100", Calibration(method="percentile", percent=100)),
        ("percentile:99.9999999", Calibration(method="percentile", percent=99.9999999)),
        ("percentile:0.0000001", Calibration(method="percentile", percent=1e-7)),
    ],
)
def test_calibrations_in_words(text: str, calibration: Calibration) -> None:
    assert Calibration.parse(text) == calibration
    assert str(calibration) == text


@given(st.floats(0, 100, exclude_min=True))
def test_a_percentile_reads_back_from_its_text_to_the_last_bit(percent: float) -> None:
    text = str(Calibration(method="percentile", percent=percent))
    assert Calibration.parse(text).percent == percent


@pytest.mark.parametrize(
    "text",
    [
        "",
        "min",
        "MAX",
        "percentile",
        "percentile:",
        "percentile:0",
        "percentile:0.0",
        f"percentile:0.{'0' * 400}1",
        "percentile:100.1",
        "percentile:-1",
        "percentile:101",
        "percentile:9e1",
        "percentile:nan",
        "percentile:99.95%",
        "percentile: 99.95",
        "percentile:٩٩",
    ],
)
def test_what_is_no_calibration_is_refused(text: str) -> None:
    sentence = f"{text!r} is not a calibration; write max, mse or percentile:99.95"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Calibration.parse(text)


def test_settings_take_their_texts_in_python_too() -> None:
    settings = WeightSettings.model_validate({"int4_granularity": "rows:32", "calibration": "mse"})
    assert settings.int4_granularity == Granularity(rows=32)
    assert settings.calibration == Calibration(method="mse")
