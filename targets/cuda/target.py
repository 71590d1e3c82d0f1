"""The CUDA target: code for NVIDIA GPUs, with tensor cores.

`cuda:arch=sm_90,precision=fp16`: sm_75 and later; fp32, tf32, fp16, bf16.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lhcc.errors import TargetError
from lhcc.integer import Program
from lhcc.passes.choose_layouts import ChooseLayouts
from lhcc.passes.dense_as_conv import DenseAsConv
from lhcc.passes.lower_generic import LowerGeneric
from lhcc.passes.lower_kernels import LowerKernels
from lhcc.passes.pack_tiles import PackTiles
from lhcc.passes.split_as_slices import SplitAsSlices
from lhcc.passes.unfold_few_channels import UnfoldFewChannels
from lhcc.targets.base import Options, Pass
from lhcc.targets.cuda import arch, codegen, generic, maps
from lhcc.targets.cuda.arch import BLOCK, Machine
from lhcc.targets.cuda.conv import conv_kernel
from lhcc.targets.cuda.pack import pack
from lhcc.targets.cuda.plan import ConvSpec
from lhcc.targets.cuda.window import WindowSpec, window_kernel


@dataclass(frozen=True)
class CudaTarget:
    machine: Machine
    name: str = "cuda"
    integers_only: bool = False

    def compile_program(self, program: Program, options: Options, images: int) -> Any:
        raise TargetError(
            "target 'cuda' has no kernels for integer programs", "compile with precision=fp16, or with target cpu"
        )

    def build(self, lowered: Any, options: Options, output_names: Sequence[str]) -> Any:
        from lhcc.targets.cuda.build import build

        return build(lowered, self.machine, output_names)

    def tvm_target(self) -> Any:
        return codegen.tvm_target(self.machine.arch.name)

    def layout_passes(self, options: Options) -> list[Pass]:
        element = self.machine.arithmetic.element
        return [
            SplitAsSlices(),
            DenseAsConv(),
            UnfoldFewChannels(BLOCK),
            ChooseLayouts(BLOCK, element, few_channels=0, elementwise=True),
            PackTiles(partial(pack, machine=self.machine, options=options)),
        ]

    def lowering_passes(self, options: Options) -> list[Pass]:
        return [LowerGeneric(generic.schedule), LowerKernels(self._kernel, elsewhere=True)]

    def _kernel(self, operator: str, attrs: dict[str, Any], shapes: list[tuple[int, ...]]) -> Any:
        element = self.machine.arithmetic.element
        if operator == "lhcc.tiles":
            if attrs["spec"].startswith('{"arch"'):
                return conv_kernel(ConvSpec.from_json(attrs["spec"]))
            return window_kernel(WindowSpec.from_json(attrs["spec"]))
        if operator == "lhcc.to_blocked":
            return maps.to_blocked(shapes[0], element)
        if operator == "lhcc.from_blocked":
            return maps.from_blocked(attrs["shape"], element)
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
