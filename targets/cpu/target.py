"""The CPU target: code for any processor that LLVM knows, specialised for its vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from lhcc.integer import Program
from lhcc.integer.ported import Ported
from lhcc.ir.log import Lowered
from lhcc.passes.choose_layouts import ChooseLayouts
from lhcc.passes.encode_elements import EncodeElements
from lhcc.passes.lower_generic import LowerGeneric
from lhcc.passes.lower_kernels import LowerKernels
from lhcc.passes.pack_tiles import PackTiles
from lhcc.targets.base import Options, Pass
from lhcc.targets.boards import Board
from lhcc.targets.cpu import integers, layouts, machine, maps, wide_forms
from lhcc.targets.cpu.conv import conv_kernel
from lhcc.targets.cpu.encode import encode
from lhcc.targets.cpu.generic_tuning import TunedSchedule
from lhcc.targets.cpu.machine import Machine
from lhcc.targets.cpu.pack import pack
from lhcc.targets.cpu.plan import ConvSpec


@dataclass(frozen=True)
class CpuTarget:
    machine: Machine
    name: str = "cpu"
    integers_only: bool = False
    board: Board | None = None

    def compile_program(self, program: Program, options: Options, images: int) -> Any:
        from lhcc.runtime.build import build

        lowered = self.lower_program(program, options, images)
        return build(lowered, self, threads=options.threads, limits=options.limits(self.board))

    def lower_program(self, program: Program, options: Options, images: int) -> Lowered:
        return integers.lower(program, self.machine, options, images)

    def lower_part(self, ported: Ported, options: Options, images: int) -> Lowered:
        return integers.lower_part(ported, self.machine, options, images)

    def tvm_target(self) -> Any:
        return self.machine.tvm_target()

    def layout_passes(self, options: Options) -> list[Pass]:
        return [
            EncodeElements(partial(encode, machine=self.machine, options=options)),
            ChooseLayouts(self.machine.block),
            PackTiles(partial(pack, machine=self.machine, options=options)),
        ]

    def lowering_passes(self, options: Options) -> list[Pass]:
        return [
            LowerGeneric(TunedSchedule(self.machine, options)),
            LowerKernels(partial(self._kernel, options=options)),
        ]

    def _kernel(self, operator: str, attrs: dict[str, Any], shapes: list[tuple[int, ...]], *, options: Options) -> Any:
        lanes, threads = self.machine.lanes, options.threads
        if operator == "lhcc.tiles":
            return conv_kernel(ConvSpec.from_json(attrs["spec"]), len(shapes[0]), len(attrs["shape"]))
        if operator == "lhcc.widen":
            return wide_forms.widening(attrs["spec"], shapes[0])
        if operator == "lhcc.wide_conv2d":
            return wide_forms.kernel(wide_forms.spec_of(attrs["spec"]), attrs["shape"])
        if operator == "lhcc.to_blocked":
            return layouts.to_blocked(shapes[0], self.machine.block, lanes, threads, ordered=len(shapes) == 2)
        if operator == "lhcc.from_blocked":
            return layouts.from_blocked(attrs["shape"], self.machine.block, lanes, threads, ordered=len(shapes) == 2)
        if operator == "lhcc.activation":
            return maps.activation(shapes[0], attrs["activation"], lanes, threads)
        assert operator == "lhcc.global_average", operator
        return maps.global_average(shapes[0], lanes, threads)


def create(arguments: Mapping[str, str], board: Board | None = None) -> CpuTarget:
    return CpuTarget(machine.create(arguments, board), board=board)
