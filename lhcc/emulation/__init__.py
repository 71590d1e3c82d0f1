"""Runs compiled code of other processors under QEMU: for its answers and its instruction counts, never for times."""

from __future__ import annotations

from lhcc.emulation.emulator import Emulation, emulate

__all__ = ["Emulation", "emulate"]
