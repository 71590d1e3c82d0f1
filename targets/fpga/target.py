"""The FPGA simulation as a target: `fpga`, `fpga:reuse=folded,clock=200MHz,device=xc7a100t`, `fpga:target_fps=5000`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from lhcc.errors import TargetError
from lhcc.integer import Program
from lhcc.targets.base import Options, Pass
from lhcc.targets.fpga.executable import compile_program
from lhcc.targets.fpga.options import FpgaOptions


@dataclass(frozen=True)
class FpgaTarget:
    options: FpgaOptions
    name: str = "fpga"
    integers_only: bool = True

    def compile_program(self, program: Program, options: Options, images: int) -> Any:
        return compile_program(program, self.options)

    def tvm_target(self) -> Any:
        raise TargetError("the FPGA simulation has no machine code", "compile for cpu to get some")

    def layout_passes(self, options: Options) -> list[Pass]:
        return []

    def lowering_passes(self, options: Options) -> list[Pass]:
        return []


def _number(name: str, text: str, unit: str = "") -> float:
    try:
        return float(text.removesuffix(unit))
    except ValueError:
        raise TargetError(f"{name}={text} of target 'fpga' is no number") from None


def create(arguments: Mapping[str, str]) -> FpgaTarget:
    known = [field.name for field in fields(FpgaOptions)]
    values: dict[str, Any] = {}
    for name, text in arguments.items():
        if name not in known:
            raise TargetError(f"target 'fpga' has no argument '{name}'", f"it takes {', '.join(known)}")
        if name == "clock":
            values[name] = _number(name, text, "MHz")
        elif name in ("adder_seconds", "target_fps"):
            values[name] = _number(name, text)
        elif name in ("max_luts", "max_bram") or (name == "reuse" and text.isdigit()):
            values[name] = int(_number(name, text))
        else:
            values[name] = text
    return FpgaTarget(FpgaOptions(**values))
