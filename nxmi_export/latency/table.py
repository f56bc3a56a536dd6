"""`latency.json`: how long each linear takes in each kind, where that was found, and how.

A table is either measured on a device or computed from datasheets, and it says which: `source`
travels with every number taken from it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from nxmi_export.errors import UsageError
from nxmi_export.output_files import atomic_file

__all__ = ["INT8_OUT", "KINDS", "Gemm", "Kind", "LatencyTable", "Source"]

Kind: TypeAlias = Literal["float", "int8", "int8 out", "int8 2:4"]
"""How a linear is run: floating point; INT8 in and weights; INT8 out too; and 2:4 weights too."""

Source: TypeAlias = Literal["measured", "analytical"]
"""Where the seconds come from: a clock, or peaks and bandwidths of a datasheet."""

KINDS: tuple[Kind, ...] = get_args(Kind)
INT8_OUT: tuple[Kind, ...] = ("int8 out", "int8 2:4")  # kinds that round what they put out

_SCHEMA = "nxmi-export/latency-table/2"
_DISTURBED = 1.25  # median over undisturbed time: beyond it other processes have taken part
_MAKE_ONE = "make one with nxmi-export latency MODEL --device DEVICE -o FILE"


class Gemm(NamedTuple):
    """One linear at one number of rows, run as one kind."""

    rows: int  # batch × sequence
    inputs: int  # K
    outputs: int  # N
    kind: Kind


@dataclass(frozen=True)
class LatencyTable:
    """Seconds of linears on `device`.

    `rest` is what one forward pass spends outside its linears, in seconds by what it is spent on;
    empty where the table was made of bare shapes. `conditions` are what the numbers depend on:
    batch, sequence, threads, versions, and what was assumed.
    """

    entries: Mapping[Gemm, float]  # seconds of one call
    source: Source
    device: str
    conditions: Mapping[str, str | int | float] = field(default_factory=dict)
    rest: Mapping[str, float] = field(default_factory=dict)  # seconds of one forward pass

    @property
    def rest_seconds(self) -> float:
        """What one forward pass spends outside its linears; 0 where the table does not know."""
        return sum(self.rest.values())

    @property
    def disturbance(self) -> str:
        """Where its runs say that other work slowed them: how far, in words; else nothing."""
        spread = self.conditions.get("spread", 1.0)
        if not isinstance(spread, float) or spread <= _DISTURBED:
            return ""
        return (
            f"runs of one linear took up to {spread:.1f} times its table entry; the machine was "
            "busy, so measure again when it is idle"
        )

    @property
    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        """Every (rows, inputs, outputs) of the table, sorted."""
        return tuple(sorted({(gemm.rows, gemm.inputs, gemm.outputs) for gemm in self.entries}))

    def seconds(self, rows: int, inputs: int, outputs: int, kind: Kind) -> float:
        """Of one linear; raises UsageError naming the shape the table lacks.

        Nothing is interpolated: the time of a GEMM is no smooth function of its shape.
        """
        found = self.entries.get(Gemm(rows, inputs, outputs, kind))
        if found is None:
            raise UsageError(
                f"latency table of {self.device}",
                expected=f"the time of a linear of {rows} rows, {inputs} inputs and {outputs} "
                f"outputs as {kind!r}",
                found=self._nearest(rows, inputs, outputs),
                remedy="make the table of this model with nxmi-export latency, "
                "at the batch and sequence of the search",
            )
        return found

    def given(self, **conditions: str | int | float) -> Self:
        """The same table with more `conditions`, in front of those it has."""
        return replace(self, conditions={**conditions, **self.conditions})

    def write(self, path: Path) -> None:
        """Write the table as JSON, whole or not at all; raises OutputError."""
        with atomic_file(path) as temporary:
            temporary.write_text(f"{json.dumps(self.as_json(), indent=1)}\n", encoding="utf-8")

    def as_json(self) -> dict[str, Any]:
        """The table as plain data, its entries sorted by shape."""
        linears = (
            {**gemm._asdict(), "seconds": seconds}
            for gemm, seconds in sorted(self.entries.items(), key=_by_shape)
        )
        return {
            "schema": _SCHEMA,
            "source": self.source,
            "device": self.device,
            "conditions": dict(self.conditions),
            "rest": dict(self.rest),
            "linears": list(linears),
        }

    @classmethod
    def read(cls, path: Path) -> "LatencyTable":
        """The table in the file at `path`; raises UsageError where that is none."""
        try:
            document = _Document.model_validate_json(path.read_bytes())
        except OSError as error:
            raise UsageError(
                path,
                expected="a latency table",
                found=error.strerror or str(error),
                remedy=_MAKE_ONE,
            ) from error
        except ValidationError as error:
            raise _unreadable(path, _complaint(error)) from error
        entries = {entry.gemm: entry.seconds for entry in document.linears}
        if len(entries) < len(document.linears):
            raise _unreadable(path, "two times of the same linear")
        return cls(entries, document.source, document.device, document.conditions, document.rest)

    @classmethod
    def is_at(cls, path: Path) -> bool:
        """Whether there is a table at `path` that `read` would return."""
        try:
            cls.read(path)
        except UsageError:
            return False
        return True

    def _nearest(self, rows: int, inputs: int, outputs: int) -> str:
        kinds = [kind for kind in KINDS if Gemm(rows, inputs, outputs, kind) in self.entries]
        if kinds:
            return f"only {', '.join(map(repr, kinds))} of that shape"
        elsewhere = sorted({r for r, k, n in self.shapes if (k, n) == (inputs, outputs)})
        if elsewhere:
            return f"that linear at {', '.join(map(str, elsewhere))} rows"
        return f"{len(self.shapes)} other shapes"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Entry(_Strict):
    rows: PositiveInt
    inputs: PositiveInt
    outputs: PositiveInt
    kind: Kind
    seconds: PositiveFloat

    @property
    def gemm(self) -> Gemm:
        return Gemm(self.rows, self.inputs, self.outputs, self.kind)


class _Document(_Strict):
    schema_name: Literal["nxmi-export/latency-table/2"] = Field(alias="schema")
    source: Source
    device: str
    conditions: dict[str, str | int | float]
    rest: dict[str, PositiveFloat]
    linears: list[_Entry] = Field(min_length=1)


def _by_shape(item: tuple[Gemm, float]) -> tuple[int, int, int, int]:
    gemm = item[0]
    return gemm.rows, gemm.inputs, gemm.outputs, KINDS.index(gemm.kind)


def _complaint(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "the file"
    return f"{place}: {first['msg']}"


def _unreadable(path: Path, found: str) -> UsageError:
    return UsageError(
        path, expected="a latency table that this version reads", found=found, remedy=_MAKE_ONE
    )
