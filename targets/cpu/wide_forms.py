"""The forms of convolution whose lanes are neighbouring pixels: what each offers to those that choose between them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from lhcc.targets.cpu import elements, pattern_sums, patterns
from lhcc.targets.cpu.machine import Machine
from lhcc.targets.cpu.wide import WideSpec

MODULES: dict[str, ModuleType] = {"elements": elements, "patterns": patterns, "pattern sums": pattern_sums}


def module(by_patterns: bool, machine: Machine) -> Any:
    """Single weights, or patterns: with many registers these hold inputs, with few they hold sums."""
    if not by_patterns:
        return elements
    return patterns if machine.registers >= 32 else pattern_sums


def kernel(spec: WideSpec, target_shape: tuple[int, ...]) -> Any:
    return MODULES[spec.form].KERNEL(spec, target_shape).build()
