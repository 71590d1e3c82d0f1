"""One line on stderr that says what a long measurement is doing; silent when nobody watches."""

from __future__ import annotations

import sys
import time


class Progress:
    """On a terminal one line is rewritten; elsewhere only the beginning of each case is printed."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live = not quiet and sys.stderr.isatty()
        self._title = ""
        self._started = time.monotonic()

    def start(self, title: str) -> None:
        self._title = title
        if not self._quiet and not self._live:
            print(f"[{self._elapsed()}] {title}", file=sys.stderr, flush=True)

    def step(self, what: str) -> None:
        if self._live:
            print(f"\r\033[K[{self._elapsed()}] {self._title}: {what}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def _elapsed(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        return f"{minutes}:{seconds:02d}"
