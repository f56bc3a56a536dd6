"""N:M sparsity of stored weights: the stamp a certified layer carries, and the check behind it."""

from typing import NamedTuple

import onnx_ir as ir

from passes.errors import InvalidGroups, SparsityRefuted
from passes.linear_layers import LinearLayer
from passes.numerics import group_violations
from passes.provenance import describe

__all__ = ["SPARSITY_KEY", "Groups", "check_groups", "stamp_of"]

SPARSITY_KEY = "nxmi.sparsity"  # on the MatMul or Gemm of a certified layer: "2:4"


class Groups(NamedTuple):
    """At most `keep` non-zeros in every `group` neighbours along the reduction axis."""

    keep: int
    group: int

    def __str__(self) -> str:
        return f"{self.keep}:{self.group}"


def stamp_of(node: ir.Node) -> Groups | None:
    """The pattern that `node` was certified to have; raises `InvalidGroups` if it is no pattern."""
    text = node.metadata_props.get(SPARSITY_KEY)
    if text is None:
        return None
    keep, _, group = text.partition(":")
    if not (keep.isdecimal() and group.isdecimal()):
        raise InvalidGroups(
            describe(node),
            expected="a stamp such as 2:4",
            found=repr(text),
            remedy=f"remove {SPARSITY_KEY} from the node and certify again",
        )
    return Groups(int(keep), int(group))


def check_groups(layer: LinearLayer, groups: Groups) -> None:
    """Raise `SparsityRefuted` unless the stored numbers of `layer` have the pattern, exactly.

    The stored numbers are the integer codes of a quantized layer and the floats of any other;
    groups run along the reduction axis, the one that sparse tensor cores skip along.
    """
    weight = layer.weight
    stored = weight.stored
    violations = group_violations(stored, *groups, axis=weight.reduction_axis)
    if not len(violations):
        return
    first = violations[0]
    start = int(first[weight.reduction_axis]) * groups.group
    channel = int(first[weight.output_axis])
    row = stored.take(channel, axis=weight.output_axis)
    raise SparsityRefuted(
        describe(layer.node),
        expected=f"at most {groups.keep} non-zeros in every {groups.group} weights along its input",
        found=(
            f"{row[start : start + groups.group].tolist()} at inputs {start} to "
            f"{start + groups.group - 1} of output channel {channel}, one of "
            f"{len(violations)} such groups"
        ),
        remedy="project the weight before it is exported, or record the layer as dense",
    )
