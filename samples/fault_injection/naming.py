"""What a correct naming of a fault says, and whether a cause that the product states is that.

A cause is plain data: the facts of one stored number, of one rung's drift, or of one refusal, as
`outcome` takes them from the product's own documents and errors. No sentence is searched for a
word, but for the parts of a refusal, which has no other facts than subject, expectation and
finding.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

from nxmi_export.artefact import MODEL
from nxmi_export.errors import ArtefactError, NxmiError
from nxmi_export.parity import Stage
from nxmi_export.parity.drift import Cause, Kind

__all__ = [
    "UNSEEN",
    "Cause",
    "Kind",
    "Naming",
    "another_checkpoint",
    "drifted",
    "is_named",
    "refused",
    "stored",
]

Naming: TypeAlias = Mapping[str, Any]
"""The facts that a correct naming has, each equal; a few hold the fact among others (`_AMONG`)."""

UNSEEN: Naming = {}  # of what no output shows and no stored number is: nothing to be named
_AMONG = ("expected", "met", "absent")


def stored(
    module: str,
    what: str,
    *,
    file: str = MODEL,
    position: tuple[int, ...] | None = None,
    found: object = None,
) -> Naming:
    """A stored number of `module` in `file`; `what` is as `Mismatch` calls it."""
    told = {"by": "stored number", "file": file, "module": module, "what": what}
    more: dict[str, Any] = {} if position is None else {"position": list(position)}
    return told | more | ({} if found is None else {"found": str(found)})


def another_checkpoint(file: str) -> Naming:
    """A file most of whose numbers are others."""
    return {"by": "foreign file", "file": file}


def drifted(
    cause: Cause,
    module: str,
    kind: Kind,
    *,
    rung: Stage = Stage.WRITTEN,
    maker: str | None = None,
    absent: str | None = None,
) -> Naming:
    """The first value beyond rounding, and its cause.

    `maker` is the module that makes the value, where the value is the next one that can be seen;
    `absent` is a point that the graph does not show before it.
    """
    told = {"by": "drift", "rung": rung.value, "cause": cause.value, "module": module}
    more = {name: value for name, value in (("maker", maker), ("absent", absent)) if value}
    return told | {"kind": kind.value} | more


def refused(
    expected: str,
    *,
    subject: str = "",
    found: str = "",
    error: type[NxmiError] = ArtefactError,
) -> Naming:
    """An error, by the parts of its sentence; `subject` is the name of a file."""
    told = {"by": "refusal", "error": error.__name__, "expected": expected}
    more = {name: value for name, value in (("subject", subject), ("met", found)) if value}
    return told | more


def is_named(naming: Naming, causes: list[dict[str, Any]]) -> bool:
    """Whether the first cause that the product states is the one that was planted.

    Later ones do not count: whoever reads the report begins with the first.
    """
    if not naming or not causes:
        return False
    first = causes[0]
    return all(
        name in first and (value in first[name] if name in _AMONG else value == first[name])
        for name, value in naming.items()
    )
