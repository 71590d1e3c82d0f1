"""The table of rooms in docs/architecture.md is true: every folder is in it, none imports what it knows nothing of."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROW = re.compile(r"^\| (?P<rooms>`.*?) \| .* \| (?P<strangers>.*) \|$", re.MULTILINE)


def table() -> dict[str, list[str]]:
    """Each room as a path below the repository, and the strangers that its row names."""
    page = (ROOT / "docs/architecture.md").read_text()
    return {
        room.rstrip("/"): [stranger.strip() for stranger in match["strangers"].split(",") if stranger.strip()]
        for match in ROW.finditer(page)
        for room in re.findall(r"`((?:lhcc/|passes/|targets/)[\w./]*)`", match["rooms"])
    }


def files(room: str) -> list[Path]:
    path = ROOT / room
    return [path] if path.suffix else sorted(path.rglob("*.py"))


def module_of(path: Path) -> str:
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return dotted if dotted.startswith("lhcc") else f"lhcc.{dotted}"


@cache
def imported(path: Path) -> tuple[str, ...]:
    """What a file imports, wherever in it, also for its types alone."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative imports hide where they lead"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def is_stranger(stranger: str, module: str, name: str) -> bool:
    """Whether `name`, imported by `module`, belongs to what a row of the table calls `stranger`."""
    parts = name.split(".")
    inside_a_target = parts[:2] == ["lhcc", "targets"] and (ROOT / "targets" / parts[2]).is_dir()
    if stranger == "TVM":
        return parts[0] in ("tvm", "tvm_ffi")
    if stranger == "the inside of a target":
        return inside_a_target
    if stranger == "other targets":
        own = module.split(".")[:3]
        return inside_a_target and (ROOT / "targets" / own[2]).is_dir() and parts[:3] != own
    assert stranger in ("passes", "targets"), f"no rule says what {stranger!r} is"
    return parts[:2] == ["lhcc", stranger]


RULES = [(room, stranger) for room, strangers in table().items() for stranger in strangers]


@pytest.mark.parametrize(("room", "stranger"), RULES, ids=[f"{room}-{stranger}" for room, stranger in RULES])
def test_a_room_imports_no_stranger(room: str, stranger: str) -> None:
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(room)
        for name in imported(path)
        if is_stranger(stranger, module_of(path), name)
    ]
    assert files(room) and not found


def test_the_table_names_every_folder_and_makes_rules() -> None:
    folders = {f"lhcc/{path.name}" for path in (ROOT / "lhcc").iterdir() if any(path.glob("*.py"))}
    folders = (folders - {"lhcc/passes", "lhcc/targets"}) | {"passes", "targets"}
    assert folders <= table().keys()
    assert len(RULES) >= 15


@pytest.mark.parametrize(
    ("stranger", "module", "name"),
    [
        ("TVM", "lhcc.encodings.tiles", "tvm.tirx"),
        ("targets", "lhcc.ir.graph", "lhcc.targets.base"),
        ("passes", "lhcc.runtime.build", "lhcc.passes.fold_affine"),
        ("the inside of a target", "lhcc.passes.pack_tiles", "lhcc.targets.cpu.plan"),
        ("other targets", "lhcc.targets.fpga.design", "lhcc.targets.cpu"),
    ],
)
def test_strangers_are_recognised(stranger: str, module: str, name: str) -> None:
    assert is_stranger(stranger, module, name)


def test_neighbours_are_no_strangers() -> None:
    assert not is_stranger("other targets", "lhcc.targets.fpga.design", "lhcc.targets.fpga.cost")
    assert not is_stranger(
        "other targets", "lhcc.targets.base", "lhcc.targets.cpu"
    )  # it loads the one that is asked for
    assert not is_stranger("the inside of a target", "lhcc.passes.pack_tiles", "lhcc.targets.base.Target")
