"""What a caller passes in, texts or pairs of texts out; whatever is neither is refused."""

from collections.abc import Iterable
from typing import Any, TypeAlias

from nxmi_export.errors import UsageError

__all__ = ["Text", "checked_texts"]

Text: TypeAlias = str | tuple[str, str]
"""One text, or a pair of them."""

_KINDS = {1: "one text", 2: "a pair of texts"}
_REMEDIES = {1: "pass each text alone", 2: "pass each as (first, second)"}


def checked_texts(texts: Iterable[Any], columns: int | None) -> list[Text]:
    """All of them, pairs as tuples; `columns` says how many texts make one input, None: any.

    Raises UsageError for a lone text, for what is no text, and for inputs of the other kind.
    """
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise UsageError(
            "predicting",
            expected="a list of texts, or of pairs of texts",
            found=f"a lone {type(texts).__name__}",
            remedy="put it in a list",
        )
    found = [_checked(place, text) for place, text in enumerate(texts)]
    wanted = columns or (_columns(found[0]) if found else 1)
    for place, text in enumerate(found):
        if _columns(text) != wanted:
            raise UsageError(
                f"input {place}",
                expected=_KINDS[wanted] + (", as in training" if columns else ", as the first"),
                found=_KINDS[_columns(text)],
                remedy=_REMEDIES[wanted],
            )
    return found


def _columns(text: Text) -> int:
    return 1 if isinstance(text, str) else 2


def _checked(place: int, text: Any) -> Text:
    if isinstance(text, str):
        return _decodable(place, text)
    if isinstance(text, tuple | list) and len(text) == 2:
        first, second = text
        if isinstance(first, str) and isinstance(second, str):
            return _decodable(place, first), _decodable(place, second)
    raise UsageError(
        f"input {place}",
        expected="a text or a pair of texts",
        found=f"a {type(text).__name__}",
        remedy="convert it to str first",
    )


def _decodable(place: int, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"input {place}",
            expected="Unicode text",
            found=f"half of a surrogate pair at character {error.start}",
            remedy="decode the bytes it came from in their own encoding",
        ) from error
    return text
