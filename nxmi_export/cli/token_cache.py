"""Options and environment in, the folder of datasets that were tokenized before out."""

import os
from pathlib import Path

from nxmi_export.errors import UsageError

__all__ = ["token_cache"]


def token_cache(named: Path | None, *, wanted: bool) -> Path | None:
    """`named`, or nxmi-export/tokens in XDG_CACHE_HOME (default: ~/.cache); None for none.

    Where the default cannot be written, as in a container without a home, there is none: nobody
    has asked for it. Raises UsageError for a folder that is named and not wanted.
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
    folder = _user_caches() / "nxmi-export" / "tokens"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _user_caches() -> Path:
    """By the XDG base directory specification, a relative path counts as none."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return given if given.is_absolute() else Path("~/.cache").expanduser()
