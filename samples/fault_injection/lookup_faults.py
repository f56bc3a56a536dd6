"""Tables that are right and looked up in wrong rows, some of which no text of a dev set has."""

from typing import Any

import numpy as np
import onnx_ir as ir

from nxmi_export.errors import ShapeError
from passes.constants import store
from samples.fault_injection.fault import Fault, Plant
from samples.fault_injection.naming import Cause, Kind, Naming, drifted, refused
from samples.fault_injection.observe import unread_token
from samples.fault_injection.places import POSITIONS, TYPES, WORDS, add_node, node_of
from samples.fault_injection.site import Site

__all__ = ["FAULTS"]

SEEN_POSITIONS = 24  # more tokens than the longest review has, fewer than the model takes


def _planted(edit: Any, naming: Naming) -> Plant:
    def plant(site: Site) -> Naming:
        site.edit(edit)
        return naming

    return plant


def _in_the_wrong_row(module: str) -> Naming:
    return drifted(Cause.OPERATOR, module, Kind.EMBEDDING)


def _positions_shifted(model: ir.Model) -> None:
    """Position ids start at 1, as behind a padding index."""
    gather = node_of(model, POSITIONS, "Gather")
    one = store(model.graph, np.int64(1), "planted_one")
    gather.replace_input_with(1, add_node(gather, "Add", [gather.inputs[1], one]))


def _positions_clamped(model: ir.Model) -> None:
    """Tokens beyond those that the reviews have all get one position."""
    gather = node_of(model, POSITIONS, "Gather")
    last = store(model.graph, np.int64(SEEN_POSITIONS), "planted_last")
    gather.replace_input_with(1, add_node(gather, "Min", [gather.inputs[1], last]))


def _types_lost(model: ir.Model) -> None:
    """As in an export that was tried with single sentences alone."""
    gather = node_of(model, TYPES, "Gather")
    none = store(model.graph, np.int64(0), "planted_no_type")
    gather.replace_input_with(1, add_node(gather, "Mul", [gather.inputs[1], none]))


def _word_misread(site: Site) -> Naming:
    """A token that no text of the dev set holds is looked up as the one before it."""
    unread = unread_token(site.directory, site.projects)

    def edit(model: ir.Model) -> None:
        gather = node_of(model, WORDS, "Gather")
        ids = gather.inputs[1]
        token, other = (
            store(model.graph, np.int64(row), name)
            for row, name in ((unread, "planted_token"), (unread - 1, "planted_other"))
        )
        same = add_node(gather, "Equal", [ids, token])
        gather.replace_input_with(1, add_node(gather, "Where", [same, other, ids]))

    site.edit(edit)
    return _in_the_wrong_row(WORDS)


def _types_inverted(model: ir.Model) -> None:
    gather = node_of(model, TYPES, "Gather")
    one = store(model.graph, np.int64(1), "planted_type")
    gather.replace_input_with(1, add_node(gather, "Sub", [one, gather.inputs[1]]))


_BEYOND_THE_TABLE = refused(
    f"to be looked up by {POSITIONS} (Gather", found="which the graph computes", error=ShapeError
)

FAULTS = (
    Fault(
        "positions shifted by one",
        "look-ups",
        # The last position has no row, where shapes are compared.
        _planted(_positions_shifted, _BEYOND_THE_TABLE),
    ),
    Fault(
        "positions clamped behind the longest text",
        "look-ups",
        _planted(_positions_clamped, _in_the_wrong_row(POSITIONS)),
    ),
    Fault("token types inverted", "look-ups", _planted(_types_inverted, _in_the_wrong_row(TYPES))),
    Fault(
        "token types lost, in a task of one text",
        "look-ups",
        _planted(_types_lost, _in_the_wrong_row(TYPES)),
    ),
    Fault("a token that no text has read as another", "look-ups", _word_misread),
)
