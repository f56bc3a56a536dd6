"""What the tables of a parity run say about rungs, layers and changed examples."""

from pathlib import Path

import numpy as np
from parity_models import rung
from rich.console import Console
from rich.table import Table

from nxmi_export.artefact import Artefact, LinearRecord, Manifest, Source
from nxmi_export.parity import (
    Explanation,
    ParityResult,
    Stage,
    Step,
    Verdict,
    compare,
)
from nxmi_export.report.parity_tables import changes_table, ladder_table, proof_table

LOGITS = np.array([[1, 0], [0, 1]] * 4, np.float32)


def _text(*tables: Table) -> str:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        for table in tables:
            console.print(table)
    return capture.get()


def _artefact(*storages: str) -> Artefact:
    linears = {
        f"layer.{number}": LinearRecord(storage=storage, inputs=4, outputs=4, zeros=0.5)
        for number, storage in enumerate(storages)
    }
    manifest = Manifest(
        created="2026-01-01T00:00:00+00:00",
        architecture="BertForSequenceClassification",
        model_type="bert",
        input_names=("input_ids",),
        position_limit=64,
        labels=("negative", "positive"),
        source=Source(path="model.pt", sha256=None),
        recipe=None,
        provenance={},
        versions={},
        linears=linears,
    )
    return Artefact(Path("model.artefact"), manifest)


def _proof(*storages: str) -> str:
    result = ParityResult({Stage.COMPRESSED: rung(LOGITS)})
    return _text(proof_table(result, Verdict(()), _artefact(*storages), None))


def test_only_sparse_int8_counts_as_sparse_on_stored_integers() -> None:
    text = _proof("2:4+int8", "2:4+int8", "int8", "2:4", "dense")
    assert "2 x 2:4+int8, 1 x int8, 1 x 2:4, 1 x dense" in text
    assert "2 of 4 compressed" in text


def test_sparse_floats_are_no_sparse_integers() -> None:
    assert "0 of 3 compressed" in _proof("2:4", "2:4", "2:4", "dense")


def test_each_changed_example_says_what_is_known_and_the_worst_come_first() -> None:
    after = LOGITS.copy()
    after[:4] = after[:4, ::-1]
    comparison = compare(rung(LOGITS, name="pytorch"), rung(after, name="onnx"))
    explanations = (
        Explanation(0, True, "A tie."),
        Explanation(1, None, "Its codes are hidden."),
        Explanation(2, False, "No tie."),
    )
    text = _text(*changes_table(Step(Stage.COMPRESSED, Stage.WRITTEN, comparison, explanations)))
    assert "changed by onnx: 4 (2 unexplained, 1 not observable, 1 explained)" in text
    places = [
        text.index(words)
        for words in (
            "unexplained: No tie.",
            "unexplained: It was not examined.",
            "not observable: Its codes are hidden.",
        )
    ]
    assert places == sorted(places)
    assert "A tie." not in text  # only three are shown


def test_no_table_where_nothing_changed() -> None:
    step = Step(Stage.COMPRESSED, Stage.WRITTEN, compare(rung(LOGITS), rung(LOGITS)))
    assert list(changes_table(step)) == []


def test_the_shifted_rung_says_how_many_it_ran_and_whether_it_is_equal() -> None:
    written, shifted = rung(LOGITS, name="plain"), rung(LOGITS[:4], name="shifted")
    for logits, word in ((LOGITS[:4], "equal"), (LOGITS[:4] * np.float32(1.5), "0.5")):
        comparison = compare(rung(LOGITS[:4]), rung(logits))
        step = Step(Stage.WRITTEN, Stage.SHIFTED, comparison)
        rungs = {Stage.WRITTEN: written, Stage.SHIFTED: shifted}
        (line,) = (
            line
            for line in _text(ladder_table(ParityResult(rungs, (step,)))).splitlines()
            if "shifted, first 4" in line
        )
        assert word in line
