import errno
import json
import math
import os
from pathlib import Path

import pytest

from nxmi_export.compression.progress import EpochDone, Residuals, StepDone
from nxmi_export.errors import OutputError, UsageError
from nxmi_export.glue import task_named
from nxmi_export.recipe import Recipe
from nxmi_export.workflow.compress import CompressRequest
from nxmi_export.workflow.compress.outputs import Outputs
from nxmi_export.workflow.compress.run_log import RunLog
from tests.unit.test_output_files import file_size_limit

PER_EPOCH = 3  # steps


def step(number: int, loss: float = 1.0) -> StepDone:
    epoch = (number - 1) // PER_EPOCH + 1
    return StepDone(number, 9, epoch, loss, {"labels": loss}, 1e-4)


def epoch(number: int, metric: float = 0.5) -> EpochDone:
    residuals = Residuals(0.5, 0.1, 0.2, 4e-3)
    return EpochDone(number, 3, PER_EPOCH * number, {"accuracy": metric}, {}, residuals)


def write(path: Path, *reports: StepDone | EpochDone, resume: bool = False) -> None:
    with RunLog(path, resume=resume) as log:
        for report in reports:
            log.add(report)


def lines(path: Path) -> list[tuple[str, int]]:
    entries = map(json.loads, path.read_text().splitlines())
    return [(entry["event"], entry["step"]) for entry in entries]


def first_steps(count: int) -> list[StepDone]:
    return [step(number) for number in range(1, count + 1)]


def test_a_line_is_in_the_file_as_soon_as_it_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with RunLog(path, resume=False) as log:
        log.add(step(1))
        assert lines(path) == [("step", 1)]


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        # a snapshot between epochs: the steps behind it are done again
        (step(3), [("step", 1), ("step", 2), ("step", 3)]),
        # at the end of an epoch: its own line is there already
        (step(4), [("step", 1), ("step", 2), ("step", 3), ("epoch", 3), ("step", 4)]),
        # before the first step: nothing was kept
        (step(1), [("step", 1)]),
        # after the last step of an epoch, before it was evaluated
        (epoch(1), [("step", 1), ("step", 2), ("step", 3), ("epoch", 3)]),
    ],
)
def test_a_resumed_run_forgets_what_it_does_again(
    tmp_path: Path, after: StepDone | EpochDone, kept: list[tuple[str, int]]
) -> None:
    path = tmp_path / "log"
    write(path, *first_steps(3), epoch(1), step(4), step(5))
    write(path, after, resume=True)
    assert lines(path) == kept


def test_a_resumed_run_that_has_nothing_to_do_keeps_the_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path, *first_steps(3), epoch(1))
    before = path.read_bytes()
    write(path, resume=True)
    assert path.read_bytes() == before


def test_a_line_that_was_cut_short_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path, step(1), step(2))
    path.write_bytes(path.read_bytes()[:-20])
    write(path, step(2), resume=True)
    assert lines(path) == [("step", 1), ("step", 2)]


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (b"{broken", "'{broken'"),
        (b"\xff\xfe", "'��'"),
        (b"[1, 2]", "'[1, 2]'"),
        (b'{"event": "step"}', '\'{"event": "step"}\''),
        (b"", "''"),
    ],
)
def test_another_line_that_is_damaged_is_refused(tmp_path: Path, damage: bytes, found: str) -> None:
    path = tmp_path / "log"
    write(path, *first_steps(3))
    first, _, third, end = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([first, damage, third, end]))
    before = path.read_bytes()
    with pytest.raises(UsageError) as caught:
        write(path, step(4), resume=True)
    assert str(caught.value) == (
        f"{path}, line 2: expected one step or epoch of the interrupted run, found {found}; "
        "delete the file to resume without what it tells, or pass --overwrite"
    )
    assert path.read_bytes() == before


def test_time_goes_on_from_where_the_kept_part_ended(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path, step(1), step(2))
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    first["seconds"], second["seconds"] = 100.0, 900.0
    path.write_text("".join(f"{json.dumps(each)}\n" for each in (first, second)))
    write(path, step(2), resume=True)
    again = json.loads(path.read_text().splitlines()[-1])
    assert 100.0 <= again["seconds"] < 200.0


def test_a_run_that_is_not_resumed_begins_its_log_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path, *first_steps(3))
    write(path, step(1))
    assert lines(path) == [("step", 1)]


def test_a_run_without_steps_leaves_no_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("of a run before")
    write(tmp_path / "log")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_number_becomes_null(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path, epoch(1, metric=math.nan))
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["metrics"] == {"accuracy": None}


def test_a_device_without_room_for_a_line_is_an_output_error(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with pytest.raises(OutputError) as caught, file_size_limit(200):
        write(path, *first_steps(3))
    assert str(caught.value) == (
        f"{path}: expected room for the log, found {os.strerror(errno.EFBIG)}; "
        "free some space and continue with --resume"
    )
    write(path, step(2), resume=True)
    assert lines(path) == [("step", 1), ("step", 2)]


def test_the_log_of_an_earlier_run_stays_until_the_next_one_has_something_to_tell(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log"
    write(path, *first_steps(3), epoch(1))
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), RunLog(path, resume=False):
        raise KeyboardInterrupt
    assert path.read_bytes() == before
    write(path, step(1))
    assert lines(path) == [("step", 1)]


def test_a_run_that_ends_without_a_report_leaves_no_log_of_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path, step(1))
    write(path)
    assert not path.exists()


def test_the_log_of_an_unfinished_run_goes_with_its_snapshots(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "model.pt")
    request = CompressRequest(
        model="dense",
        task=task_named("sst2"),
        output=outputs.model,
        recipe=Recipe(),
        recipe_name="own",
        overwrite=True,
    )
    write(outputs.log, step(1))
    outputs.begin(request)
    assert lines(outputs.log) == [("step", 1)]  # of a finished run, until there is another
    outputs.snapshots.mkdir()
    outputs.begin(request)
    assert not list(tmp_path.iterdir())
