"""A record of what may be chosen about how a layer is computed, in the form that databases keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from lhcc.tuning.database import Setting


def spent(cycles: float) -> str:
    """An estimate of cycles in words, such as that of a choice: 3 digits or so."""
    if cycles < 1e3:
        return f"{cycles:.0f} cycles"
    return f"{cycles / 1e3:,.{1 if cycles < 1e5 else 0}f} kcycles"


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

    @classmethod
    def recorded(
        cls: type[T], path: str, workload: str, setting: Setting, possible: Callable[[T], bool] = lambda _: True
    ) -> tuple[T | None, str]:
        """What the database at `path` knows about a workload, and why nothing else of it is used."""
        from lhcc.tuning.database import Database, DatabaseError

        database = Database(path)
        if not database.path.exists():
            hint = "lhcc tune MODEL --database FILE makes one"
            raise DatabaseError(f"the tuning database {path} does not exist", hint)
        match = database.find(workload, setting)
        if match.choice is None:
            return None, match.reason
        try:
            choice = cls.from_dict(match.choice)
        except ValueError as error:
            return None, f"not tuned: {error}"
        if not possible(choice):
            return None, f"not tuned: {choice} is impossible for this layer"
        return choice, f"{match.reason}: {choice}"
