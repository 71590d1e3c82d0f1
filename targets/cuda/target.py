"""The CUDA target: code for NVIDIA GPUs, with tensor cores.

`cuda:arch=sm_90,precision=fp16`: sm_75 and later; fp32, tf32, fp16, bf16, and int8 for integer programs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from lhcc.integer import Program
from lhcc.ir.log import Lowered
from lhcc.passes.choose_layouts import ChooseLayouts
from lhcc.passes.dense_as_conv import DenseAsConv
from lhcc.passes.lower_generic import LowerGeneric
from lhcc.passes.lower_kernels import LowerKernels
from lhcc.passes.pack_tiles import PackTiles
from lhcc.passes.split_as_slices import SplitAsSlices
from lhcc.passes.unfold_few_channels import UnfoldFewChannels
from lhcc.targets.base import Options, Pass
from lhcc.targets.cuda import arch, codegen, generic, integers, maps
from lhcc.targets.cuda.arch import BLOCK, Machine
from lhcc.targets.cuda.kernels import packed_kernel
from lhcc.targets.cuda.pack import pack
from lhcc.targets.cuda.plain import plain_kernel
from lhcc.targets.cuda.planar import reads_planar
from lhcc.targets.cuda.pooling import TakeInPooling


@dataclass(frozen=True)
class CudaTarget:
    machine: Machine
    name: str = "cuda"
    integers_only: bool = False

    @property
    def precision(self) -> str:
        return self.machine.precision

    def compile_program(self, program: Program, options: Options, images: int) -> Any:
        from lhcc.targets.cuda.build import build

        return build(self.lower_program(program, options, images), replace(self.machine, precision="int8"))

    def lower_program(self, program: Program, options: Options, images: int) -> Lowered:
        return integers.lower(program, self.machine, options, images)

    def build(self, lowered: Any, options: Options, output_names: Sequence[str]) -> Any:
        from lhcc.targets.cuda.build import build

        return build(lowered, self.machine, output_names)

    def tvm_target(self) -> Any:
        return codegen.tvm_target(self.machine.arch.name)

    def layout_passes(self, options: Options) -> list[Pass]:
        element = self.machine.arithmetic.element
        planar = partial(reads_planar, element=element)
        return [
            SplitAsSlices(),
            DenseAsConv(),
            UnfoldFewChannels(BLOCK, planar),
            ChooseLayouts(BLOCK, element, planar, elementwise=True),
            PackTiles(partial(pack, machine=self.machine, options=options)),
            TakeInPooling(),
        ]

    def lowering_passes(self, options: Options) -> list[Pass]:
        return [LowerGeneric(generic.schedule), LowerKernels(self._kernel, True, *self._checking())]

    def _checking(self) -> tuple[Any, float]:
        """What LHCC_VERIFY=2 runs here in place of kernels, and how close it comes."""
        tolerance = {"fp32": 1e-5, "tf32": 1e-5, "fp16": 4e-3}.get(self.machine.precision)
        if tolerance is None:
            return None, 1e-5  # numpy has no numbers like these
        return lambda operator, attrs, shapes: plain_kernel(attrs["spec"]), tolerance

    def _kernel(self, operator: str, attrs: dict[str, Any], shapes: list[tuple[int, ...]]) -> Any:
        element = self.machine.arithmetic.element
        if operator == "lhcc.tiles":
            return packed_kernel(attrs["spec"])
        if operator == "lhcc.to_blocked":
            return maps.to_blocked(shapes[0], element, ordered=len(shapes) == 2)
        if operator == "lhcc.from_blocked":
            return maps.from_blocked(attrs["shape"], element, ordered=len(shapes) == 2)
        if operator == "lhcc.unfold":
            kernel, strides, padding, dilation = (attrs[key] for key in ("kernel", "strides", "padding", "dilation"))
            return maps.unfold(shapes[0], attrs["shape"][2:4], kernel, strides, padding, dilation, element)
        if operator == "lhcc.elementwise":
            return maps.elementwise(attrs["function"], shapes, attrs["dtypes"], attrs["shape"], element)
        if operator == "lhcc.activation":
            return maps.activation(shapes[0], attrs["activation"], attrs.get("dtype", "float32"))
        assert operator == "lhcc.global_average", operator
        return maps.global_average(shapes[0], element)


def create(arguments: Mapping[str, str]) -> CudaTarget:
    return CudaTarget(arch.create(arguments))
