"""A graph and fixes in; a mended copy and the account of every fix out."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from passes.contract import GraphPass
from passes.errors import PassError, PassFailed
from passes.ledger import Ledger, PassRecord
from passes.pipeline import lower

__all__ = ["Mended", "mend"]


@dataclass(frozen=True)
class Mended:
    """The mended model, and what each fix did or why it could not run."""

    model: ir.Model
    ledger: Ledger
    not_run: tuple[tuple[str, str], ...]  # fix, reason


def mend(model: ir.Model, fixes: Sequence[type[GraphPass]]) -> Mended:
    """Apply `fixes` in order to a copy of `model`, each held to its promises.

    A fix that refuses the graph, or assumes what does not hold in it, is left out with its reason:
    the findings it would have mended remain. Raises `PassError` for a graph that is not valid to
    begin with.
    """
    records: list[PassRecord] = []
    not_run: list[tuple[str, str]] = []
    current = model.clone()
    for fix in fixes:
        attempt = current.clone()
        try:
            records += lower(attempt, (fix(),), check_each=False, work_dir=None).records
        except PassFailed as failure:
            if not isinstance(failure.__cause__, PassError):
                raise
            not_run.append((fix.__name__, str(failure.__cause__)))
        else:
            current = attempt
    return Mended(current, Ledger(tuple(records)), tuple(not_run))
