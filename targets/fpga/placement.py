"""An integer program as a pipeline of unrolled stages: one per layer, with its elementwise successors inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from lhcc.errors import Unplaceable
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
from lhcc.integer.core import Window
from lhcc.targets.fpga.arithmetic import Multiply, activation, rounding
from lhcc.targets.fpga.forms import Layer, cheapest
from lhcc.targets.fpga.netlist import Netlist, Term
from lhcc.targets.fpga.stages import (
    AccumulateStage,
    AnyStage,
    FifoStage,
    Geometry,
    JoinStage,
    Pipeline,
    Stream,
    WindowStage,
    Wire,
)
from lhcc.targets.fpga.timing import schedule

ELEMENTWISE = (Clip, Requantise, Piecewise)


class Placer:
    """Walks the program once; `multiply` builds constant matrices, `period` is the clock period in ns, `form` a form
    of convolutions, or "auto"; `streams` are inputs that another part of the circuit sends."""

    def __init__(
        self, program: Program, period: float, multiply: Multiply, form: str, streams: Mapping[str, Stream]
    ) -> None:
        self.program, self.period, self.multiply, self.form = program, period, multiply, form
        self.streams = dict(streams)
        self.stages: list[AnyStage] = []
        self.absorbed: set[str] = set()

    def place(self) -> Pipeline:
        for step in self.program.instructions:
            if isinstance(step, Input):
                self.streams.setdefault(step.name, Stream(step.name, self.program.types[step.name]))
            elif step.name not in self.absorbed:
                self._place(step)
        outputs = tuple(self.streams[n] for n in self.program.outputs)
        return Pipeline(tuple(self.stages), tuple(self.streams[s.name] for s in self.program.inputs), outputs)

    def _place(self, step: Instruction) -> None:
        sources = tuple(self.streams[n] for n in step.inputs)
        if isinstance(step, Flatten):
            users = self.program.users[step.name]
            if sources[0].pixels == 1:  # the same pixel under another name
                self.streams[step.name] = replace(sources[0], type=self.program.types[step.name])
            elif len(users) == 1 and isinstance(users[0], Dense) and step.name not in self.program.outputs:
                self.streams[step.name] = sources[0]  # the dense layer reads the image through one window
            else:
                message = f"'{step.name}' flattens an image for something else than one dense layer"
                raise Unplaceable(step.name, message)
            return
        if isinstance(step, Conv | MaxPool):
            self._window(step, sources[0])
        elif isinstance(step, Dense):
            self._dense(step, sources[0])
        elif isinstance(step, SumPool):
            self._sum_pool(step, sources[0])
        elif isinstance(step, Add | Concat):
            self._join(step, sources)
        elif isinstance(step, ELEMENTWISE):
            self._elementwise(step, sources[0])
        else:
            raise Unplaceable(step.name, f"'{step.name}': no circuit for {type(step).__name__}")

    def _tail(self, step: Instruction) -> list[Instruction]:
        """The elementwise instructions that can join the stage of `step`, and marks them as placed."""
        tail: list[Instruction] = []
        last = step
        while last.name not in self.program.outputs and len(self.program.users[last.name]) == 1:
            (user,) = self.program.users[last.name]
            if not isinstance(user, ELEMENTWISE):
                break
            self.absorbed.add(user.name)
            tail.append(user)
            last = user
        return tail

    def _finish(
        self,
        net: Netlist,
        values: Sequence[int],
        step: Instruction,
        tail: Sequence[Instruction],
        carried: Sequence[int] | None,
    ) -> tuple[Stream, tuple[str, ...]]:
        net.outputs = activation(net, values, tail, carried)
        name = (tail[-1] if tail else step).name
        self.streams[name] = Stream(name, self.program.types[name])
        return self.streams[name], (step.name, *(t.name for t in tail))

    def _geometry(self, name: str, x: Stream, window: Window) -> Geometry:
        extent = tuple((k - 1) * d + 1 for k, d in zip(window.kernel, window.dilation, strict=True))
        rows, columns = window.output(x.height, x.width)
        top, left = window.padding[:2]
        geometry = Geometry(x.height, x.width, rows, columns, (extent[0], extent[1]), top, left, window.stride)
        if not geometry.streams:
            message = f"'{name}': padding {window.padding} is too large for a {extent[0]}x{extent[1]} window"
            raise Unplaceable(name, message)
        return geometry

    def _windowed(
        self,
        step: Instruction,
        x: Stream,
        window: Window,
        net: Netlist,
        wires: Sequence[Wire],
        values: Sequence[int],
        tail: Sequence[Instruction],
        carried: Sequence[int] | None,
        outside: int = 0,
    ) -> None:
        output, layers = self._finish(net, values, step, tail, carried)
        geometry, plan = self._geometry(step.name, x, window), schedule(net, self.period)
        stage = WindowStage(
            step.name, layers, (x,), output, net, plan, geometry=geometry, wires=tuple(wires), outside=outside
        )
        self.stages.append(stage)

    def _window(self, step: Conv | MaxPool, x: Stream) -> None:
        if isinstance(step, Conv):
            self._linear(step, x, step.window, step.weight, step.groups, step.bias)
            return
        net, wires, best = Netlist(), list[Wire](), list[int]()
        padded = any(step.padding)
        outside = min(0, int(x.type.low.min())) if padded else 0
        for c in range(x.type.channels):
            low = min(int(x.type.low[c]), outside) if padded else int(x.type.low[c])
            found: int | None = None
            for i in range(step.kernel[0]):
                for j in range(step.kernel[1]):
                    a = net.input(len(wires), low, int(x.type.high[c]))
                    wires.append(Wire(i, j, c))
                    found = a if found is None else net.max(found, a)
            assert found is not None
            best.append(found)
        self._windowed(step, x, step.window, net, wires, best, self._tail(step), None, outside)

    def _linear(
        self, step: Instruction, x: Stream, window: Window, weight: np.ndarray, groups: int, bias: np.ndarray
    ) -> None:
        """A convolution with weights (kh, kw, inputs / groups, outputs), unrolled."""
        tail = self._tail(step)
        half = rounding(tail, weight.shape[3])
        name = (tail[-1] if tail else step).name
        self.streams[name] = Stream(name, self.program.types[name])
        layer = Layer(
            step.name, (step.name, *(t.name for t in tail)), x, self.streams[name], window,
            self._geometry(step.name, x, window), weight, groups, (bias + half).tolist(),
            lambda net, sums: activation(net, sums, tail, half), self.period,
        )  # fmt: skip
        self.stages.append(cheapest(layer, self.multiply, self.form))

    def _dense(self, step: Dense, x: Stream) -> None:
        weight = step.weight.reshape(x.height, x.width, -1, step.weight.shape[1])
        self._linear(step, x, Window((x.height, x.width)), weight, 1, step.bias)

    def _sum_pool(self, step: SumPool, x: Stream) -> None:
        if step.kernel != (x.height, x.width) or any(step.padding) or x.pixels == 1:
            weight = np.ones((*step.kernel, 1, x.type.channels), np.int64)
            self._linear(step, x, step.window, weight, x.type.channels, np.zeros(x.type.channels, np.int64))
            return
        net, tail, total = Netlist(), self._tail(step), self.program.types[step.name]
        sums = [net.input(c, int(total.low[c]), int(total.high[c])) for c in range(total.channels)]
        output, layers = self._finish(net, sums, step, tail, None)
        self.stages.append(AccumulateStage(step.name, layers, (x,), output, net, schedule(net, self.period)))

    def _join(self, step: Add | Concat, sources: Sequence[Stream]) -> None:
        """Every input passes a FIFO, which also keeps ready and valid of the branches apart."""
        net, tail, nodes = Netlist(), self._tail(step), list[list[int]]()
        first = 0
        for s in sources:
            channels = range(s.type.channels)
            nodes.append([net.input(first + c, int(s.type.low[c]), int(s.type.high[c])) for c in channels])
            first += s.type.channels
        if isinstance(step, Concat):
            values = [a for part in nodes for a in part]
        else:
            pairs = zip(*nodes, strict=True)
            values = [net.value(net.sum(Term(a, step.shifts[0]), Term(b, step.shifts[1]))) for a, b in pairs]
        queued = tuple(self._queue(step.name, k, s) for k, s in enumerate(sources))
        output, layers = self._finish(net, values, step, tail, None)
        self.stages.append(JoinStage(step.name, layers, queued, output, net, schedule(net, self.period)))

    def _queue(self, name: str, index: int, source: Stream) -> Stream:
        stream = Stream(f"{name}_queue{index}", source.type)
        self.stages.append(FifoStage(stream.name, (source,), stream, 0))
        return stream

    def _elementwise(self, step: Instruction, x: Stream) -> None:
        net, tail = Netlist(), self._tail(step)
        inputs = [net.input(c, int(x.type.low[c]), int(x.type.high[c])) for c in range(x.type.channels)]
        wires = [Wire(0, 0, c) for c in range(x.type.channels)]
        values = activation(net, inputs, [step])
        self._windowed(step, x, Window((1, 1)), net, wires, values, tail, None)


def place(
    program: Program,
    period: float,
    multiply: Multiply,
    form: str = "auto",
    streams: Mapping[str, Stream] = MappingProxyType({}),
) -> Pipeline:
    return Placer(program, period, multiply, form, streams).place()
