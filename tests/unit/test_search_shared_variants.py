from collections.abc import Collection
from typing import Any

import pytest
import torch

from nxmi_export.compression.encoder_layout import layout_of
from nxmi_export.errors import CheckpointError
from nxmi_export.recipe import Recipe, Scheme
from nxmi_export.search.shared_variants import shared_variants
from nxmi_export.search.variants import Variants, variants
from tests.tiny_models import tiny_model, toy_data
from tests.unit.made_up_launch import launched

SCHEMES = tuple(map(Scheme.parse, ("2:4", "int8", "2:4+int4")))
LINEARS = tuple(name for block in layout_of(tiny_model()) for name in block.linears)


def _shared(monkeypatch: pytest.MonkeyPatch, count: int) -> list[tuple[Variants, list[str]]]:
    """Of each process what it has in the end, and what it prepared."""
    models = [tiny_model() for _ in range(count)]

    def run(accelerator: Any) -> tuple[Variants, list[str]]:
        model, own = models[accelerator.process_index], list[str]()

        def prepare(only: Collection[str]) -> Variants:
            own.extend(only)
            wanted = dict.fromkeys(LINEARS, SCHEMES)
            return variants(model, wanted, Recipe(), toy_data(64), "reconstruction", only=only)

        dense = {name: model.get_parameter(f"{name}.weight").detach() for name in LINEARS}
        return shared_variants(dense, prepare, accelerator), own

    return launched(monkeypatch, count, run)


def test_each_process_prepares_some_linears_and_all_have_what_one_alone_prepares(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [(whole, every)] = _shared(monkeypatch, 1)
    assert tuple(every) == LINEARS
    processes = _shared(monkeypatch, 5)  # some have two of the 12 linears, others three
    assert sorted(name for _, own in processes for name in own) == sorted(LINEARS)
    assert {len(own) for _, own in processes} == {2, 3}
    for found, _ in processes:
        assert found.linears == whole.linears
        for name in LINEARS:
            assert found.schemes(name) == SCHEMES
            for scheme in SCHEMES:
                assert torch.equal(found.weight(name, scheme), whole.weight(name, scheme))
                assert found.error(name, scheme) == whole.error(name, scheme)
                scales = [each.scale(name, scheme) for each in (found, whole)]
                assert None in scales or torch.equal(*scales)
                assert scales.count(None) == (2 if scheme.bits is None else 0)


def test_the_linears_that_take_longest_are_dealt_out_evenly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for _, own in _shared(monkeypatch, 2):
        assert sum(".attention." not in name and "output" in name for name in own) == 1
        assert sum("intermediate" in name for name in own) == 1


def test_what_one_process_cannot_prepare_all_of_them_refuse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def prepare(only: Collection[str]) -> Variants:
        if LINEARS[-1] in only:
            raise CheckpointError(LINEARS[-1], expected="a", found="b", remedy="c")
        return Variants({}, {})

    def run(accelerator: Any) -> str:
        with pytest.raises(CheckpointError) as raised:
            shared_variants(dict.fromkeys(LINEARS, torch.zeros(4, 4)), prepare, accelerator)
        return str(raised.value)

    assert launched(monkeypatch, 3, run) == [f"{LINEARS[-1]}: expected a, found b; c"] * 3
