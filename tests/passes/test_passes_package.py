from pathlib import Path
from typing import Any

import passes
from tests.passes.sample_graphs import model_of


def test_the_pass_that_the_readme_writes_works() -> None:
    text = (Path(passes.__file__).parent / "README.md").read_text(encoding="utf-8")
    written: dict[str, Any] = {}
    exec(text.split("```python\n")[1].split("```")[0], written)
    model = model_of("""g (float[S] x) => (float[S] y) {
      [a__Identity] same = Identity(x)
      [b__Identity] y = Identity(same)
    }""")
    ledger = passes.lower(model, (written["DropIdentity"](),), check_each=True, work_dir=None)
    assert [type(entry) for entry in ledger.records[0].entries] == [passes.Change, passes.Skip]
    assert [node.inputs[0].name for node in model.graph if node.inputs[0]] == ["x"]


def test_an_error_gives_its_four_parts_as_json() -> None:
    error = passes.RefusedGraph("layer", expected="this", found="that", remedy="do so")
    assert str(error) == "layer: expected this, found that; do so"
    assert error.as_json() == {
        "error": "RefusedGraph",
        "subject": "layer",
        "expected": "this",
        "found": "that",
        "remedy": "do so",
    }
