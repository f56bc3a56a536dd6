import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nxmi_export.errors import OutputError
from nxmi_export.output_files import (
    atomic_directory,
    atomic_file,
    check_place,
    temporary_directory,
)

FULL = (
    "expected room for the whole output, found {}; free some space or choose another output path; "
    "nothing was written"
)
UNWRITABLE = "expected an output path in a writable folder, found {}; choose another output path"
MISSING = UNWRITABLE.format("No such file or directory") + " or make its folder first"
CLOSED = UNWRITABLE.format("Permission denied") + " or change the folder's permissions"
OCCUPIED = (
    "expected an empty or new output folder, found a folder with files in it; choose another with "
    "-o, or pass --overwrite to replace it"
)
OCCUPIED_BY_US = (
    "expected an output folder that can be replaced as a whole, found a mount point, or the "
    "working directory in it; name a new folder inside it"
)
STOPS = [RuntimeError("stop"), KeyboardInterrupt()]


def _write_directory(
    path: Path, stop: BaseException | None = None, *, overwrite: bool = False
) -> None:
    replaceable = _has_a_model if overwrite else None
    with atomic_directory(path, replaceable=replaceable) as folder:
        (folder / "model.onnx").write_text("new")
        if stop:
            raise stop


def _has_a_model(folder: Path) -> bool:
    return (folder / "model.onnx").is_file()


