import subprocess
import sys
from types import TracebackType
from typing import Self

import numpy as np
import pytest

import nxmi_export.backends as backends
from nxmi_export.backends import Feeds, Outputs, Runner, check_feeds
from nxmi_export.errors import UsageError


class FakeRunner:
    """Answers every batch with the number of tokens its mask keeps."""

    name = "fake"
    input_names = ("input_ids", "attention_mask")

    def run(self, feeds: Feeds) -> Outputs:
        check_feeds(self, feeds)
        kept = feeds["attention_mask"].sum(axis=1, keepdims=True)
        return {"logits": kept.astype(np.float32)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


def test_public_names() -> None:
    assert backends.__all__ == ["Feeds", "Outputs", "Runner", "check_feeds"]


@pytest.mark.parametrize(
    "package", ["nxmi_export.backends", "nxmi_export.backends.tensorrt_engine"]
)
def test_importing_the_package_loads_no_framework(package: str) -> None:
    program = f"import sys, {package}; print(*sys.modules, sep='\\n')"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(run.stdout.splitlines())
    assert package in loaded
    assert loaded & {"torch", "onnxruntime", "onnx", "tensorrt", "tensorrt_rtx"} == set()


def test_a_fake_satisfies_the_seam(batch: dict[str, np.ndarray]) -> None:
    runner: Runner
    with FakeRunner() as runner:
        assert runner.run(batch)["logits"].tolist() == [[7.0], [4.0]]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ((), "none"),
        (("input_ids",), "input_ids"),
        (
            ("input_ids", "attention_mask", "token_type_ids"),
            "input_ids, attention_mask, token_type_ids",
        ),
    ],
)
def test_feeds_must_be_exactly_the_inputs(names: tuple[str, ...], found: str) -> None:
    feeds = {name: np.zeros((1, 2), np.int64) for name in names}
    with pytest.raises(UsageError) as caught:
        FakeRunner().run(feeds)
    assert str(caught.value) == (
        f"fake: the batch: expected the inputs input_ids, attention_mask, found {found}; "
        "feed exactly the names in `input_names`"
    )
