"""Layers on a block array: a small first layer is unfolded into one window per pixel on the way in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lhcc.integer import Conv, Instruction, Program, TensorType
from lhcc.integer.core import Window
from lhcc.targets.fpga.folded_code import encode
from lhcc.targets.fpga.folded_jobs import INPUTS, OUTPUTS, Folding, Job, Source
from lhcc.targets.fpga.netlist import Netlist
from lhcc.targets.fpga.stages import ArrayStage, Geometry, Stream, WindowStage, Wire
from lhcc.targets.fpga.timing import schedule


def place_array(name: str, folding: Folding, source: Stream, output: TensorType) -> ArrayStage:
    """One array for all jobs; it sends whole pixels where the image is one pixel, else 16 channels at a time."""
    code = encode(folding, source.lanes is not None)
    lanes = None if int(np.prod(output.shape[:-1])) == 1 else OUTPUTS
    layers = tuple(n for j in folding.jobs for n in j.layers)
    sent = Stream(folding.jobs[-1].output, output, code.result_bits, lanes)
    return ArrayStage(name, layers, (source,), sent, folding, code)


def gather(program: Program, folding: Folding, source: Stream, period: float) -> tuple[WindowStage, Folding] | None:
    """A stage that makes windows of pixels, and the array that takes them, if they suit the first layer."""
    first = _gathered(program, source)
    if first is None:
        return None
    stage = _window(program, first, source, period)
    job = next(j for j in folding.jobs if j.name == first.name)
    top, left = first.padding[:2]
    taps = {(t.dy + top, t.dx + left): t.matrix for t in job.sources}
    none = np.zeros_like(job.sources[0].matrix)
    matrix = np.stack([taps.get((w.row, w.column), none)[w.channel] for w in stage.wires])
    unfolded = replace(job, sources=[Source(stage.output.name, 0, 0, matrix)], stride=1, pairs=[], dummies=0)
    unfolded.pair()
    jobs: tuple[Job, ...] = tuple(unfolded if j is job else j for j in folding.jobs)
    return stage, Folding(jobs, stage.output.name, {**folding.types, stage.output.name: stage.output.type})


def _gathered(program: Program, source: Stream) -> Conv | None:
    """The first convolution, if all its taps together fit the array's inputs and nothing else reads the image."""
    users: list[Instruction] = program.users[program.inputs[0].name]
    if source.lanes or len(users) != 1 or not isinstance(users[0], Conv) or users[0].groups != 1:
        return None
    kh, kw, channels, _ = users[0].weight.shape
    fits = 1 < kh * kw and kh * kw * channels <= INPUTS and _geometry(users[0], source).streams
    return users[0] if fits else None


def _geometry(conv: Conv, source: Stream) -> Geometry:
    window: Window = conv.window
    extent = tuple((k - 1) * d + 1 for k, d in zip(window.kernel, window.dilation, strict=True))
    rows, columns = window.output(source.height, source.width)
    top, left = conv.padding[:2]
    return Geometry(source.height, source.width, rows, columns, (extent[0], extent[1]), top, left, conv.stride)


def _window(program: Program, conv: Conv, source: Stream, period: float) -> WindowStage:
    kh, kw, channels, _ = conv.weight.shape
    geometry = _geometry(conv, source)
    wires = tuple(Wire(i * conv.dilation[0], j * conv.dilation[1], c)
                  for i in range(kh) for j in range(kw) for c in range(channels))  # fmt: skip
    net = Netlist()
    low, high = np.minimum(source.type.low, 0), np.maximum(source.type.high, 0)
    net.outputs = [net.input(k, int(low[w.channel]), int(high[w.channel])) for k, w in enumerate(wires)]
    index = [w.channel for w in wires]
    gathered = replace(
        source.type, shape=(geometry.rows, geometry.columns, len(wires)), low=low[index], high=high[index]
    )
    name = f"{conv.name}_window"
    return WindowStage(
        name,
        (conv.name,),
        (source,),
        Stream(name, gathered),
        net,
        schedule(net, period),
        geometry=geometry,
        wires=wires,
    )
