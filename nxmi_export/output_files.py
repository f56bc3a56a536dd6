"""Writing files so that each appears whole or not at all."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nxmi_export.errors import OutputError

__all__ = ["atomic_directory", "atomic_file"]


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; it takes the name `path` only if the block succeeds.

    Raises OutputError where the folder is missing or not writable.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise _not_writable(path, error) from error
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside `path`; it takes the name `path` only if the block succeeds.

    An existing non-empty `path` is refused, unless `overwrite` says to replace it at the end.
    """
    if path.exists() and not path.is_dir():
        raise OutputError(
            path,
            expected="a folder or an unused name",
            found="a file",
            remedy="choose another output path",
        )
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise OutputError(
            path,
            expected="an empty or new output folder",
            found="a folder with files in it",
            remedy="choose another with -o, or pass --overwrite to replace it",
        )
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    except OSError as error:
        raise _not_writable(path, error) from error
    try:
        yield temporary
        _replace_directory(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace_directory(source: Path, target: Path) -> None:
    if target.is_dir():
        old = target.with_name(f"{source.name}.old")
        os.replace(target, old)
        os.replace(source, target)
        shutil.rmtree(old)
    else:
        os.replace(source, target)


def _not_writable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        path,
        expected="an output path in a writable folder",
        found=error.strerror or str(error),
        remedy="choose another output path or change the folder's permissions",
    )
