"""Integer programs on a CPU: every instruction becomes a kernel call on packed bytes or 32-bit words, bit for bit.

A convolution or a dense layer takes in what follows it (requantise, clip, addition) as long as nobody else reads the
sum.  Maps whose interval is within 0 .. 255 are packed bytes; all others are 32-bit words.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax

from lhcc.encodings import tiles
from lhcc.encodings.tiles import ungroup
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
    TensorType,
)
from lhcc.ir.graph import constant
from lhcc.ir.layer import ConvLayer
from lhcc.ir.log import LayerRecord, Lowered, Reason
from lhcc.targets.base import Options
from lhcc.targets.cpu import int_maps
from lhcc.targets.cpu.int_conv import QUAD, IntForm, int_conv_kernel
from lhcc.targets.cpu.int_maps import BLOCK, Map
from lhcc.targets.cpu.int_steps import StepWriter, fits, narrow
from lhcc.targets.cpu.machine import Machine
from lhcc.targets.cpu.pack import Problem, preferred
from lhcc.targets.cpu.plan import Plan, View, plan_conv
from lhcc.targets.cpu.tiling import cover


def lower(program: Program, machine: Machine, options: Options, images: int = 1) -> Lowered:
    return _Lowering(program, machine, options, images).run()


class _Lowering:
    def __init__(self, program: Program, machine: Machine, options: Options, images: int) -> None:
        self.program, self.machine, self.options, self.images = program, machine, options, images
        self.builder = relax.BlockBuilder()
        self.kernels: dict[str, Any] = {}
        self.bindings: list[Any] = []
        self.values: dict[str, Any] = {}
        self.layers: list[LayerRecord] = []
        self.reasons: list[Reason] = []
        self.done: set[str] = set()

    def run(self) -> Lowered:
        program = self.program
        for name, kind in program.types.items():
            if not fits(kind.low, kind.high):
                need = kind.bits + (not kind.signed)
                raise TargetError(f"layer '{name}' needs {need} bits, and the CPU's integers have 32", "use fewer bits")
        parameters = [self._input(step) for step in program.inputs]
        for step in program.instructions:
            if step.name not in self.done and not isinstance(step, Input):
                self._instruction(step)
        outputs = [self._output(name) for name in program.outputs]
        result = outputs[0] if len(outputs) == 1 else self.builder.normalize(relax.Tuple(outputs))
        final = relax.Var("output", result.ty)
        block = relax.DataflowBlock([*self.bindings, relax.VarBinding(final, result)])
        body = self.builder.normalize(relax.SeqExpr([block], final))
        main = relax.Function(parameters, body, result.ty).with_attr("global_symbol", "main")
        mod = tvm.IRModule({relax.GlobalVar("main"): main, **self.builder.get().functions})
        return Lowered(mod, self.layers, self.reasons)

    # ---- calls
    def _map(self, name: str) -> Map:
        kind = self.program.types[name]
        height, width = kind.shape[:2] if len(kind.shape) == 3 else (1, 1)
        # narrower machines would store parts of packed blocks: they keep words
        packed = self.machine.lanes == BLOCK and int(kind.low.min()) >= 0 and int(kind.high.max()) <= 255
        return Map(self.images, kind.channels, height, width, packed)

    def _call(
        self,
        name: str,
        label: str,
        key: str,
        make: Any,
        operands: list[Any],
        shape: tuple[int, ...],
        dtype: str,
        **cost: Any,
    ) -> Any:
        if key not in self.kernels:
            self.kernels[key] = self.builder.add_func(make(), f"{label}_{len(self.kernels)}")
        kernel = self.kernels[key]
        call = relax.call_tir(kernel, relax.Tuple(operands), relax.TensorType(list(shape), dtype))
        value = self.builder.normalize(call)
        var = relax.DataflowVar(name, value.ty)
        self.bindings.append(relax.VarBinding(var, value))
        self.layers.append(LayerRecord(name, label, kernel.name_hint, **cost))
        return var

    def _input(self, step: Input) -> Any:
        place = self._map(step.name)
        shape: tuple[int, ...] = (self.images, place.channels, place.height, place.width)
        if len(step.shape) == 1:
            shape = (self.images, place.channels)
        elif self.program.layout != "NCHW":
            raise TargetError("the CPU target reads images as NCHW", "export the model with channels first")
        kind = self.program.types[step.name]
        if kind.scale.ndim or (kind.low != kind.low[0]).any() or (kind.high != kind.high[0]).any():
            raise TargetError(
                f"input '{step.name}' has a scale or an interval of its own per channel", "use one for all"
            )
        scale, low, high = float(kind.scale), int(kind.low[0]), int(kind.high[0])
        parameter = relax.Var(step.name, relax.TensorType(list(shape), "float32"))

        real = self._is_real(step.name)

        def make() -> Any:
            return int_maps.quantise(shape, place, scale, low, high, real, self.options.threads)

        key = f"quantise {shape} {place} {scale!r} {low} {high} {real}"
        self.values[step.name] = self._call(step.name, "quantise", key, make, [parameter], place.shape, "int32")
        return parameter

    def _output(self, name: str) -> Any:
        place, kind = self._map(name), self.program.types[name]
        shape = (self.images, place.channels, place.height, place.width)[: 4 if len(kind.shape) == 3 else 2]
        scale = np.broadcast_to(kind.scale, (place.channels,)).astype(np.float64).copy()

        def make() -> Any:
            return int_maps.dequantise(place, shape, self.options.threads)

        operands = [self.values[name], constant(scale)]
        return self._call(name, "dequantise", f"dequantise {place} {shape}", make, operands, shape, "float32")

    def _instruction(self, step: Instruction) -> None:
        if isinstance(step, (Conv, Dense)):
            self._layer(step)
        elif isinstance(step, (MaxPool, SumPool)):
            self._pool(step)
        elif isinstance(step, (Clip, Requantise, Add)):
            self._steps(step)
        elif isinstance(step, Piecewise):
            self._piecewise(step)
        else:
            assert isinstance(step, (Concat, Flatten)), type(step).__name__
            self._gather(step)

    def _is_real(self, name: str) -> bool:
        """Whether a map of words can be kept as float32: only sums read it, and all of them fit into 24 bits."""
        if self._map(name).packed or name in self.program.outputs or not isinstance(self.program[name], Input):
            return False
        users = self.program.users[name]
        return all(isinstance(user, Conv) and _exact_in_float(user, self.program.types[name]) for user in users)

    # ---- sums and what they take in
    def _tail(self, step: Instruction) -> tuple[StepWriter, Instruction, str | None]:
        """The steps after a sum, the last instruction taken in, and what is added."""
        program = self.program
        writer = StepWriter(program.types[step.name].channels, BLOCK)
        last, other = step, None
        while last.name not in program.outputs and len(program.users[last.name]) == 1:
            (user,) = program.users[last.name]
            if isinstance(user, Clip):
                writer.clip(user)
            elif isinstance(user, Requantise):
                writer.requantise(user, program.types[last.name])
            elif isinstance(user, Add) and other is None and user.inputs[0] != user.inputs[1]:
                first = user.inputs[0] == last.name
                partner = user.inputs[1] if first else user.inputs[0]
                if partner not in self.values:
                    break
                mine, theirs = user.shifts if first else user.shifts[::-1]
                writer.steps.append(f"add {mine} {theirs}")
                other = partner
            else:
                break
            last = user
            self.done.add(user.name)
        return writer, last, other

    def _layer(self, step: Conv | Dense) -> None:
        place = self._map(step.inputs[0])
        weight = step.weight.transpose(3, 2, 0, 1) if isinstance(step, Conv) else step.weight.T[:, :, None, None]
        groups = step.groups if isinstance(step, Conv) else 1
        depthwise = isinstance(step, Conv) and weight.shape[:2] == (groups, 1) and groups == place.channels
        packed = place.packed and not depthwise and np.abs(weight).max(initial=0) <= 127
        if isinstance(step, Conv):
            window = step.window
            geometry = (window.kernel, window.stride, window.padding, window.dilation)
        else:
            geometry = ((1, 1), (1, 1), (0, 0, 0, 0), (1, 1))
        full = np.ascontiguousarray(weight if depthwise else ungroup(weight, groups)).astype(np.int64)
        self._convolve(step, place, full, narrow(step.bias), geometry, depthwise, packed, "multiply")

    def _pool(self, step: MaxPool | SumPool) -> None:
        place = self._map(step.inputs[0])
        window = step.window
        geometry = (window.kernel, window.stride, window.padding, window.dilation)
        weight = np.ones((place.channels, 1, *window.kernel), np.int64)
        combine = "max" if isinstance(step, MaxPool) else "multiply"
        self._convolve(step, place, weight, np.zeros(place.channels, np.int32), geometry, True, False, combine)

    def _convolve(
        self,
        step: Instruction,
        place: Map,
        weight: NDArray[np.int64],
        bias: NDArray[np.int32],
        geometry: Any,
        lanewise: bool,
        dot: bool,
        combine: str,
    ) -> None:
        writer, last, other = self._tail(step)
        target = self._map(last.name)
        source = place
        operand = self.values[step.inputs[0]]
        if place.packed and not lanewise and not dot:  # weights beyond a byte: products of words
            source = replace(place, packed=False)
            operand = self._copy(step.name, operand, place, source)
        pixels = self.program.types[step.name].shape
        size = (pixels[0], pixels[1]) if len(pixels) == 3 else (1, 1)
        plan, why = self._plan(
            step.name, source, target, weight, geometry, size, lanewise, dot, combine, other is not None
        )
        added = self._map(other) if other is not None else None
        packed_added = added.packed if added is not None else False
        real = self._is_real(step.inputs[0])
        form = IntForm(source.packed, target.packed, packed_added, tuple(writer.steps), self.machine.dot, real)
        padded = int(plan.table[0]) * plan.spec.block
        constants = [] if combine == "max" else [plan.weights, np.pad(bias, (0, padded - len(bias)))]
        if real:
            constants = [words.astype(np.float32).view(np.int32) for words in constants]
        tables = _padded_tables(writer, padded)
        operands = [operand, *map(constant, constants), constant(plan.table), constant(tables)]
        operands += [self.values[other]] if other is not None else []
        macs = 0 if isinstance(step, (MaxPool, SumPool)) else int(weight.size) * size[0] * size[1] * self.images
        label = {Conv: "int_conv2d", Dense: "int_dense", MaxPool: "int_max_pool2d", SumPool: "int_sum_pool2d"}[
            type(step)
        ]
        density = float(np.count_nonzero(weight)) / max(1, weight.size)
        self.values[last.name] = self._call(
            step.name,
            label,
            f"{plan.spec.to_json()} {asdict(form)}",
            lambda: int_conv_kernel(plan.spec, form),
            operands,
            target.shape,
            "int32",
            encoding=""
            if not macs
            else "depthwise"
            if lanewise
            else "tiles (bytes)"
            if dot
            else "tiles (float)"
            if real
            else "tiles (words)",
            density=density if macs else 1.0,
            macs=macs,
            macs_kept=plan.macs * (QUAD if dot else 1) if macs else 0,
            schedule=why,
        )

    def _plan(
        self,
        name: str,
        source: Map,
        target: Map,
        weight: NDArray[np.int64],
        geometry: Any,
        size: tuple[int, int],
        lanewise: bool,
        dot: bool,
        combine: str,
        residual: bool,
    ) -> tuple[Plan, str]:
        kernel, stride, padding, dilation = geometry
        words = _words(weight) if dot else weight.astype(np.int32)
        machine = replace(self.machine, block=QUAD) if dot else self.machine
        inputs = words.shape[1] if not lanewise else source.channels
        layer = ConvLayer(
            name, "conv2d", None if combine == "max" else words.astype(np.float32), None, kernel,
            source.channels if lanewise else 1, (self.images, inputs, source.height, source.width),
            (self.images, len(weight), *size), stride, padding, dilation, False, "blocked", "blocked", "", "",
        )  # fmt: skip
        problem = Problem(layer, machine, self.options)
        # bytes are multiplied so fast that sparse sums wait for their weights: narrow tiles hold fewer zeros
        narrow_first = [c for c in preferred(problem) if c.choice.dense or not dot or c.choice.vectors == 1]
        candidate = narrow_first[0]
        choice = candidate.choice
        width = self.machine.lanes * choice.vectors
        encoded = tiles.from_dense(words, width, choice.depth, keep_all=choice.dense)  # type: ignore[arg-type]
        plan = plan_conv(
            encoded,
            self.machine.lanes,
            choice.vectors,
            cover(problem.axes, choice.height, choice.width),
            _view(source, QUAD if source.packed and not lanewise else BLOCK),
            _view(target, BLOCK),
            batch=self.images,
            lanewise=lanewise,
            residual="before" if residual else "",
            threads=choice.threads,
            tile_outer=choice.tile_outer,
            accumulators=choice.chains,
            combine=combine,
            unroll=choice.unroll,
        )
        return plan, str(candidate)

    # ---- everything else
    def _copy(self, name: str, operand: Any, source: Map, target: Map, names: tuple[str, ...] = ()) -> Any:
        def make() -> Any:
            return int_maps.steps(source, None, target, names, self.options.threads)

        operands = [operand, constant(np.zeros(1, np.int32))]
        return self._call(name, "unpack", f"steps {source} {target} {names}", make, operands, target.shape, "int32")

    def _steps(self, step: Instruction) -> None:
        writer = StepWriter(self.program.types[step.name].channels, BLOCK)
        other = None
        if isinstance(step, Add):
            writer.steps.append(f"add {step.shifts[0]} {step.shifts[1]}")
            other = step.inputs[1]
        elif isinstance(step, Clip):
            writer.clip(step)
        else:
            assert isinstance(step, Requantise)
            writer.requantise(step, self.program.types[step.inputs[0]])
        source, target = self._map(step.inputs[0]), self._map(step.name)
        added = self._map(other) if other is not None else None
        names = tuple(writer.steps)

        def make() -> Any:
            return int_maps.steps(source, added, target, names, self.options.threads)

        operands = [self.values[step.inputs[0]], constant(writer.table())]
        operands += [self.values[other]] if other is not None else []
        key = f"steps {source} {added} {target} {names}"
        label = f"int_{type(step).__name__.lower()}"
        self.values[step.name] = self._call(step.name, label, key, make, operands, target.shape, "int32")

    def _piecewise(self, step: Piecewise) -> None:
        source, target = self._map(step.inputs[0]), self._map(step.name)
        table = np.concatenate([step.breakpoints, step.slopes, step.offsets])
        if not fits(table.min(), table.max()):
            raise TargetError(f"layer '{step.name}' needs segments of more than 32 bits", "use fewer activation bits")

        def make() -> Any:
            return int_maps.piecewise(source, target, len(step.slopes), self.options.threads)

        operands = [self.values[step.inputs[0]], constant(narrow(table))]
        key = f"piecewise {source} {target} {len(step.slopes)}"
        self.values[step.name] = self._call(step.name, "int_piecewise", key, make, operands, target.shape, "int32")

    def _gather(self, step: Concat | Flatten) -> None:
        target = self._map(step.name)
        sources, operands = [], []
        for name in step.inputs:
            source = self._map(name)
            operand = self.values[name]
            if source.packed != target.packed:
                wide = replace(source, packed=target.packed)
                operand = self._copy(step.name, operand, source, wide)
                source = wide
            sources.append(source)
            operands.append(operand)
        flatten = isinstance(step, Flatten)

        def make() -> Any:
            return int_maps.gather(sources, target, flatten, self.options.threads)

        key = f"gather {sources} {target} {flatten}"
        label = "int_flatten" if flatten else "int_concat"
        self.values[step.name] = self._call(step.name, label, key, make, operands, target.shape, "int32")


def _exact_in_float(step: Conv, x: TensorType) -> bool:
    """Whether no partial sum, in whichever order, needs more than the 24 bits of a float32."""
    largest = int(np.maximum(np.abs(x.low), np.abs(x.high)).max())
    sums = np.abs(step.weight).sum(axis=(0, 1, 2)) * largest + np.abs(step.bias)
    return int(sums.max(initial=0)) < 1 << 24


def _words(weight: NDArray[np.int64]) -> NDArray[np.int32]:
    """(O, I, kh, kw) bytes as (O, I/4, kh, kw) words, the first input in the lowest byte."""
    outputs, inputs, height, width = weight.shape
    padded = np.pad(weight, ((0, 0), (0, -inputs % QUAD), (0, 0), (0, 0))).astype(np.int8)
    quads = padded.reshape(outputs, -1, QUAD, height, width).transpose(0, 1, 3, 4, 2)
    return np.ascontiguousarray(quads).view(np.int32)[..., 0]


def _view(place: Map, block: int) -> View:
    """`block` counts words for sums of quads, channels otherwise; distances are in words."""
    plane = place.pixels * place.words
    return View(block, 1, plane, place.width * place.words, place.words, place.blocks * plane)


def _padded_tables(writer: StepWriter, padded: int) -> NDArray[np.int32]:
    """The tables of the steps, as long as the kernel's blocks of outputs."""
    grown = [np.pad(table, (0, padded - len(table))) for table in writer.tables]
    return np.concatenate(grown).astype(np.int32) if grown else np.zeros(1, np.int32)
