"""The command `nxmi-export`: a command line in, an exit code out.

0 ok · 1 the work was done and the answer is no: a gate failed, or training diverged ·
2 usage or configuration · 3 capability missing · 4 internal error · 130 interrupted
"""

import os
import sys

__all__ = ["main"]

INTERNAL_ERROR = 4
INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main(arguments: list[str] | None = None) -> int:
    """Run one command; deliberate errors become one sentence on standard error."""
    # What is imported below reads these once, at import.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        from nxmi_export.cli import run, say_internal_error

        try:
            return run(sys.argv[1:] if arguments is None else arguments)
        except Exception:
            say_internal_error()
            return INTERNAL_ERROR
    except KeyboardInterrupt:  # outside of a command, where typer does not see it
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
