"""The latency options of a search in, its `LatencyRequest` out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nxmi_export.errors import UsageError

if TYPE_CHECKING:
    # It loads torch, and --help should not.
    from nxmi_export.workflow.search import LatencyRequest

__all__ = ["OF_THE_CLOCK", "LatencyBudget"]

OF_THE_CLOCK = ("batch", "sequence", "threads")  # what latencies are measured or looked up for
_TIME = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(x|ms|s)")
_SECONDS = {"ms": 1e-3, "s": 1.0}


@dataclass(frozen=True)
class LatencyBudget:
    """What the command line says of time."""

    time: str | None  # "12ms", "0.7x"
    device: str | None
    table: Path | None
    batch: int
    sequence: int  # tokens
    threads: int | None

    def check(self, target: float | None, stated: Sequence[str] = ()) -> None:
        """Refuse what says too little, or the same thing twice; `target` is the size asked for.

        `stated` are those of `OF_THE_CLOCK` that were given. Raises UsageError.
        """
        if target is None and self.time is None:
            raise UsageError(
                "budget of the search",
                expected="--target, --latency or both",
                found="neither",
                remedy="pass --target 0.125 to have 87.5 % of the float32 size saved",
            )
        if self.device is not None and self.table is not None:
            raise UsageError(
                "latencies of the search",
                expected="--device or --latency-table",
                found="both",
                remedy="leave one of them out",
            )
        if self.time is not None:
            self._check_time(self.time)
        if stated and self.device is None and self.table is None:
            raise UsageError(
                f"--{stated[0]}",
                expected="--device or --latency-table, whose latencies it is of",
                found="neither",
                remedy="add one of them, or leave it out",
            )

    def request(self) -> "LatencyRequest | None":
        """None where nothing tells latencies; `check` has passed."""
        from nxmi_export.workflow.search import LatencyRequest

        if self.device is None and self.table is None:
            return None
        share, seconds = (None, None) if self.time is None else _share_or_seconds(self.time)
        return LatencyRequest(
            table=self.table,
            device=self.device,
            seconds=seconds,
            share=share,
            batch=self.batch,
            sequence=self.sequence,
            threads=self.threads,
        )

    def _check_time(self, time: str) -> None:
        _share_or_seconds(time)
        if self.device is None and self.table is None:
            raise UsageError(
                f"--latency {time}",
                expected="--device or --latency-table, which tell how long linears take",
                found="neither",
                remedy="pass --device onnxruntime to measure here, or the name of a GPU",
            )


def _share_or_seconds(time: str) -> tuple[float | None, float | None]:
    """(share of the dense model's latency, seconds), one of which is None."""
    match = _TIME.fullmatch(time)
    if match is None or not float(match[1]):
        raise UsageError(
            f"--latency {time}",
            expected="a time such as 12ms, or a share of the dense model's such as 0.7x",
            found="neither",
            remedy="write a number above 0 and its unit, without a space",
        )
    number = float(match[1])
    return (number, None) if match[2] == "x" else (None, number * _SECONDS[match[2]])
