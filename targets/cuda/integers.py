"""Integer programs on a GPU, bit for bit: bytes on matrix instructions, what is wider in ordinary registers.

Every instruction becomes a kernel call, with what `lhcc.integer.tails` says is computed with it.  A map holds bytes,
signed or not, where its interval allows, or else words of 32 bits.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from tvm import relax

from lhcc.errors import TargetError
from lhcc.integer import (
    Add,
    Clip,
    Concat,
    Conv,
    Dense,
    Flatten,
    Input,
    Instruction,
    MaxPool,
    Piecewise,
    Program,
    Requantise,
    SumPool,
)
from lhcc.integer.tails import Step, Tail, tails
from lhcc.ir.calls import KernelCalls
from lhcc.ir.graph import constant
from lhcc.ir.int_steps import StepWriter, fits, narrow
from lhcc.ir.layer import ConvLayer
from lhcc.ir.log import Lowered, Reason
from lhcc.targets.base import Options
from lhcc.targets.cuda import int_maps
from lhcc.targets.cuda.arch import BLOCK, Machine
from lhcc.targets.cuda.int_maps import Map
from lhcc.targets.cuda.kernels import packed_kernel
from lhcc.targets.cuda.pack import pack
from lhcc.targets.cuda.spec import Integers

Summing = Conv | Dense | MaxPool | SumPool
LABELS = {Conv: "int_conv2d", Dense: "int_dense", MaxPool: "int_max_pool2d", SumPool: "int_sum_pool2d"}


def lower(program: Program, machine: Machine, options: Options, images: int = 1) -> Lowered:
    return _Lowering(program, machine, options, images).run()


def narrowest(low: int, high: int, elements: tuple[str, ...] = ("uint8", "int8")) -> str:
    """The narrowest integers that hold an interval."""
    held = (element for element in elements if np.iinfo(element).min <= low and high <= np.iinfo(element).max)
    return next(held, "int32")


class _Lowering:
    def __init__(self, program: Program, machine: Machine, options: Options, images: int) -> None:
        self.program, self.machine, self.options, self.images = program, machine, options, images
        self.calls = KernelCalls()
        self.values: dict[str, Any] = {}
        self.maps = {name: self._map(name) for name in program.types}
        self.unfolded: set[str] = set()  # inputs

    def _map(self, name: str) -> Map:
        kind = self.program.types[name]
        if not fits(kind.low, kind.high):
            need = kind.bits + (not kind.signed)
            raise TargetError(f"layer '{name}' needs {need} bits, and the GPU's sums have 32", "use fewer bits")
        height, width = kind.shape[:2] if len(kind.shape) == 3 else (1, 1)
        element = narrowest(int(kind.low.min()), int(kind.high.max()))
        return Map(self.images, kind.channels, height, width, element)

    def run(self) -> Lowered:
        parameters = [self._enter(step) for step in self.program.inputs]
        for name, tail in tails(self.program).items():
            self._instruction(self.program[name], tail)
        outputs = [self._leave(name) for name in self.program.outputs]
        return self.calls.lowered(parameters, outputs)

    def _made(self, name: str, label: str, key: Any, make: Any, operands: list[Any], target: Map, **cost: Any) -> Any:
        return self.calls.call(name, label, (label, key), make, operands, target.shape, target.element, **cost)

    # ---- the user's numbers
    def _enter(self, step: Input) -> Any:
        place, kind = self.maps[step.name], self.program.types[step.name]
        shape: tuple[int, ...] = (self.images, place.channels, place.height, place.width)
        if len(step.shape) == 1:
            shape = shape[:2]
        elif self.program.layout != "NCHW":
            raise TargetError("the CUDA target reads images as NCHW", "export the model with channels first")
        if kind.scale.ndim or (kind.low != kind.low[0]).any() or (kind.high != kind.high[0]).any():
            message = f"input '{step.name}' has a scale or an interval of its own per channel"
            raise TargetError(message, "use one for all")
        low, high, scale = int(kind.low[0]), int(kind.high[0]), float(kind.scale)
        taken = self.options.io == "integer"
        element = narrowest(low, high, ("uint8", "int8", "int16")) if taken else "float32"
        number = int_maps.clipped(low, high) if taken else int_maps.quantised(scale, low, high)
        parameter = relax.Var(step.name, relax.TensorType(list(shape), element))
        geometry = self._unfolded(step)
        place = self.maps[step.name]
        key = shape, place, element, low, high, scale, geometry
        self.values[step.name] = self._made(
            step.name, "take" if taken else "quantise", key,
            partial(int_maps.enter, shape, place, number, element, *geometry), [parameter], place,
        )  # fmt: skip
        return parameter

    def _unfolded(self, step: Input) -> tuple[Any, ...]:
        """An image of few channels that one convolution reads is made what it reads: its taps become channels."""
        users = self.program.users[step.name]
        conv = users[0] if len(users) == 1 and step.name not in self.program.outputs else None
        if not isinstance(conv, Conv):
            return ()
        rows, columns, inputs, _ = conv.weight.shape
        taps = rows * columns
        if conv.groups > 1 or inputs > BLOCK // 4 or -(-inputs * taps // BLOCK) >= taps:
            return ()
        height, width, _ = self.program.types[conv.name].shape
        place = self.maps[step.name]
        self.maps[step.name] = replace(place, channels=inputs * taps, height=height, width=width)
        self.unfolded.add(step.name)
        return (rows, columns), conv.stride, conv.padding[:2], conv.dilation

    def _leave(self, name: str) -> Any:
        place, kind = self.maps[name], self.program.types[name]
        shape = (self.images, place.channels, place.height, place.width)[: 4 if len(kind.shape) == 3 else 2]
        real = self.options.io != "integer"
        low, high = int(kind.low.min()), int(kind.high.max())
        element = "float32" if real else narrowest(low, high, ("uint8", "int8", "int16"))
        scale = np.broadcast_to(kind.scale, (place.channels,)).astype(np.float64).copy()
        operands = [self.values[name], *([constant(scale)] if real else [])]
        label = "dequantise" if real else "give"
        make = partial(int_maps.leave, place, shape, element, real)
        key = label, place, shape, element
        return self.calls.call(name, label, key, make, operands, shape, element)

    # ---- instructions
    def _instruction(self, step: Instruction, tail: Tail) -> None:
        if isinstance(step, (Conv, Dense, MaxPool, SumPool)):
            made = self._sum(step, tail)
        elif isinstance(step, (Clip, Requantise, Add)):
            made = self._steps(step, tail)
        elif isinstance(step, Piecewise):
            made = self._piecewise(step)
        else:
            assert isinstance(step, (Concat, Flatten)), type(step).__name__
            made = self._gather(step)
        self.values[tail.last] = made

    def _sum(self, step: Summing, tail: Tail) -> Any:
        operand, source = self.values[step.inputs[0]], self.maps[step.inputs[0]]
        layer = self._layer(step, source, tail)
        weight = layer.weight
        if weight is not None and not layer.depthwise and narrowest(weight.min(), weight.max(), ("int8",)) != "int8":
            operand, source = self._as_words(step.name, operand, source)
        integers, table = self._told(source, step.name, tail.steps, tail)
        packed = pack(layer, self.machine, self.options, integers=integers)
        self.calls.reasons += [Reason(step.name, "pack_tiles", text) for text in packed.why]
        operands = [operand, *map(constant, packed.constants), table, *self._other(tail.other)]
        return self._made(
            step.name, LABELS[type(step)], packed.spec, lambda: packed_kernel(packed.spec), operands,
            self.maps[tail.last], encoding=packed.encoding, density=packed.density, macs=packed.macs,
            macs_kept=packed.macs_kept, schedule=packed.schedule,
        )  # fmt: skip

    def _layer(self, step: Summing, x: Map, tail: Tail) -> ConvLayer:
        """The sum as the packer of floats sees it; weights and biases are integers."""
        y = self.maps[step.name]
        result, added = (self.images, y.channels, y.height, y.width), "before" if tail.other is not None else ""
        image = (self.images, x.channels, x.height, x.width)

        def layer(weight: Any, bias: Any, groups: int, geometry: tuple[Any, ...]) -> ConvLayer:
            kernel, strides, padding, dilation = geometry
            return ConvLayer(
                step.name, LABELS[type(step)], weight, bias, kernel, groups, image, result, strides, padding,
                dilation, False, "blocked", "blocked", "", added,
            )  # fmt: skip

        nothing = np.zeros(y.channels, np.int32)
        if isinstance(step, MaxPool):
            return layer(None, None, x.channels, (step.kernel, step.stride, step.padding, (1, 1)))
        if isinstance(step, SumPool):
            ones = np.ones((x.channels, 1, *step.kernel), np.int32)
            return layer(ones, nothing, x.channels, (step.kernel, step.stride, step.padding, (1, 1)))
        bias = narrow(step.bias)
        if isinstance(step, Dense):
            return layer(narrow(step.weight.T)[:, :, None, None], bias, 1, ((1, 1), (1, 1), (0,) * 4, (1, 1)))
        weight = narrow(step.weight.transpose(3, 2, 0, 1))
        if step.inputs[0] in self.unfolded:
            return layer(weight.reshape(len(weight), -1, 1, 1), bias, 1, ((1, 1), (1, 1), (0,) * 4, (1, 1)))
        return layer(weight, bias, step.groups, (weight.shape[2:], step.stride, step.padding, step.dilation))

    def _steps(self, step: Step, tail: Tail) -> Any:
        name = step.inputs[0]
        source, target = self.maps[name], self.maps[tail.last]
        integers, table = self._told(source, name, (step, *tail.steps), tail)
        other = step.inputs[1] if isinstance(step, Add) else tail.other
        integers = replace(integers, added=self.maps[other].element if other is not None else "")
        operands = [self.values[name], table, *self._other(other)]
        return self._made(
            step.name, f"int_{type(step).__name__.lower()}", (source, target, integers),
            lambda: int_maps.steps(source, target, integers), operands, target,
        )  # fmt: skip

    def _told(self, source: Map, at: str, steps: tuple[Step, ...], tail: Tail) -> tuple[Integers, Any]:
        """What a kernel is told of the steps after tensor `at`, and their tables."""
        types, target = self.program.types, self.maps[tail.last]
        writer = StepWriter(target.channels, BLOCK, floats=False)
        for link in tail.chain:
            writer.write(link, types[link.inputs[0]])
        first, writer.steps = tuple(writer.steps), []
        for step in steps:
            if isinstance(step, Add):
                left, right = step.shifts if step.inputs[0] == at else step.shifts[::-1]
                writer.steps.append(f"add {left} {right}")
            else:
                writer.write(step, types[step.inputs[0]])
            at = step.name
        added = self.maps[tail.other].element if tail.other is not None else ""
        return Integers(source.element, target.element, tuple(writer.steps), added, first), constant(writer.table())

    def _other(self, name: str | None) -> list[Any]:
        return [] if name is None else [self.values[name]]

    def _as_words(self, name: str, operand: Any, source: Map) -> tuple[Any, Map]:
        """The map for a layer whose weights are no bytes."""
        if source.element == "int32":
            return operand, source
        target, integers = replace(source, element="int32"), Integers(source.element, "int32")
        nothing = constant(np.zeros(1, np.int32))
        make = partial(int_maps.steps, source, target, integers)
        return self._made(name, "widen", (source, target), make, [operand, nothing], target), target

    def _piecewise(self, step: Piecewise) -> Any:
        source, target = self.maps[step.inputs[0]], self.maps[step.name]
        table = np.concatenate([step.breakpoints, step.slopes, step.offsets])
        if not fits(table.min(), table.max()):
            raise TargetError(f"layer '{step.name}' needs segments of more than 32 bits", "use fewer activation bits")
        segments = len(step.slopes)
        make = partial(int_maps.piecewise, source, target, segments)
        operands = [self.values[step.inputs[0]], constant(narrow(table))]
        return self._made(step.name, "int_piecewise", (source, target, segments), make, operands, target)

    def _gather(self, step: Concat | Flatten) -> Any:
        target, flatten = self.maps[step.name], isinstance(step, Flatten)
        sources, operands = ([of[name] for name in step.inputs] for of in (self.maps, self.values))
        label = "int_flatten" if flatten else "int_concat"
        make = partial(int_maps.gather, sources, target, flatten)
        return self._made(step.name, label, (tuple(sources), target), make, operands, target)
