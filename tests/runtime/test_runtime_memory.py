"""What a session holds: one packed copy of the weights of products, and tables in their file."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

from nxmi_export.backends.openvino_library import find_openvino
from nxmi_export.errors import CapabilityMissing

ROOT = Path(__file__).resolve().parents[2]
LAYERS, WIDTH, ROWS = 40, 1024, 10_240
INTEGERS, TABLE = LAYERS * WIDTH * WIDTH, 4 * ROWS * WIDTH  # bytes, 42 MB each
ONE_COPY = 1.3  # with what describes the graph, and what libraries need on their first use

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="memory is told in Linux's way, and given back in glibc's"
)

# A fresh process for each reading, since memory that was freed before would be used again.
PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
from nxmi_export.backends.onnxruntime_options import EXACT_PRODUCTS
from nxmi_export.process_memory import process_memory
from nxmi_export.runtime.openvino_session import OpenVinoSession
from nxmi_export.runtime.session import Session

library, path = sys.argv[1], Path(sys.argv[2])
facts = dict(input_names=("input_ids",), outputs=2, threads=1)
if library == "openvino":
    from nxmi_export.backends.openvino_library import products
    products()
else:
    import onnxruntime
before = process_memory()
if library == "openvino":
    session = OpenVinoSession(path, **facts)
else:
    session = Session(path, path.read_bytes(), entries=EXACT_PRODUCTS, **facts)
loaded = process_memory()
held = np.fromfile(str(path) + ".data", np.int8) if "again" in sys.argv else None
after = process_memory()
session.logits({"input_ids": np.arange(32, dtype=np.int64).reshape(1, 32)})
run = process_memory()
print(json.dumps({
    "anonymous": after.anonymous - before.anonymous,
    "mapped": loaded.mapped - before.mapped,
    "anonymous after a run": run.anonymous - before.anonymous,
}))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of floats and a chain of INT8 products as `model.cpu.onnx` has them, not trained."""
    path = tmp_path_factory.mktemp("large") / "model.onnx"
    rng = np.random.default_rng(0)
    codes = {
        f"codes_{at}": rng.integers(-127, 128, (WIDTH, WIDTH), np.int8) for at in range(LAYERS)
    }
    small = {
        "scale": np.float32(0.05),
        "zero": np.uint8(128),
        "head": rng.normal(0, 0.02, (WIDTH, 2)).astype(np.float32),
        **{f"steps_{at}": np.full(WIDTH, 5e-4, np.float32) for at in range(LAYERS)},
        **{f"zeros_{at}": np.zeros(WIDTH, np.int8) for at in range(LAYERS)},
    }
    table = {"table": np.full((ROWS, WIDTH), 0.5, np.float32)}
    model = onnx.parser.parse_model(_graph())
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(each, name)
        for name, each in {**codes, **small, **table}.items()
    )
    onnx.save(
        model, path, save_as_external_data=True, location="model.onnx.data", size_threshold=16_384
    )
    return path


def _graph() -> str:
    layers = "\n".join(
        f"""
        q_{at} = QuantizeLinear (x_{at}, scale, zero)
        d_{at} = DequantizeLinear (q_{at}, scale, zero)
        w_{at} = DequantizeLinear <axis = 1> (codes_{at}, steps_{at}, zeros_{at})
        x_{at + 1} = MatMul (d_{at}, w_{at})"""
        for at in range(LAYERS)
    )
    return f"""
        <ir_version: 10, opset_import: ["": 20]>
        large (int64[batch, sequence] input_ids) => (float[batch, 2] logits) {{
        x_0 = Gather (table, input_ids)
        {layers}
        words = Constant <value_ints = [1]> ()
        mean = ReduceMean <keepdims = 0> (x_{LAYERS}, words)
        logits = MatMul (mean, head)
        }}
    """


def measured(large: Path, *arguments: str) -> dict[str, int]:
    command = [sys.executable, "-c", PROGRAM, arguments[0], str(large), *arguments[1:]]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    found: dict[str, int] = json.loads(outcome.stdout)
    return found


@pytest.fixture(scope="module")
def found(large: Path) -> dict[str, int]:
    return measured(large, "onnxruntime")


def test_a_session_holds_one_copy_of_the_weights_of_products(found: dict[str, int]) -> None:
    assert found["anonymous"] < ONE_COPY * INTEGERS
    # The packed one, without which products would be slow.
    assert found["anonymous"] > 0.9 * INTEGERS


def test_a_second_copy_would_be_seen(large: Path) -> None:
    found = measured(large, "onnxruntime", "again")
    assert found["anonymous"] > ONE_COPY * INTEGERS + TABLE / 2


def test_tables_stay_in_their_file(found: dict[str, int]) -> None:
    assert found["anonymous after a run"] < ONE_COPY * INTEGERS + TABLE / 2


def test_openvino_maps_what_it_loads(large: Path) -> None:
    try:
        find_openvino()
    except CapabilityMissing as missing:
        pytest.skip(str(missing))
    found = measured(large, "openvino")
    assert found["anonymous"] < ONE_COPY * INTEGERS
    assert found["mapped"] > 0
