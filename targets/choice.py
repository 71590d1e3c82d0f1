"""A record of what may be chosen about how a layer is computed, in the form that databases keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

T = TypeVar("T", bound="ChoiceRecord")


@dataclass(frozen=True)
class ChoiceRecord:
    """What each target's choices share; their fields are numbers and truth values."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
        """Raises ValueError when the values are not those of a choice."""
        known = {field.name: bool if field.type == "bool" else int for field in fields(cls)}
        if set(values) != set(known) or any(type(values[name]) is not kind for name, kind in known.items()):
            raise ValueError(f"{dict(values)} is not a choice")
        return cls(**values)
