"""Options and environment in, folders of what an earlier run has made out."""

import os
from pathlib import Path

from nxmi_export.errors import UsageError

__all__ = ["token_cache", "user_cache"]


def token_cache(named: Path | None, *, wanted: bool) -> Path | None:
    """`named`, or `user_cache("tokens")`; None for none.

    Raises UsageError for a folder that is named and not wanted.
    """
    if named is not None and not wanted:
        raise UsageError(
            "--no-cache",
            expected="a folder of tokenized datasets, or none",
            found=f"both, with --cache {named}",
            remedy="give one of the two",
        )
    if named is not None or not wanted:
        return named
    return user_cache("tokens")


def user_cache(name: str) -> Path | None:
    """nxmi-export/`name` in XDG_CACHE_HOME (default: ~/.cache), made where it is not there.

    None where it cannot be written, as in a container without a home: nobody has asked for it.
    """
    folder = _user_caches() / "nxmi-export" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _user_caches() -> Path:
    """By the XDG base directory specification, a relative path counts as none."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return given if given.is_absolute() else Path("~/.cache").expanduser()
