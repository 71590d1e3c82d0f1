"""The FPGA target: an integer program becomes a clocked circuit, simulated cycle by cycle, exact to the bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lhcc.targets.fpga.executable import FpgaExecutable, compile_program
    from lhcc.targets.fpga.options import FpgaOptions

__all__ = ["FpgaExecutable", "FpgaOptions", "compile_program"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from lhcc.targets.fpga import executable, options

        return getattr(options if name == "FpgaOptions" else executable, name)
    raise AttributeError(name)
