"""Progress of long work on stderr, for people only: silent unless stderr is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

WIDTH = 24

_current: ContextVar[Progress | None] = ContextVar("progress", default=None)


class Progress:
    """One line on a terminal that is written over and over."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.shown = ""

    def show(self, text: str, done: int = 0, total: int = 0) -> None:
        bar = ""
        if total:
            filled = WIDTH * done // total
            bar = f" [{'#' * filled}{'.' * (WIDTH - filled)}] {done}/{total}"
        line = f"{text}{bar}  {time.monotonic() - self.started:.0f} s"
        sys.stderr.write("\r" + line.ljust(len(self.shown)))
        sys.stderr.flush()
        self.shown = line

    def clear(self) -> None:
        if self.shown:
            sys.stderr.write("\r" + " " * len(self.shown) + "\r")
            sys.stderr.flush()


@contextmanager
def progress() -> Iterator[None]:
    """Shows what `report` is told inside this block."""
    if not sys.stderr.isatty():
        yield
        return
    bar = Progress()
    token = _current.set(bar)
    try:
        yield
    finally:
        bar.clear()
        _current.reset(token)


def report(text: str, done: int = 0, total: int = 0) -> None:
    """Says what is being done now; nobody may be listening."""
    bar = _current.get()
    if bar is not None:
        bar.show(text, done, total)
