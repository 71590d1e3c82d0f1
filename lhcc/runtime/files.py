"""Output files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lhcc.errors import LhccError

ELSEWHERE = "choose another place for the output"


class OutputError(LhccError):
    """A file cannot be written."""


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` when the block ends well and vanishes when it does not."""
    path = Path(path)
    if path.exists() and not path.is_file():
        kind = "directory" if path.is_dir() else "device"
        raise OutputError(f"cannot write {path}: it is a {kind}", "name a file")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename not in (None, str(temporary), str(path)):
            raise  # of another file, which the block itself was working on
        raise OutputError(f"cannot write {path}: {error.strerror or error}", ELSEWHERE) from None
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def writable(path: str | os.PathLike[str]) -> None:
    """Fails now, rather than after long work, when `path` cannot be written."""
    path = Path(path)
    folder = path.parent
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a directory", "name a file")
    if not folder.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {folder}", f"mkdir -p {folder}")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise OutputError(f"cannot write {path}: permission denied", ELSEWHERE)
