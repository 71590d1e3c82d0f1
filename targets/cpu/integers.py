"""Integer programs on a CPU: every instruction becomes a kernel call on bytes, halves or words, bit for bit.

A convolution or a dense layer takes in what follows it (requantise, clip, addition) as long as nobody else reads the
sum.  A map is stored as narrow as its interval allows and as those that read it can multiply (`int_plan`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
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
from lhcc.integer.ported import Port, Ported, alike
from lhcc.ir.calls import KernelCalls
from lhcc.ir.graph import constant
from lhcc.ir.int_steps import StepWriter, fits, narrow
from lhcc.ir.log import Lowered
from lhcc.targets.base import Options
from lhcc.targets.cpu import int_maps, int_reasons
from lhcc.targets.cpu.int_conv import IntForm
from lhcc.targets.cpu.int_dots import int_conv_kernel
from lhcc.targets.cpu.int_plan import Summing, Window, made_up, plan_sum, storage_for, storages
from lhcc.targets.cpu.int_shift import additions, form_of, planes
from lhcc.targets.cpu.int_storage import BLOCK, Map, narrowest
from lhcc.targets.cpu.int_tail import Tail, tail_of
from lhcc.targets.cpu.machine import Machine

Element = Callable[[int, int], str]
LABELS = {Conv: "int_conv2d", Dense: "int_dense", MaxPool: "int_max_pool2d", SumPool: "int_sum_pool2d"}


def lower(program: Program, machine: Machine, options: Options, images: int = 1) -> Lowered:
    """`options.io` says what goes in and comes out; integers are as narrow as they can be."""
    return _Lowering(alike(program, options.io == "integer"), machine, options, images, narrowest).run()


def lower_part(ported: Ported, machine: Machine, options: Options, images: int) -> Lowered:
    """Part of a program, between others."""
    return _Lowering(ported.complete(), machine, options, images, lambda low, high: "int64").run()


class _Lowering:
    def __init__(self, ported: Ported, machine: Machine, options: Options, images: int, element: Element) -> None:
        """`element` is the type of integers of an interval that go in or come out."""
        self.ported, self.program, self.element = ported, ported.program, element
        self.machine, self.options, self.images = machine, options, images
        self.calls = KernelCalls()
        self.values: dict[str, Any] = {}
        self.done: set[str] = set()

    def run(self) -> Lowered:
        program = self.program
        for name, kind in program.types.items():
            if not fits(kind.low, kind.high):
                need = kind.bits + (not kind.signed)
                raise TargetError(f"layer '{name}' needs {need} bits, and the CPU's integers have 32", "use fewer bits")
        if self.options.arith == "shift":
            self._only_powers_of_two()
        parameters = [self._input(*pair) for pair in zip(self.ported.inputs, program.inputs, strict=True)]
        for step in program.instructions:
            if step.name not in self.done and not isinstance(step, Input):
                self._instruction(step)
        outputs = [self._output(port) for port in self.ported.outputs]
        return self.calls.lowered(parameters, outputs)

    def _only_powers_of_two(self) -> None:
        for step in self.program.instructions:
            if isinstance(step, Requantise) and (np.asarray(step.multiplier) != 1).any():
                raise TargetError(
                    f"layer '{step.name}' is scaled by multipliers, and shifts and additions have none",
                    "run: lhcc approximate model.onnx -o dyadic.onnx",
                )

    # ---- calls
    @cached_property
    def _stored(self) -> tuple[dict[str, Map], dict[str, str]]:
        return storages(self.program, self.machine, self.images)

    @property
    def maps(self) -> dict[str, Map]:
        return self._stored[0]

    def _input(self, port: Port, step: Input) -> Any:
        place = self.maps[step.name]
        shape: tuple[int, ...] = (self.images, place.channels, place.height, place.width)
        if len(step.shape) == 1:
            shape = (self.images, place.channels)
        elif self.program.layout != "NCHW":
            raise TargetError("the CPU target reads images as NCHW", "export the model with channels first")
        kind = self.program.types[step.name]
        low, high, threads = int(kind.low.min()), int(kind.high.max()), self.options.threads
        if not port.integer and (kind.scale.ndim or (kind.low != low).any() or (kind.high != high).any()):
            raise TargetError(
                f"input '{step.name}' has a scale or an interval of its own per channel", "use one for all"
            )
        element = self.element(low, high) if port.integer else "float32"
        label, unit = ("take", 1.0) if port.integer else ("quantise", float(kind.scale))

        def make() -> Any:
            if port.integer:
                return int_maps.take(shape, place, element, low, high, threads)
            return int_maps.quantise(shape, place, unit, low, high, threads)

        parameter = relax.Var(step.name, relax.TensorType(list(shape), element))
        key = f"{label} {shape} {element} {place} {unit!r} {low} {high}"
        self.values[step.name] = self.calls.call(step.name, label, key, make, [parameter], place.shape, "int32")
        return parameter

    def _output(self, port: Port) -> Any:
        name = port.name
        place, kind = self.maps[name], self.program.types[name]
        shape = (self.images, place.channels, place.height, place.width)[: 4 if len(kind.shape) == 3 else 2]
        if port.integer:
            element = self.element(int(kind.low.min()), int(kind.high.max()))

            def copy() -> Any:
                return int_maps.give(place, shape, element, self.options.threads)

            key = f"give {place} {shape} {element}"
            return self.calls.call(name, "give", key, copy, [self.values[name]], shape, element)
        scale = np.broadcast_to(kind.scale, (place.channels,)).astype(np.float64).copy()

        def make() -> Any:
            return int_maps.dequantise(place, shape, self.options.threads)

        operands = [self.values[name], constant(scale)]
        return self.calls.call(name, "dequantise", f"dequantise {place} {shape}", make, operands, shape, "float32")

    def _instruction(self, step: Instruction) -> None:
        if isinstance(step, (Conv, Dense, MaxPool, SumPool)):
            self._sum(step)
        elif isinstance(step, (Clip, Requantise, Add)):
            self._steps(step)
        elif isinstance(step, Piecewise):
            self._piecewise(step)
        else:
            assert isinstance(step, (Concat, Flatten)), type(step).__name__
            self._gather(step)

    # ---- sums
    def _sum(self, step: Summing) -> None:
        tail = tail_of(self.program, step, self.values)
        self.done.update(tail.taken)
        if self.options.arith == "shift" and isinstance(step, (Conv, Dense)):
            self._additions(step, tail)
        else:
            self._products(step, tail)

    def _products(self, step: Summing, tail: Tail) -> None:
        source, target, x = self.maps[step.inputs[0]], self.maps[tail.last.name], self.program.types[step.inputs[0]]
        window = Window.of(step, x.shape, self.program.types[step.name].shape)
        operand, storage = self.values[step.inputs[0]], storage_for(window, source, self.machine)
        if storage != source.storage:
            operand, source = self._copy(step.name, operand, source, storage)
        plan, choices = plan_sum(
            window, source, target, int(x.high.max()), tail.other is not None, self.machine, self.options
        )
        choice, cost = choices[0], window.costs(plan, choices[0].sums, self.images)
        wider = self._stored[1][step.inputs[0]] if window.combine == "multiply" and not window.lanewise else ""
        self.calls.reasons += int_reasons.of_sums(step.name, source.storage, wider, cost, choices)
        added = self.maps[tail.other].storage if tail.other is not None else ""
        form = IntForm(source.storage, target.storage, added, tail.steps, tail.other_steps, choice.sums)
        padded = int(plan.table[0]) * plan.spec.block
        bias = np.pad(made_up(window, choice.sums), (0, padded - len(window.bias)))
        constants = [_at_least_one(plan.weights), bias] if window.combine == "multiply" else []
        operands = [operand, *map(constant, constants), constant(plan.table)]
        self.values[tail.last.name] = self.calls.call(
            step.name,
            LABELS[type(step)],
            f"{plan.spec.to_json()} {form}",
            lambda: int_conv_kernel(plan.spec, form),
            [*operands, *self._tail_operands(tail, padded)],
            target.shape,
            "int32",
            schedule=str(choice),
            **cost,
        )

    def _additions(self, step: Conv | Dense, tail: Tail) -> None:
        source, target = self.maps[step.inputs[0]], self.maps[tail.last.name]
        form = form_of(step, self.program.types[step.inputs[0]])
        layer = form.layer
        self.calls.reasons += int_reasons.of_additions(step.name, form)
        other, threads = self.maps[tail.other] if tail.other is not None else None, self.options.threads
        shape, spread = planes(source, layer.padding, threads)
        read = self.values[step.inputs[0]]
        x = self.calls.call(
            step.name, "int_planes", f"planes {source} {layer.padding}", lambda: spread, [read], shape, "int32"
        )
        padded = target.blocks * BLOCK
        bias = np.pad(layer.bias, (0, padded - len(layer.bias)))
        listed = form.table(shape)
        constants = [bias] if listed is None else [listed, bias]
        positions = self.images * target.pixels
        self.values[tail.last.name] = self.calls.call(
            step.name,
            LABELS[type(step)],
            f"additions {step.name}",
            lambda: additions(form, shape, target, other, tail.steps, tail.other_steps, threads),
            [x, *map(constant, constants), *self._tail_operands(tail, padded)],
            target.shape,
            "int32",
            schedule=str(form),
            encoding="shift-and-add",
            density=float(np.count_nonzero(step.weight)) / max(1, step.weight.size),
            macs=int(step.weight.size) * positions,
            adds=form.count * positions,
        )

    def _tail_operands(self, tail: Tail, padded: int) -> list[Any]:
        """The tables of the steps, and the map that is added."""
        added = [self.values[tail.other]] if tail.other is not None else []
        return [constant(tail.writer.table(padded)), *added]

    # ---- everything else
    def _copy(self, name: str, operand: Any, source: Map, storage: str) -> tuple[Any, Map]:
        """The map as wider elements."""
        target = replace(source, storage=storage, block=BLOCK)
        assert source.block == BLOCK, "only convolutions whose weights it suits read a map of small blocks"

        def make() -> Any:
            return int_maps.steps(source, None, target, (), self.options.threads)

        operands = [operand, constant(np.zeros(1, np.int32))]
        return self.calls.call(name, "widen", f"steps {source} {target}", make, operands, target.shape, "int32"), target

    def _steps(self, step: Instruction) -> None:
        writer = StepWriter(self.program.types[step.name].channels, BLOCK)
        other = None
        if isinstance(step, Add):
            writer.steps.append(f"add {step.shifts[0]} {step.shifts[1]}")
            other = step.inputs[1]
        else:
            assert isinstance(step, (Clip, Requantise))
            writer.write(step, self.program.types[step.inputs[0]])
        source, target = self.maps[step.inputs[0]], self.maps[step.name]
        added = self.maps[other] if other is not None else None
        names = tuple(writer.steps)

        def make() -> Any:
            return int_maps.steps(source, added, target, names, self.options.threads)

        operands = [self.values[step.inputs[0]], constant(writer.table())]
        operands += [self.values[other]] if other is not None else []
        key = f"steps {source} {added} {target} {names}"
        label = f"int_{type(step).__name__.lower()}"
        self.values[step.name] = self.calls.call(step.name, label, key, make, operands, target.shape, "int32")

    def _piecewise(self, step: Piecewise) -> None:
        source, target = self.maps[step.inputs[0]], self.maps[step.name]
        table = np.concatenate([step.breakpoints, step.slopes, step.offsets])
        if not fits(table.min(), table.max()):
            raise TargetError(f"layer '{step.name}' needs segments of more than 32 bits", "use fewer activation bits")
        slopes = tuple(map(int, step.slopes)) if self.options.arith == "shift" else None

        def make() -> Any:
            return int_maps.piecewise(source, target, len(step.slopes), slopes, self.options.threads)

        operands = [self.values[step.inputs[0]], constant(narrow(table))]
        key = f"piecewise {source} {target} {slopes or len(step.slopes)}"
        self.values[step.name] = self.calls.call(step.name, "int_piecewise", key, make, operands, target.shape, "int32")

    def _gather(self, step: Concat | Flatten) -> None:
        target = self.maps[step.name]
        sources, operands = ([of[name] for name in step.inputs] for of in (self.maps, self.values))
        flatten = isinstance(step, Flatten)

        def make() -> Any:
            return int_maps.gather(sources, target, flatten, self.options.threads)

        key = f"gather {sources} {target} {flatten}"
        label = "int_flatten" if flatten else "int_concat"
        self.values[step.name] = self.calls.call(step.name, label, key, make, operands, target.shape, "int32")


def _at_least_one(weights: NDArray[Any]) -> NDArray[Any]:
    return weights if weights.size else np.zeros(BLOCK, np.int32)
