"""One good graph, and mutations of it for every rule of the linter.

Every mutation finds its place by module name, in the first encoder block.
"""

from samples.bad_graphs import (
    attention,
    code_types,
    linears,
    operators,
    scales,
    sequence,
    sparsity,
    weights,
    zero_points,
)
from samples.bad_graphs.bad_graph import BadGraph

__all__ = ["BAD_GRAPHS", "BadGraph"]

BAD_GRAPHS: tuple[BadGraph, ...] = (
    *operators.GRAPHS,
    *code_types.GRAPHS,
    *zero_points.GRAPHS,
    *scales.GRAPHS,
    *weights.GRAPHS,
    *linears.GRAPHS,
    *attention.GRAPHS,
    *sparsity.GRAPHS,
    *sequence.GRAPHS,
)
