"""The process of `lhcc`, which is also `python -m lhcc`: how it ends, whenever Ctrl-C is pressed."""

from __future__ import annotations

import os
import signal
import sys


def program() -> int:
    """Runs the command line.  Ctrl-C ends it with one word, and no longer counts once the outcome is decided.

    The interpreter takes a while to leave, at last without Python's handler: an interrupt in that time would kill a
    process whose work is done, so that success looked like failure.
    """
    try:
        from lhcc.cli import main

        outcome = main()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return outcome
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("interrupted", file=sys.stderr, flush=True)
    # Dying of the signal, not an exit code like 130, is what ends a shell's loop over many models as well.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    raise AssertionError("unreachable")


if __name__ == "__main__":
    sys.exit(program())
