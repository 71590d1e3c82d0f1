"""What the passes did and why they did not: the text behind `lhcc why`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Reason:
    layer: str
    pass_name: str
    text: str


@dataclass
class Log:
    reasons: list[Reason] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, layer: str, pass_name: str, text: str) -> None:
        reason = Reason(layer, pass_name, text)
        if reason not in self.reasons:
            self.reasons.append(reason)


@dataclass(frozen=True)
class LayerRecord:
    """What one kernel call stands for, in call order."""

    name: str
    op: str
    kernel: str
    encoding: str = ""
    density: float = 1.0
    macs: int = 0
    macs_kept: int = 0
    adds: int = 0
    bytes_moved: int = 0
    schedule: str = ""


def in_order(reasons: Sequence[Reason], layers: Sequence[LayerRecord]) -> list[Reason]:
    """The reasons in the order in which the layers run, at last those of layers that are no more."""
    places = {layer.name: place for place, layer in enumerate(layers)}
    return sorted(reasons, key=lambda reason: places.get(reason.layer, len(places)))


@dataclass(frozen=True)
class Lowered:
    """What code generation starts from: an IRModule of kernel calls only, and what each of them stands for."""

    mod: Any
    layers: list[LayerRecord]
    reasons: list[Reason]
    seconds: dict[str, float] = field(default_factory=dict)
    modules: Sequence[Any] = ()
    """machine code that some calls go to, as runtime modules"""
