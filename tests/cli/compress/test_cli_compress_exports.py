"""What compress writes goes into export and parity as it is."""

import json
from pathlib import Path

import pytest

from tests.cli.command_lines import Command
from tests.cli.compress.compress_runs import LAYERS, Run, write_dense
from tests.tiny_models import tiny_model

LINEARS = LAYERS // 2  # of one block, which has a linear of every component


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dense(tmp_path_factory.mktemp("models") / "dense", tiny_model(num_hidden_layers=1))


@pytest.mark.parametrize(
    ("name", "epochs", "stored"),
    [("deploy", 1, "2:4+int8"), ("w4", 0, "2:4+int8"), ("asp", 0, "2:4"), ("qat", 1, "int8")],
)
def test_a_compressed_model_exports_with_the_weights_it_has(
    nxmi_export: Command,
    dense: Path,
    data: Path,
    tmp_path: Path,
    name: str,
    epochs: int,
    stored: str,
) -> None:
    model, artefact, parity = (tmp_path / each for each in ("model.pt", "artefact", "parity.json"))
    task = ("--task", "sst2", "--data", data)
    outcome = nxmi_export(
        *("compress", dense, *task, "--recipe", name, "--epochs", epochs, "-o", model)
    )
    assert outcome.code == 0, outcome.err
    outcome = nxmi_export("export", model, "-o", artefact)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"{LINEARS} x {stored}, 2 x dense" in outcome.out

    outcome = nxmi_export("parity", artefact, *task, "-o", parity)
    (split,) = json.loads(parity.read_text())["splits"]
    # Whatever the gate says of a tiny model's rounding ties, its weights are those of model.pt.
    assert outcome.code == (0 if split["ok"] else 1), outcome.err
    assert split["weights"]
    for file, found in split["weights"].items():
        assert (found["equal"], found["compressed"]) == (True, LINEARS), file
    reported = Run(model).result["metrics"]["compressed"]["accuracy"]
    assert split["rungs"]["compressed"]["scores"]["accuracy"] == reported
