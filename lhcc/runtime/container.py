"""The file format of artifacts: named members behind one header, every byte of the file covered by a digest.

    magic        8 bytes   \\x89LHCC\\r\\n\\x1a   catches text-mode copies, as PNG's does
    version      4 bytes   little endian, as are the others
    length       4 bytes   of the table of contents
    sha256      32 bytes   of the table of contents
    contents               JSON: `description` (free), and `members`: name, offset, stored, size, packing, sha256
    members                each at its offset, aligned; the bytes between them are zero

Digests find accidents, not forgers: an artifact is a program, run only those that you trust.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.errors import ArtifactError
from lhcc.runtime.files import atomic_write
from lhcc.runtime.memory import align, allocate

MAGIC = b"\x89LHCC\r\n\x1a"
VERSION = 1
HEADER = struct.Struct("<8sII32s")
RAW, XZ = "raw", "xz"
LARGEST_CODE = 1 << 30  # no member may unpack to more
REBUILD = "compile the model again, or fetch the file again"

Buffer = Any  # bytes, or an array of them


@dataclass(frozen=True)
class Member:
    """One part of the file: `stored` bytes at `offset`, which unpack to `size` bytes."""

    name: str
    offset: int
    stored: int
    size: int
    packing: str
    sha256: str


def write(
    path: str | os.PathLike[str], description: Mapping[str, Any], members: Mapping[str, tuple[Buffer, str]]
) -> None:
    """Writes a container; each member comes as its bytes and how to pack them."""
    stored, entries, offset = {}, [], 0
    for name, (data, packing) in members.items():
        stored[name] = lzma.compress(data) if packing == XZ else memoryview(data)
        digest = hashlib.sha256(stored[name]).hexdigest()
        entries.append(Member(name, offset, len(stored[name]), len(memoryview(data)), packing, digest))
        offset += align(len(stored[name]))
    table = {"description": dict(description), "members": [asdict(entry) for entry in entries]}
    contents = json.dumps(table, separators=(",", ":")).encode()
    start = align(HEADER.size + len(contents))
    with atomic_write(path) as file:
        file.write(HEADER.pack(MAGIC, VERSION, len(contents), hashlib.sha256(contents).digest()))
        file.write(contents)
        for entry in entries:
            file.write(bytes(start + entry.offset - file.tell()))
            file.write(stored[entry.name])


def read(
    path: str | os.PathLike[str], accept: Callable[[Mapping[str, Any]], None] = lambda description: None
) -> tuple[dict[str, Any], dict[str, NDArray[np.uint8]]]:
    """The description and the members of a container, every digest checked.

    `accept` may refuse the description before the members, which can be large, are read.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            contents, start = _contents(Path(path), file, size)
            accept(contents["description"])
            return contents["description"], _members(Path(path), file, size, start, contents["members"])
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from None


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The description alone, its digest checked."""
    try:
        with open(path, "rb") as file:
            contents, _ = _contents(Path(path), file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from None
    description: dict[str, Any] = contents["description"]
    return description


def is_container(path: str | os.PathLike[str]) -> bool:
    """Whether the file says that it is an artifact; not whether it is a sound one."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _contents(path: Path, file: io.BufferedReader, size: int) -> tuple[dict[str, Any], int]:
    header = file.read(HEADER.size)
    if not header:
        raise ArtifactError(f"{path} is empty", REBUILD)
    if header[: len(MAGIC)] != MAGIC[: len(header)]:
        raise ArtifactError(f"{path} is not an lhcc artifact", "lhcc compile MODEL -o model.lhcc makes one")
    if len(header) < HEADER.size:
        raise _truncated(path, HEADER.size, size)
    _, version, length, digest = HEADER.unpack(header)
    if version > VERSION:
        raise ArtifactError(
            f"{path} has format {version}, this lhcc reads formats up to {VERSION}", "pip install --upgrade lhcc"
        )
    if HEADER.size + length > size:
        raise _truncated(path, HEADER.size + length, size)
    contents = file.read(length)
    if hashlib.sha256(contents).digest() != digest:
        raise ArtifactError(f"{path} is damaged: the digest of its table of contents does not match", REBUILD)
    try:
        return json.loads(contents), align(HEADER.size + length)
    except ValueError:
        raise ArtifactError(f"{path} is damaged: its table of contents is not JSON", REBUILD) from None


def _members(path: Path, file: io.BufferedReader, size: int, start: int, entries: Any) -> dict[str, NDArray[np.uint8]]:
    members: dict[str, NDArray[np.uint8]] = {}
    for fields in entries:
        entry = Member(**fields)
        gap_size = start + entry.offset - file.tell()
        if not (0 <= gap_size < size and 0 <= entry.stored):
            raise ArtifactError(f"{path} is damaged: its {entry.name} is out of place", REBUILD)
        if start + entry.offset + entry.stored > size:
            raise _truncated(path, start + entry.offset + entry.stored, size)
        gap = file.read(gap_size)
        stored = allocate(entry.stored)
        if file.readinto(stored.data) != entry.stored or any(gap) or _sha256(stored) != entry.sha256:
            raise ArtifactError(f"{path} is damaged: the digest of its {entry.name} does not match", REBUILD)
        members[entry.name] = _unpack(path, entry, stored)
    if file.read(1):
        raise ArtifactError(f"{path} is damaged: {size - file.tell() + 1} bytes follow its end", REBUILD)
    return members


def _unpack(path: Path, entry: Member, stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if entry.packing == RAW:
        return stored
    try:
        if entry.size <= LARGEST_CODE:
            data = lzma.LZMADecompressor().decompress(stored.tobytes(), entry.size)
            if len(data) == entry.size:
                return np.frombuffer(data, dtype=np.uint8)
    except lzma.LZMAError:
        pass
    raise ArtifactError(f"{path} is damaged: its {entry.name} cannot be unpacked", REBUILD)


def _sha256(data: NDArray[np.uint8]) -> str:
    return hashlib.sha256(data.data).hexdigest()


def _truncated(path: Path, expected: int, size: int) -> ArtifactError:
    return ArtifactError(f"{path} is truncated: at least {expected} bytes are expected, it has {size}", REBUILD)
