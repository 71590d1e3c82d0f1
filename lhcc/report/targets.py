"""What can be compiled for, as `lhcc targets` prints it."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from importlib import import_module
from inspect import getdoc
from typing import Any

from lhcc.report.text import grid


class Targets:
    """Every target with what its module says about itself, then every preset."""

    def json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, ready for `json.dumps`."""
        from lhcc.targets import boards
        from lhcc.targets.base import MODULES

        return {
            "targets": [{"name": name, "text": _text(import_module(module))} for name, module in MODULES.items()],
            "presets": [asdict(board) for board in boards.known().values()],
        }

    def __str__(self) -> str:
        found = self.json()
        parts = [f"{target['name']}\n{_indent(target['text'])}" for target in found["targets"]]
        rows = [
            [board["name"], board["cpu"], ", ".join(board["forms"]), _needs(board), board["about"]]
            for board in found["presets"]
        ]
        presets = grid(["preset", "processor", "forms", "needs", "what it is"], rows, left=5)
        return "\n\n".join([*parts, presets, "Your own, in a file: --target boards.toml:my-board"])


def _needs(board: dict[str, Any]) -> str:
    """The Debian package of the cross compiler, while it is missing."""
    present = board["tools"] and shutil.which(f"{board['tools']}-gcc")
    return "" if present or not board["package"] else str(board["package"])


def _text(module: Any) -> str:
    parts = [getdoc(module), getdoc(module.create)]
    return "\n".join(part for part in parts if part)


def _indent(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())
