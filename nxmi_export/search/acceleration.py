"""A latency model in, the seconds of a program's solutions as a linear expression out.

    a     linear i runs as "int8 2:4"            a = x ∧ q₁ ∧ … ∧ qₙ:  a ≤ x,  a ≤ q,
    x     its scheme is 2:4 with bits                                  a ≥ x + Σ q − n
    q     of one need of its INT8 output,        q = Σ x[bits]; where several linears can meet
          some linear is quantized               the need, a column of its own: each ≤ q ≤ Σ each

Both directions count: where sparse kernels are slower, no solution may leave them out of its sum.
"""

from collections.abc import Iterable

from nxmi_export.search.latency_model import LatencyModel, LinearLatency, accelerable
from nxmi_export.search.program import Coefficients, Program, Row

__all__ = ["seconds_of"]


def seconds_of(program: Program, model: LatencyModel) -> Coefficients:
    """What every column adds to `model.rest`; the columns it takes are added to `program`."""
    return _Seconds(program, model).coefficients


class _Seconds:
    def __init__(self, program: Program, model: LatencyModel) -> None:
        self._program = program
        self._groups = {
            linear: index
            for index, group in enumerate(program.space.groups)
            for linear in group.linears
        }
        self._any_quantized: dict[frozenset[int], Coefficients] = {}
        self.coefficients: dict[int, float] = {}
        for linear in model.linears:
            self._add_linear(linear)

    def _add_linear(self, linear: LinearLatency) -> None:
        index = self._groups[linear.name]
        group, columns = self._program.space.groups[index], self._program.choices[index]
        for text, scheme in group.by_text.items():
            seconds = linear.seconds["int8" if scheme.bits else "float"]
            self._cost(columns[text], seconds)
        sparse = [columns[text] for text, scheme in group.by_text.items() if accelerable(scheme)]
        if linear.needs is None or not sparse:
            return
        accelerated = self._conjunction(
            [dict.fromkeys(sparse, 1.0), *map(self._quantized, linear.needs)]
        )
        self._cost(accelerated, linear.seconds["int8 2:4"] - linear.seconds["int8"])

    def _cost(self, column: int, seconds: float) -> None:
        self.coefficients[column] = self.coefficients.get(column, 0.0) + seconds

    def _quantized(self, linears: Iterable[str]) -> Coefficients:
        """1 where any of these is quantized, else 0."""
        groups = frozenset(self._groups[linear] for linear in linears)
        if groups not in self._any_quantized:
            self._any_quantized[groups] = self._disjunction(
                [self._has_bits(index) for index in sorted(groups)]
            )
        return self._any_quantized[groups]

    def _has_bits(self, index: int) -> Coefficients:
        group, columns = self._program.space.groups[index], self._program.choices[index]
        return {columns[text]: 1.0 for text, scheme in group.by_text.items() if scheme.bits}

    def _disjunction(self, parts: list[Coefficients]) -> Coefficients:
        if len(parts) == 1:
            return parts[0]
        column = self._program.add_column()
        for part in parts:
            self._program.add_row(_difference({column: 1.0}, [part], low=0))
        self._program.add_row(_difference({column: 1.0}, parts, high=0))
        return {column: 1.0}

    def _conjunction(self, parts: list[Coefficients]) -> int:
        column = self._program.add_column()
        for part in parts:
            self._program.add_row(_difference({column: 1.0}, [part], high=0))
        self._program.add_row(_difference({column: 1.0}, parts, low=1 - len(parts)))
        return column


def _difference(first: Coefficients, others: list[Coefficients], **limits: float) -> Row:
    total = dict(first)
    for other in others:
        for column, value in other.items():
            total[column] = total.get(column, 0.0) - value
    return Row(total, **limits)
