"""The command `nxmi-export`: a command line in, an exit code out.

    0 ok · 1 gate failed · 2 usage or configuration · 3 capability missing · 4 internal error ·
    130 interrupted
"""

import os
import sys

__all__ = ["main"]

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
INTERNAL_ERROR = 4


def main(arguments: list[str] | None = None) -> int:
    """Run one command; deliberate errors become one sentence on standard error."""
    # What is imported below reads these once, at import.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from nxmi_export.cli import run, say_internal_error, say_interrupted

    try:
        return run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        say_interrupted()
        return INTERRUPTED
    except Exception:
        say_internal_error()
        return INTERNAL_ERROR


if __name__ == "__main__":
    sys.exit(main())
