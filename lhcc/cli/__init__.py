"""The command line: parses, calls the library, prints.  What a command computes is decided elsewhere."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from lhcc.cli import models, running, tools, tuning
from lhcc.cli.parser import parser, target_with_limits
from lhcc.errors import LhccError, LhccWarning
from lhcc.report.progress import progress

MISTAKE = 2
COMMANDS = {
    "inspect": models.inspect,
    "compile": models.compile_,
    "run": running.run,
    "profile": running.profile,
    "why": models.why,
    "tune": tuning.tune,
    "serve": tuning.serve,
    "db": tuning.db,
    "approximate": models.approximate,
    "import-lhc": models.import_lhc,
    "targets": tools.targets,
    "doctor": tools.doctor,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.  A user's mistake is one sentence and exit code 2; a bug of ours keeps its traceback."""
    try:
        options = parser().parse_args(arguments)
        options.target = target_with_limits(options)
        with progress(), warnings.catch_warnings():
            warnings.showwarning = _warn
            COMMANDS[options.command](options)
        sys.stdout.flush()
        return 0
    except LhccError as error:
        print(f"error: {error}", file=sys.stderr)
        return MISTAKE
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _warn(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    """Shows the warnings that are for users of lhcc, not those of libraries to their programmers."""
    if issubclass(category, LhccWarning):
        print(f"warning: {message}", file=sys.stderr)
