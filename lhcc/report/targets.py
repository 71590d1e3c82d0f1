"""What can be compiled for, as `lhcc targets` prints it."""

from __future__ import annotations

from importlib import import_module
from inspect import getdoc
from typing import Any


class Targets:
    """Every target with what its module says about itself."""

    def json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, ready for `json.dumps`."""
        from lhcc.targets.base import MODULES

        return {"targets": [{"name": name, "text": _text(import_module(module))} for name, module in MODULES.items()]}

    def __str__(self) -> str:
        return "\n\n".join(f"{target['name']}\n{_indent(target['text'])}" for target in self.json()["targets"])


def _text(module: Any) -> str:
    parts = [getdoc(module), getdoc(module.create)]
    return "\n".join(part for part in parts if part)


def _indent(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())
