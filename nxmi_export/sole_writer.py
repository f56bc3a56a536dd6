"""A lock on an output that takes hours to write.

Apart from `output_files`, which deployed models import where there is no filelock.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from nxmi_export.errors import OutputError
from nxmi_export.output_files import output_errors, temporary_directory

__all__ = ["sole_writer"]

_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextmanager
def sole_writer(
    path: Path,
    *,
    patience: float = 0.0,
    remedy: str = "let it end, stop it, or choose another output with -o",
) -> Iterator[None]:
    """Keep `path` from other processes that ask for it so, while the block runs.

    A hidden file beside it holds the lock, which a killed process loses. A file system that knows
    no locks gives none. Raises OutputError, which names `remedy`, where another process still has
    it after `patience` seconds, and for a folder where no file can be made.
    """
    path = path.absolute()
    with temporary_directory(path.parent):
        pass  # the folder is there and takes files
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=patience)
    with output_errors(path):
        try:
            lock.acquire()
        except Timeout as error:
            raise OutputError(
                path,
                expected="an output that no other process is writing",
                found="one at work on it",
                remedy=remedy,
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
    try:
        yield
    finally:
        # While it is held: who opened it before will see that it has gone, and makes another.
        with suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()
