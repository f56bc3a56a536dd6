"""Two processes and one output."""

import errno
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nxmi_export.errors import OutputError
from nxmi_export.sole_writer import sole_writer

HELD = (
    "expected an output that no other process is writing, found one at work on it; let it end, "
    "stop it, or choose another output with -o"
)


def test_what_another_process_writes_is_refused_until_it_dies(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    hold = (
        "import sys, pathlib; from nxmi_export.sole_writer import sole_writer\n"
        "with sole_writer(pathlib.Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(OutputError) as caught, sole_writer(path):
            pytest.fail("the block ran")
        assert str(caught.value) == f"{path}: {HELD}"
        other.kill()
    assert len(list(tmp_path.iterdir())) == 1  # nobody was there to delete it
    with sole_writer(path), sole_writer(path.with_name("other.pt")):
        pass
    assert not list(tmp_path.iterdir())


def test_a_patient_writer_waits_for_the_other(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    began, done = threading.Event(), []

    def write() -> None:
        with sole_writer(path):
            began.set()
            time.sleep(0.2)
            done.append("first")

    with ThreadPoolExecutor() as pool:
        first = pool.submit(write)
        began.wait()
        with sole_writer(path, patience=60):
            done.append("second")
        first.result()
    assert done == ["first", "second"]


def test_a_failed_writer_leaves_its_output_to_others(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), sole_writer(tmp_path / "model.pt"):
        raise RuntimeError("stop")
    assert not list(tmp_path.iterdir())


def test_no_lock_can_be_made_where_no_file_can(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught, sole_writer(tmp_path / "nowhere" / "model.pt"):
        pytest.fail("the block ran")
    assert str(caught.value) == (
        f"{tmp_path / 'nowhere'}: expected an output path in a writable folder, found No such file "
        "or directory; choose another output path or make its folder first"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_gives_none(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    with sole_writer(tmp_path / "model.pt"):
        pass
    assert not list(tmp_path.iterdir())
