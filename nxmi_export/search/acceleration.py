"""A latency model in, the seconds of a program's solutions as a linear expression out.

    o     linear i puts INT8 out                 o = x ∧ q₁ ∧ … ∧ qₙ:  o ≤ x,  o ≤ q,
    x     its scheme has bits                                          o ≥ x + Σ q − n
    q     of one need of its INT8 output,        q = Σ x[bits]; where several linears can meet
          some linear is quantized               the need, a column of its own: each ≤ q ≤ Σ each
    a     it runs as "int8 2:4"                  a = o ∧ y
    y     its scheme is 2:4 with bits

Both directions count: where sparse kernels are slower, no solution may leave them out of its sum.
Linears that need one another, as query, key and value do, have one o; where all schemes with bits
are 2:4 or none is, o is enough; and where nothing else is needed, x and y are.
"""

from collections.abc import Iterable, Sequence

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
        self._all_of: dict[frozenset[frozenset[int]], Coefficients] = {}
        self.coefficients: dict[int, float] = {}
        for linear in model.linears:
            self._add_linear(linear)

    def _add_linear(self, linear: LinearLatency) -> None:
        index, seconds = self._groups[linear.name], linear.seconds
        group, columns = self._program.space.groups[index], self._program.choices[index]
        for text, scheme in group.by_text.items():
            is_int8 = linear.multiplies_int8(scheme)
            self._cost([columns[text]], seconds["int8" if is_int8 else "float"])
        quantized = self._has_bits(index)
        if linear.needs is None or not quantized:
            return
        rounded = self._conjunction([quantized, *map(self._quantized, linear.needs)])
        sparse = {columns[text]: 1.0 for text, each in group.by_text.items() if accelerable(each)}
        if sparse == quantized:
            self._cost(rounded, seconds["int8 2:4"] - seconds["int8"])
            return
        self._cost(rounded, seconds["int8 out"] - seconds["int8"])
        if sparse:
            accelerated = self._conjunction([rounded, sparse])
            self._cost(accelerated, seconds["int8 2:4"] - seconds["int8 out"])

    def _cost(self, columns: Iterable[int], seconds: float) -> None:
        for column in columns:
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

    def _disjunction(self, parts: Sequence[Coefficients]) -> Coefficients:
        if len(parts) == 1:
            return parts[0]
        column = self._program.add_column()
        for part in parts:
            self._program.add_row(_difference({column: 1.0}, [part], low=0))
        self._program.add_row(_difference({column: 1.0}, parts, high=0))
        return {column: 1.0}

    def _conjunction(self, parts: Sequence[Coefficients]) -> Coefficients:
        """1 where every part is 1; each is a sum of columns of which a solution takes one."""
        # One that is 1 wherever another is says nothing.
        sets = {frozenset(part) for part in parts}
        needed = frozenset(each for each in sets if not any(other < each for other in sets))
        if needed not in self._all_of:
            sums = [dict.fromkeys(each, 1.0) for each in sorted(map(sorted, needed))]
            self._all_of[needed] = sums[0] if len(sums) == 1 else self._column_of_all(sums)
        return self._all_of[needed]

    def _column_of_all(self, sums: Sequence[Coefficients]) -> Coefficients:
        column = self._program.add_column()
        for each in sums:
            self._program.add_row(_difference({column: 1.0}, [each], high=0))
        self._program.add_row(_difference({column: 1.0}, sums, low=1 - len(sums)))
        return {column: 1.0}


def _difference(first: Coefficients, others: Iterable[Coefficients], **limits: float) -> Row:
    total = dict(first)
    for other in others:
        for column, value in other.items():
            total[column] = total.get(column, 0.0) - value
    return Row(total, **limits)
