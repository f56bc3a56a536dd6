"""Writing files so that each appears whole or not at all."""

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nxmi_export.errors import OutputError

__all__ = [
    "atomic_directory",
    "atomic_file",
    "check_place",
    "output_errors",
    "temporary_directory",
]

_DEVICE_REFUSES = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "an exhausted disk quota",
    errno.EFBIG: "a limit on the size of files",
    errno.EIO: "an input/output error of the device",
}


def check_place(path: Path, *, option: str) -> None:
    """Refuse a place for a file before the work is done, not after.

    Raises OutputError, which names `option` as the way to choose another.
    """
    found = None
    with output_errors(path):  # a name too long for its file system, a folder not to be looked into
        if path.is_dir():
            found = "a folder"
        elif not path.parent.is_dir():
            found = "no such folder"
        elif not os.access(path.parent, os.W_OK):
            found = "a folder that cannot be written to"
    if found is not None:
        raise OutputError(
            path,
            expected="a file to write in a folder that exists",
            found=found,
            remedy=f"choose another with {option}",
        )


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; it takes the name `path` only if the block succeeds.

    Raises OutputError where the folder is missing or not writable, and where the device is full.
    """
    path = path.absolute()
    temporary = _beside(path)
    with output_errors(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder of this name")
    try:  # from here on: Ctrl-C may come as soon as the file is there
        with output_errors(path):
            temporary.touch(exist_ok=False)
        with _device_errors(path):
            yield temporary
        with output_errors(path):
            os.replace(temporary, path)
    finally:
        with suppress(OSError):  # of a path that cannot be, which was said above
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(
    path: Path, *, replaceable: Callable[[Path], bool] | None = None
) -> Iterator[Path]:
    """A temporary folder beside `path`; it takes the name `path` only if the block succeeds.

    An existing non-empty `path` is refused, unless `replaceable` recognises it as an earlier output
    that may be deleted at the end; None recognises nothing. Raises OutputError for that, for a
    place where no folder can be written, and for a full device.
    """
    path = path.resolve()
    temporary = _beside(path)
    with output_errors(path):
        _check_replaceable(path, replaceable)
        path.parent.mkdir(parents=True, exist_ok=True)
    try:  # from here on: Ctrl-C may come as soon as the folder is there
        with output_errors(path):
            temporary.mkdir()
        with _device_errors(path):
            yield temporary
        with output_errors(path):
            _check_replaceable(path, replaceable)  # another process may have been faster
            _replace_directory(temporary, path)
    finally:
        _restore(temporary, path)
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def temporary_directory(parent: Path) -> Iterator[Path]:
    """An empty hidden folder inside `parent`, deleted with all its files when the block ends.

    Raises OutputError where no folder can be made, and where the device is full.
    """
    folder = _beside(parent.absolute() / "temporary")
    try:
        with output_errors(parent):
            folder.mkdir()
        with _device_errors(parent):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _beside(path: Path) -> Path:
    # Hidden and in the same folder: a rename is atomic only within one file system.
    return path.parent / f".{path.name}.{secrets.token_hex(4)}"


def _check_replaceable(path: Path, replaceable: Callable[[Path], bool] | None) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise OutputError(
            path,
            expected="a folder or an unused name",
            found="a file",
            remedy="choose another output path",
        )
    if path.is_mount() or Path.cwd().is_relative_to(path):
        # One cannot be renamed, and whoever stands in the other would not see the new one.
        raise OutputError(
            path,
            expected="an output folder that can be replaced as a whole",
            found="a mount point, or the working directory in it",
            remedy="name a new folder inside it",
        )
    if not any(path.iterdir()):
        return
    if replaceable is None:
        raise OutputError(
            path,
            expected="an empty or new output folder",
            found="a folder with files in it",
            remedy="choose another with -o, or pass --overwrite to replace it",
        )
    if not replaceable(path):
        raise OutputError(
            path,
            expected="an artefact to overwrite",
            found="a folder that is no artefact",
            remedy="choose another with -o, or delete the folder yourself",
        )


def _replace_directory(source: Path, target: Path) -> None:
    if target.is_dir():
        os.replace(target, _put_aside(source))
    os.replace(source, target)
    if _put_aside(source).is_dir():
        shutil.rmtree(_put_aside(source))


def _restore(source: Path, target: Path) -> None:
    """What was put aside takes its place again if its successor did not."""
    old = _put_aside(source)
    if os.path.isdir(old):  # False, and no error, for a path that cannot be
        if os.path.isdir(source):
            os.replace(old, target)
        else:
            shutil.rmtree(old, ignore_errors=True)


def _put_aside(source: Path) -> Path:
    """Where a folder lies that `source` is about to replace."""
    return source.with_name(f"{source.name}.old")


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """What the operating system refuses about `path`, as an OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            path,
            expected="an output path in a writable folder",
            found=_found(error),
            remedy=f"choose another output path{_or_else(error)}",
        ) from error


def _found(error: OSError) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "a file where a folder belongs"
    return error.strerror or str(error)


def _or_else(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return " or make its folder first"
    return " or change the folder's permissions" if isinstance(error, PermissionError) else ""


@contextmanager
def _device_errors(path: Path) -> Iterator[None]:
    """A device that takes no more bytes, as an OutputError; other errors are the caller's own."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DEVICE_REFUSES:
            raise
        raise OutputError(
            path,
            expected="room for the whole output",
            found=_DEVICE_REFUSES[error.errno],
            remedy="free some space or choose another output path; nothing was written",
        ) from error
