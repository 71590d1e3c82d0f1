"""Presets: boards and processors by name, from data.  The built-in ones are in boards.toml, which explains the keys."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lhcc.errors import TargetError, near

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUILT_IN = Path(__file__).with_name("boards.toml")
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
SIZES = ("l1", "l2", "ram", "flash")


@dataclass(frozen=True)
class Board:
    """One preset; boards.toml says what the fields mean.  Sizes are bytes, 0 where unknown."""

    name: str
    triple: str
    about: str = ""
    cpu: str = "generic"
    features: tuple[str, ...] = ()
    cores: int = 1
    l1: int = 32 << 10
    l2: int = 1 << 20
    fma: float = 2.0
    loads: float = 2.0
    latency: float = 4.0
    tools: str = ""
    package: str = ""
    flags: tuple[str, ...] = ()
    emulator: str = ""
    emulated: str = ""
    forms: tuple[str, ...] = ("artifact", "c")
    ram: int = 0
    flash: int = 0

    def arguments(self) -> dict[str, str]:
        """What the CPU target takes."""
        found = {"mtriple": self.triple, "mcpu": self.cpu, "mattr": "".join(f"+{f}" for f in self.features)}
        return {key: value for key, value in found.items() if value}


def size(text: str) -> int:
    """Bytes: `4096`, `256K`, `1M`."""
    number, unit = (text[:-1], text[-1]) if text[-1:].upper() in ("K", "M", "G") else (text, "")
    try:
        value = int(float(number) * UNITS[unit.upper()])
    except (ValueError, OverflowError):
        value = -1
    if value < 0:
        raise TargetError(f"'{text}' is not a size", "write bytes, or 256K, or 1M")
    return value


def known(file: str | os.PathLike[str] | None = None) -> dict[str, Board]:
    """Every preset: the built-in ones, the user's, and those in `file`."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "lhcc"
    tables = _tables(BUILT_IN)
    own = folder / "targets.toml"
    if own.is_file():
        tables.update(_tables(own))
    if file is not None:
        tables.update(_tables(Path(file)))
    return {name: _board(name, *_inherited(name, tables)) for name in tables}


Table = tuple[Mapping[str, Any], Path]


def _tables(path: Path) -> dict[str, Table]:
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise TargetError(f"cannot read {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TargetError(f"{path} is not TOML: {error}", "one table per preset: [my-board]") from None
    for name, table in content.items():
        if not isinstance(table, dict):
            raise TargetError(f"'{name}' in {path} is outside a preset", "one table per preset: [my-board]")
    return {name: (table, path) for name, table in content.items()}


def _inherited(name: str, tables: Mapping[str, Table]) -> Table:
    """The keys of a preset and of those that it is like."""
    chain, path = [name], tables[name][1]
    while "like" in tables[chain[-1]][0]:
        parent = tables[chain[-1]][0]["like"]
        if parent in chain or parent not in tables:
            raise TargetError(
                f"preset '{chain[-1]}' in {path} is like '{parent}', which is "
                + ("itself" if parent in chain else "no preset"),
                near(str(parent), tables),
            )
        chain.append(parent)
    merged = {key: value for link in reversed(chain) for key, value in tables[link][0].items() if key != "like"}
    return merged, path


def _board(name: str, table: Mapping[str, Any], path: Path) -> Board:
    types = {field.name: field.type for field in fields(Board) if field.name != "name"}
    values: dict[str, Any] = {}
    for key, value in table.items():
        where = f"'{key}' of preset '{name}' in {path}"
        if key not in types:
            raise TargetError(f"{where} is unknown", near(key, types))
        if key in SIZES and isinstance(value, str):
            value = size(value)
        elif types[key] == "float" and type(value) is int:
            value = float(value)
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            value = tuple(value)
        expected = {"str": str, "int": int, "float": float}.get(str(types[key]), tuple)
        if type(value) is not expected or (isinstance(value, int | float) and value < 0):
            raise TargetError(f"{where} is {table[key]!r}", f"write {_EXAMPLES[expected]}")
        values[key] = value
    if "triple" not in values:
        raise TargetError(f"preset '{name}' in {path} has no triple", 'such as triple = "aarch64-linux-gnu"')
    return Board(name, **values)


_EXAMPLES = {str: 'text: "..."', int: "a number of 0 or more", float: "a number of 0 or more", tuple: 'a list: ["..."]'}
