"""What was measured, as lines of JSON in one file that is only ever appended to.

A line is written by one system call and synced, so that a process that dies loses at most the line it was writing, and
several processes may tune into one file.  A line that cannot be read is left out, with a warning.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from lhcc import __version__
from lhcc.errors import LhccError, LhccWarning

FORMAT = 1
TRUSTED_GAIN = 0.97  # of the untuned time: what a short measurement must show before it is believed


class DatabaseError(LhccError):
    """A tuning database that cannot be read or written."""


class DamagedLine(LhccWarning):
    """A line of a database is left out."""


@dataclass(frozen=True)
class Setting:
    """Where a measurement is valid."""

    target: str  # what code was generated for
    processor: str  # what it ran on; "" in a question: whatever it was
    threads: int
    lhcc: str = __version__


@dataclass(frozen=True)
class Record:
    """One choice for one workload: measured, measured again at the end of the search (`final`), or failed."""

    workload: str
    setting: Setting
    choice: Mapping[str, Any]
    us: float | None  # None: it failed
    base_us: float | None  # the untuned choice, measured in turn with it
    final: bool = False
    error: str | None = None

    @property
    def ratio(self) -> float:
        """Time relative to the untuned choice; a failure is never an improvement."""
        return self.us / self.base_us if self.us is not None and self.base_us else float("inf")

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Record:
        """Raises ValueError for anything but a record."""
        values = json.loads(line)
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise ValueError(f"not a record of format {FORMAT}")
        if set(values) != {field.name for field in fields(cls)} or not isinstance(values["choice"], dict):
            raise ValueError("fields are missing")
        times = (values["us"], values["base_us"])
        if not all(t is None or (isinstance(t, int | float) and t > 0) for t in times):
            raise ValueError("a time is not a positive number")
        try:
            return cls(**{**values, "setting": Setting(**values["setting"])})
        except TypeError:
            raise ValueError("the setting is not one") from None


@dataclass(frozen=True)
class Match:
    """The fastest choice known for a workload; without one, why records that look fitting are not used."""

    choice: Mapping[str, Any] | None
    reason: str


class Database:
    """A file of records; it need not exist before the first is added."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def add(self, record: Record) -> None:
        _append(self.path, [record.to_json()])

    def records(self) -> tuple[Record, ...]:
        """All records, in the order in which they were added."""
        try:
            state = self.path.stat()
            return _read(str(self.path), state.st_mtime_ns, state.st_size)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise DatabaseError(f"cannot read {self.path}: {error.strerror}") from None

    def of(self, workload: str, setting: Setting) -> list[Record]:
        """Every record that is valid; if the processor is not known, those of the one that was measured last."""
        alike = [r for r in self.records() if r.workload == workload]
        if not setting.processor:
            fitting = [r.setting for r in alike if replace(r.setting, processor="") == setting]
            setting = fitting[-1] if fitting else setting
        return [r for r in alike if r.setting == setting]

    def find(self, workload: str, setting: Setting) -> Match:
        known = self.of(workload, setting)
        if known:
            choice, where = best(known), "" if setting.processor else f" on {known[0].setting.processor}"
            return Match(choice, f"tuned{where}" if choice else "nothing was measured to be faster than the estimate")
        return Match(None, _mismatch([r.setting for r in self.records() if r.workload == workload], setting))


def best(records: Iterable[Record]) -> Mapping[str, Any] | None:
    """The choice that was decided on last; before anything was, the fastest one relative to the untuned one."""
    known = list(records)
    finals = [r for r in known if r.final and r.us is not None]
    if finals:
        return finals[-1].choice
    quick = min(known, key=lambda r: r.ratio, default=None)
    return quick.choice if quick is not None and quick.ratio < TRUSTED_GAIN else None


def merge(sources: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]) -> int:
    """Appends to `output` the records of `sources` that it lacks; how many those are."""
    missing = [str(source) for source in sources if not Path(source).exists()]
    if missing:
        raise DatabaseError(f"the database {missing[0]} does not exist")
    seen = {record.to_json() for record in Database(output).records()}
    lines = list(dict.fromkeys(r.to_json() for source in sources for r in Database(source).records()))
    new = [line for line in lines if line not in seen]
    _append(Path(output), new)
    return len(new)


def _mismatch(known: Sequence[Setting], wanted: Setting) -> str:
    """Why measurements of the same workload do not count here."""
    if not known:
        return "this workload is not in the tuning database"
    nearest = max(known, key=lambda setting: _likeness(setting, wanted))
    elsewhere = wanted.processor not in ("", nearest.processor)
    differences = [
        (f"for target {nearest.target}", f"target is {wanted.target}", nearest.target != wanted.target),
        (f"on {nearest.processor}", f"processor is {wanted.processor}", elsewhere),
        (f"with {nearest.threads} threads", f"number is {wanted.threads}", nearest.threads != wanted.threads),
        (f"by lhcc {nearest.lhcc}", f"version is {wanted.lhcc}", nearest.lhcc != wanted.lhcc),
    ]
    measured, here = next((there, here) for there, here, differs in differences if differs)
    return f"tuning records of this workload were measured {measured} and are not used: the {here}"


def _likeness(one: Setting, other: Setting) -> int:
    return sum(getattr(one, field.name) == getattr(other, field.name) for field in fields(Setting))


def _append(path: Path, lines: Sequence[str]) -> None:
    if not lines:
        return
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"  # what a dying process left unfinished
            data = ("\n" * torn + "\n".join(lines) + "\n").encode()
            if os.write(descriptor, data) != len(data):
                raise OSError(None, "the disk is full")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DatabaseError(f"cannot write to the tuning database {path}: {error.strerror}") from None


@lru_cache(maxsize=4)
def _read(path: str, _changed: int, _size: int) -> tuple[Record, ...]:
    found = []
    lines = Path(path).read_bytes().split(b"\n")
    if any(line.strip() for line in lines) and not any(line.lstrip().startswith(b"{") for line in lines):
        raise DatabaseError(f"{path} is not a tuning database", "lhcc tune MODEL --database FILE makes one")
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(Record.from_json(line.decode()))
            except (ValueError, UnicodeDecodeError) as error:
                warnings.warn(f"{path}, line {number}, is left out: {error}", DamagedLine, stacklevel=4)
    return tuple(found)
