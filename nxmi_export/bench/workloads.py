"""Text like "1x128,8x128" in, the shapes of the batches to time out."""

import re

from nxmi_export.errors import ShapeError
from nxmi_export.latency import Workload

__all__ = ["parse_workloads"]

_SHAPE = re.compile(r"\s*([1-9]\d*)x([1-9]\d*)\s*")


def parse_workloads(text: str, *, position_limit: int) -> tuple[Workload, ...]:
    """Read `BATCHxSEQUENCE,…`, each once, in the order they are written.

    Raises ShapeError for anything else, and for a sequence beyond the model's position table.
    """
    workloads: dict[Workload, None] = {}
    for part in text.split(","):
        match = _SHAPE.fullmatch(part)
        if match is None:
            raise ShapeError(
                "shapes",
                expected="the form 1x128,8x128 (batch x sequence of each)",
                found=repr(text),
                remedy="write whole numbers, and commas between the shapes",
            )
        workload = Workload(int(match[1]), int(match[2]))
        if workload.sequence > position_limit:
            raise ShapeError(
                f"shape {workload}",
                expected=f"at most {position_limit} tokens, the model's position table",
                found=f"{workload.sequence}",
                remedy="name a shorter sequence",
            )
        workloads[workload] = None
    return tuple(workloads)
