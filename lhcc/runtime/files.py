"""Output files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lhcc.errors import LhccError

ELSEWHERE = "choose another place for the output"
SCRATCH = 64 << 20


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


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for intermediate files, in memory where the system offers it, which vanishes after the block.

    LLVM ends the whole process when it cannot write, so a folder without room is refused before.
    """
    places = [Path(place) for place in ("/dev/shm", tempfile.gettempdir()) if os.access(place, os.W_OK)]
    roomy = [place for place in places if shutil.disk_usage(place).free >= SCRATCH]
    if not roomy:
        raise OutputError(f"no place for intermediate files: {SCRATCH >> 20} MiB are needed", "set TMPDIR")
    with tempfile.TemporaryDirectory(prefix=f"lhcc-{os.getpid()}-", dir=roomy[0]) as folder:
        yield Path(folder)


def cache_folder() -> Path:
    """Where the user's compiled helpers are kept from one run to the next."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lhcc"


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
