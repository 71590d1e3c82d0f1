"""The forms of convolution whose lanes are neighbouring pixels: what each offers to those that choose between them."""

from __future__ import annotations

from dataclasses import fields
from types import ModuleType
from typing import Any

from lhcc.targets.cpu import elements, pattern_sums, patterns
from lhcc.targets.cpu.flatten import flatten
from lhcc.targets.cpu.machine import Machine
from lhcc.targets.cpu.regions import FlatSpec
from lhcc.targets.cpu.wide import WideSpec
from lhcc.targets.cpu.widen import widen

MODULES: dict[str, ModuleType] = {"elements": elements, "patterns": patterns, "pattern sums": pattern_sums}


def module(by_patterns: bool, machine: Machine) -> Any:
    """Single weights, or patterns: with many registers these hold inputs, with few they hold sums."""
    if not by_patterns:
        return elements
    return patterns if machine.registers >= 32 else pattern_sums


def kernel(spec: WideSpec, target_shape: tuple[int, ...]) -> Any:
    return MODULES[spec.form].KERNEL(spec, target_shape).build()


def widening(text: str, source_shape: tuple[int, ...]) -> Any:
    """The kernel that widens the input for a specification."""
    spec = spec_of(text)
    return flatten(spec, source_shape) if isinstance(spec, FlatSpec) else widen(spec, source_shape)


def spec_of(text: str) -> WideSpec:
    """The specification that `to_json` of any form made."""
    plain = WideSpec.from_json(text)
    made: WideSpec = MODULES[plain.form].SPEC(**{field.name: getattr(plain, field.name) for field in fields(plain)})
    return made