def _write_file(path: Path, stop: BaseException | None = None) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text("new")
        if stop:
            raise stop


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """Writes beyond `limit` bytes fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_appears_when_its_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with atomic_file(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == tmp_path
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stop", STOPS, ids=repr)
def test_an_interrupted_file_leaves_the_old_one(stop: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    with pytest.raises(type(stop)):
        _write_file(path, stop)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_with_a_name_too_long_is_refused_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / f"{'x' * 300}.json"
    with pytest.raises(OutputError) as caught:
        check_place(path, option="-o")
    assert str(caught.value) == f"{path}: {UNWRITABLE.format('File name too long')}"


def test_a_file_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "report.json"
    with pytest.raises(OutputError) as caught:
        _write_file(path)
    assert str(caught.value) == f"{path}: {MISSING}"


def test_a_file_in_the_place_of_a_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.mkdir()
    with pytest.raises(OutputError) as caught, atomic_file(path):
        pytest.fail("the block ran")
    assert str(caught.value) == f"{path}: {UNWRITABLE.format('a folder of this name')}"


def test_a_file_that_outgrows_the_device_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with pytest.raises(OutputError) as caught, file_size_limit(2):
        _write_file(path)
    assert str(caught.value) == f"{path}: {FULL.format('a limit on the size of files')}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "no space left on the device"),
        (errno.EDQUOT, "an exhausted disk quota"),
        (errno.EIO, "an input/output error of the device"),
    ],
)
def test_a_full_device_is_an_output_error(code: int, words: str, tmp_path: Path) -> None:
    path = tmp_path / "artefact"
    with pytest.raises(OutputError) as caught, atomic_directory(path):
        raise OSError(code, os.strerror(code))
    assert str(caught.value) == f"{path}: {FULL.format(words)}"
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_the_block_are_its_own(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_directory(tmp_path / "artefact"):
        (tmp_path / "source.txt").read_text()


def test_a_directory_appears_when_its_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "parents" / "artefact"
    with atomic_directory(path) as folder:
        (folder / "model.onnx").write_text("new")
        assert not path.exists()
    assert [entry.name for entry in path.iterdir()] == ["model.onnx"]
    assert list(path.parent.iterdir()) == [path]


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    path = tmp_path / "artefact"
    path.mkdir()
    _write_directory(path)
    assert (path / "model.onnx").read_text() == "new"


def test_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "artefact"
    path.mkdir()
    (path / "thesis.tex").write_text("old")
    with pytest.raises(OutputError) as caught:
        _write_directory(path)
    assert str(caught.value) == f"{path}: {OCCUPIED}"
    assert [entry.name for entry in path.iterdir()] == ["thesis.tex"]


def test_overwriting_replaces_the_folder_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "artefact"
    path.mkdir()
    (path / "model.onnx").write_text("old")
    (path / "stale.plan").write_text("old")
    _write_directory(path, overwrite=True)
    assert [entry.name for entry in path.iterdir()] == ["model.onnx"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stop", STOPS, ids=repr)
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interrupted_directory_leaves_things_as_they_were(
    stop: BaseException, overwrite: bool, tmp_path: Path
) -> None:
    path = tmp_path / "artefact"
    if overwrite:
        path.mkdir()
        (path / "model.onnx").write_text("old")
    with pytest.raises(type(stop)):
        _write_directory(path, stop, overwrite=overwrite)
    assert list(tmp_path.iterdir()) == ([path] if overwrite else [])
    assert not overwrite or (path / "model.onnx").read_text() == "old"


def test_a_failing_last_rename_brings_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "artefact"
    path.mkdir()
    (path / "model.onnx").write_text("old")
    rename = os.replace

    def replace(source: Path, target: Path) -> None:
        if target == path and not source.name.endswith(".old"):
            raise OSError(errno.EBUSY, "Device or resource busy")
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OutputError) as caught:
        _write_directory(path, overwrite=True)
    assert str(caught.value) == f"{path}: {UNWRITABLE.format('Device or resource busy')}"
    assert (path / "model.onnx").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "artefact"
    path.write_text("old")
    for overwrite in (False, True):
        with pytest.raises(OutputError) as caught:
            _write_directory(path, overwrite=overwrite)
        assert str(caught.value) == (
            f"{path}: expected a folder or an unused name, found a file; choose another output path"
        )
    assert path.read_text() == "old"


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    path = tmp_path / "file" / "artefact"
    with pytest.raises(OutputError) as caught:
        _write_directory(path)
    assert str(caught.value) == f"{path}: {UNWRITABLE.format('a file where a folder belongs')}"


def test_a_folder_without_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A superuser is denied nothing, so the denial is made here.
    def denied(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", denied)
    path = tmp_path / "artefact"
    with pytest.raises(OutputError) as caught:
        _write_directory(path)
    assert str(caught.value) == f"{path}: {CLOSED}"


def test_overwriting_spares_what_is_no_earlier_output(tmp_path: Path) -> None:
    path = tmp_path / "home"
    path.mkdir()
    (path / "thesis.tex").write_text("old")
    with pytest.raises(OutputError) as caught:
        _write_directory(path, overwrite=True)
    assert str(caught.value) == (
        f"{path}: expected an artefact to overwrite, found a folder that is no artefact; "
        "choose another with -o, or delete the folder yourself"
    )
    assert [entry.name for entry in path.iterdir()] == ["thesis.tex"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["..", "../..", "../../artefact"])
def test_a_folder_around_the_working_directory_is_not_replaced(
    name: str, overwrite: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "artefact" / "deep"
    inside.mkdir(parents=True)
    (tmp_path / "artefact" / "model.onnx").write_text("old")
    monkeypatch.chdir(inside)
    with pytest.raises(OutputError) as caught:
        _write_directory(Path(name), overwrite=overwrite)
    assert str(caught.value) == f"{Path(name).resolve()}: {OCCUPIED_BY_US}"
    assert (tmp_path / "artefact" / "model.onnx").read_text() == "old"


@pytest.mark.parametrize("stop", [None, *STOPS], ids=repr)
def test_a_temporary_folder_goes_with_its_files(stop: BaseException | None, tmp_path: Path) -> None:
    def work() -> None:
        with temporary_directory(tmp_path) as folder:
            (folder / "model.plan").write_text("half")
            assert [*tmp_path.iterdir()] == [folder]
            assert folder.name.startswith(".")
            if stop:
                raise stop

    if stop:
        with pytest.raises(type(stop)):
            work()
    else:
        work()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file/model.pt", f"{'n' * 300}"], ids=["below a file", "long"])
@pytest.mark.parametrize("write", [_write_file, _write_directory])
def test_a_place_that_cannot_be_is_an_output_error(
    write: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(OutputError):
        write(tmp_path / name)


def _interrupted_after(call: Callable[..., object], count: int) -> Callable[..., object]:
    """The same call; Ctrl-C comes when it has just been made for the `count`-th time."""
    made = 0

    def wrapped(*arguments: object, **others: object) -> object:
        nonlocal made
        made += 1
        result = call(*arguments, **others)
        if made == count:
            raise KeyboardInterrupt
        return result

    return wrapped


def test_ctrl_c_as_soon_as_a_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "mkdir", _interrupted_after(Path.mkdir, 1))
    with pytest.raises(KeyboardInterrupt), temporary_directory(tmp_path):
        pytest.fail("the block ran")
    monkeypatch.setattr(Path, "mkdir", _interrupted_after(Path.mkdir, 2))  # the first: parents
    with pytest.raises(KeyboardInterrupt), atomic_directory(tmp_path / "artefact"):
        pytest.fail("the block ran")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_as_soon_as_a_file_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "touch", _interrupted_after(Path.touch, 1))
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "model.pt"):
        pytest.fail("the block ran")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("renames", "kept"), [(1, "old"), (2, "new")])
def test_ctrl_c_between_the_renames_of_a_replacement(
    renames: int, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "artefact"
    path.mkdir()
    (path / "model.onnx").write_text("old")
    monkeypatch.setattr(os, "replace", _interrupted_after(os.replace, renames))
    with pytest.raises(KeyboardInterrupt):
        _write_directory(path, overwrite=True)
    assert list(tmp_path.iterdir()) == [path]
    assert (path / "model.onnx").read_text() == kept


def test_a_temporary_folder_needs_a_folder_around_it(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(OutputError) as caught, temporary_directory(missing):
        pytest.fail("the block ran")
    assert str(caught.value) == f"{missing}: {MISSING}"


def test_a_device_that_fills_up_under_a_temporary_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught, temporary_directory(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(caught.value) == f"{tmp_path}: {FULL.format('no space left on the device')}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [".", "../here"])
def test_the_working_directory_is_not_replaced(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with pytest.raises(OutputError) as caught:
        _write_directory(Path(name))
    assert str(caught.value) == f"{here}: {OCCUPIED_BY_US}"


def test_a_mount_point_is_refused_before_any_work() -> None:
    with (
        pytest.raises(OutputError) as caught,
        atomic_directory(Path("/"), replaceable=lambda folder: True),
    ):
        pytest.fail("the block ran")
    assert str(caught.value) == f"/: {OCCUPIED_BY_US}"


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    target = tmp_path / "large disk"
    target.mkdir()
    link = tmp_path / "artefact"
    link.symlink_to(target)
    _write_directory(link)
    assert link.is_symlink()
    assert (target / "model.onnx").read_text() == "new"


def test_a_folder_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "artefact"
    with pytest.raises(OutputError) as caught, atomic_directory(path):
        _write_directory(path)
    assert str(caught.value) == f"{path}: {OCCUPIED}"
    assert [each.name for each in tmp_path.iterdir()] == ["artefact"]
    assert (path / "model.onnx").read_text() == "new"
