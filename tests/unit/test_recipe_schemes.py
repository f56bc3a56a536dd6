import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nxmi_export.recipe import Pattern, Scheme


@st.composite
def patterns(draw: st.DrawFn) -> Pattern:
    group = draw(st.integers(2, 32))
    return Pattern(keep=draw(st.integers(1, group - 1)), group=group)


SCHEMES = st.builds(Scheme, pattern=st.none() | patterns(), bits=st.sampled_from([None, 4, 8]))


@given(SCHEMES)
def test_a_scheme_reads_back_from_its_text(scheme: Scheme) -> None:
    assert Scheme.parse(str(scheme)) == scheme


@pytest.mark.parametrize(
    ("text", "pattern", "bits"),
    [
        ("dense", None, None),
        ("2:4", Pattern(keep=2, group=4), None),
        ("int8", None, 8),
        ("int4", None, 4),
        ("1:2+int4", Pattern(keep=1, group=2), 4),
        ("4:8+int8", Pattern(keep=4, group=8), 8),
    ],
)
def test_schemes_in_words(text: str, pattern: Pattern | None, bits: int | None) -> None:
    scheme = Scheme.parse(text)
    assert (scheme.pattern, scheme.bits) == (pattern, bits)
    assert str(scheme) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "2:4+",
        "+int8",
        "int8+2:4",
        "2:4+int8+int4",
        "int16",
        "2:4 ",
        "-2:4",
        "٢:٤",
        "sparse",
    ],
)
def test_what_is_no_scheme_is_refused(text: str) -> None:
    sentence = f"{text!r} is not a scheme; write dense, N:M, int8, int4, N:M+int8 or N:M+int4"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Scheme.parse(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("4:4", "4:4 is not a pattern: 4:4 keeps every weight; write a keep below 4"),
        ("5:4", "5:4 is not a pattern: 5:4 keeps every weight; write a keep below 4"),
        ("0:4", "0:4 is not a pattern: keep should be greater than or equal to 1"),
        ("2:64", "2:64 is not a pattern: group should be less than or equal to 32"),
    ],
)
def test_what_is_no_pattern_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Scheme.parse(text)


@given(SCHEMES)
def test_two_schemes_of_one_text_are_equal_and_hash_alike(scheme: Scheme) -> None:
    assert len({scheme, Scheme.parse(str(scheme))}) == 1


def test_a_scheme_does_not_change() -> None:
    with pytest.raises(ValidationError, match="Instance is frozen"):
        Scheme.parse("2:4+int8").bits = 4
