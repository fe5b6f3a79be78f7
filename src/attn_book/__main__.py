"""``python -m attn_book`` and the script ``attn-book``: the command line."""

import os
import sys

from attn_book.driver.cli import INTERRUPTED, main


def script() -> None:
    """Run the command line and end the process with its exit code."""
    # A closed pipe (`... | head`) is not an error worth a traceback.
    try:
        code = main()
        sys.stdout.flush()
        if code == INTERRUPTED:
            sys.stderr.flush()
            os._exit(code)  # at once: Paddle takes seconds to unload on a busy machine
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    script()
