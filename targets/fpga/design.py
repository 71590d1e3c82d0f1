"""From a program to the pipeline that its budget allows: candidates are placed until one fits; else the error says why.

The estimates behind the candidates only order them.  What counts is measured on the placed pipeline: LUTs and block
memories by the area model, cycles by the cycle model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lhcc.errors import TargetError
from lhcc.integer import Program
from lhcc.targets.fpga.allocation import Candidate, candidates
from lhcc.targets.fpga.arithmetic import Multiply, constant_matrix, shared_matrix
from lhcc.targets.fpga.blame import most_cycles, most_luts, most_memory
from lhcc.targets.fpga.cost import DEVICES, Area, area
from lhcc.targets.fpga.cycles import predict
from lhcc.targets.fpga.folded_program import fold
from lhcc.targets.fpga.folding import gather, place_array
from lhcc.targets.fpga.options import FpgaOptions
from lhcc.targets.fpga.placement import place
from lhcc.targets.fpga.segments import Piece, cut, folded, joined
from lhcc.targets.fpga.stages import AnyStage, FifoStage, Pipeline, Stream


@dataclass(frozen=True)
class Limits:
    luts: int
    block_memories: int
    interval: int | None
    """cycles between images; None: as few as possible"""

    def hold(self, luts: int, block_memories: int, interval: int) -> bool:
        return (
            luts <= self.luts
            and block_memories <= self.block_memories
            and (self.interval is None or interval <= self.interval)
        )


@dataclass(frozen=True)
class Placed:
    pipeline: Pipeline
    area: Area
    interval: int


def design(program: Program, options: FpgaOptions) -> Pipeline:
    """The pipeline that the options ask for."""
    pieces = cut(program)
    limits = Limits(options.luts, options.block_memories, _interval(program, options))
    if options.reuse == "folded":
        fold(program)  # what the array does not take is told by name
        choices = [Candidate(0, (len(pieces),), 0, Area())]
    elif options.reuse == 1:
        choices = [Candidate(len(pieces), (), 0, Area())]
    else:
        choices = candidates(pieces, options.period, _multiply(min(options.adder_seconds, 0.0)))
    tried = list[Placed]()
    for choice in _worth(choices, limits):
        placed = _place(program, pieces, choice, options)
        if limits.hold(placed.area.luts, placed.area.block_memories, placed.interval):
            return placed.pipeline
        tried.append(placed)
    if len(choices) > 1:  # what does not look as if it fits may be the least of all
        tried.append(_place(program, pieces, min(choices, key=lambda c: c.area.luts), options))
    raise _refusal(tried, limits, options)


def _multiply(seconds: float) -> Multiply:
    return constant_matrix if seconds < 0 else shared_matrix(seconds)


def _interval(program: Program, options: FpgaOptions) -> int | None:
    """The cycles that an image may take."""
    asked = list[int]()
    if isinstance(options.reuse, int) and options.reuse > 1:
        shapes = [program.types[s.name].shape for s in program.inputs]
        asked.append(options.reuse * max(s[0] * s[1] if len(s) == 3 else 1 for s in shapes))
    if options.target_fps is not None:
        asked.append(int(options.clock * 1e6 / options.target_fps))
    return min(asked, default=None)


def _worth(choices: Sequence[Candidate], limits: Limits) -> Iterator[Candidate]:
    """Those that should fit: the fastest first, or the smallest first where a pace is asked for."""
    if len(choices) == 1:
        yield choices[0]
        return
    ordered = choices if limits.interval is None else sorted(choices, key=lambda c: c.area.luts)
    yield from (c for c in ordered if limits.hold(c.area.luts, c.area.block_memories, c.interval))


def _place(program: Program, pieces: Sequence[Piece], choice: Candidate, options: FpgaOptions) -> Placed:
    pipeline = _sized(assemble(program, pieces, choice, options))
    used = sum((area(s) for s in pipeline.stages), Area())
    return Placed(pipeline, used, predict(pipeline, 3).interval)


def assemble(program: Program, pieces: Sequence[Piece], choice: Candidate, options: FpgaOptions) -> Pipeline:
    """The stages of a candidate, FIFOs not sized yet."""
    multiply = _multiply(options.adder_seconds)
    if choice.head == len(pieces):
        return place(program, options.period, multiply, options.form)
    name = program.inputs[0].name
    source = stream = Stream(name, program.types[name])
    stages = list[AnyStage]()
    if choice.head:
        head = place(joined(pieces[: choice.head]), options.period, multiply, options.form)
        stages += head.stages
        (stream,) = head.outputs
    for number, (first, last) in enumerate(choice.arrays, 1):
        folding = folded(pieces[first:last])
        if gathered := gather(pieces[first].program, folding, stream, options.period):
            window, folding = gathered
            stages.append(window)
            stream = window.output
        output = program.types[pieces[last - 1].program.outputs[0]]
        label = f"array{number}" if len(choice.ends) > 1 else "array"
        stages.append(place_array(label, folding, stream, output))
        stream = stages[-1].output
    if choice.tail < len(pieces):
        rest = joined(pieces[choice.tail :])
        tail = place(rest, options.period, multiply, options.form, {rest.inputs[0].name: stream})
        stages += tail.stages
        (stream,) = tail.outputs
    return Pipeline(tuple(stages), (source,), (stream,))


def _sized(pipeline: Pipeline) -> Pipeline:
    """FIFOs one deeper than they ever fill when nothing holds the pipeline up: then no branch waits for the other.

    One deeper, because a full FIFO takes nothing in the cycle in which it gives."""
    if not any(isinstance(s, FifoStage) for s in pipeline.stages):
        return pipeline
    water = predict(pipeline, 3, endless=True).high_water
    stages = [replace(s, depth=max(2, water[s.name] + 1)) if isinstance(s, FifoStage) else s for s in pipeline.stages]
    return replace(pipeline, stages=tuple(stages))


def _refusal(tried: Sequence[Placed], limits: Limits, options: FpgaOptions) -> TargetError:
    """Names the limit, the best design on the way to it, and the layer that stands in the way."""
    small = [p for p in tried if p.area.luts <= limits.luts]
    fitting = [p for p in small if p.area.block_memories <= limits.block_memories]
    if fitting:
        best = min(fitting, key=lambda p: p.interval)
        wanted = f"{limits.interval} cycles an image are asked for"
        layer = most_cycles(best.pipeline)
        hint = "a lower density makes layers faster; more LUTs or block memories allow more arrays"
    elif not small:
        best = min(tried, key=lambda p: p.area.luts)
        wanted = f"there are {limits.luts} LUTs ({_source('max_luts', options.max_luts, options)})"
        layer, hint = most_luts(best.pipeline), "narrower weights and activations make circuits smaller"
        if options.reuse == 1:
            hint = "reuse=auto folds what does not fit"
    else:
        best = min(small, key=lambda p: p.area.block_memories)
        limit = _source("max_bram", options.max_bram, options)
        wanted = f"there are {limits.block_memories} block memories ({limit})"
        layer, hint = most_memory(best.pipeline), "a lower density, or narrower weights, needs less memory"
    pace = options.clock * 1e6 / best.interval
    message = (
        f"{wanted}, and the best design takes {best.area.luts} LUTs, {best.area.block_memories} block memories "
        f"and {best.interval} cycles an image ({pace:.0f} images/s); {layer}"
    )
    room = "" if fitting else _room(best.area, options)
    return TargetError(message, f"{room}{hint}")


def _source(name: str, value: int | None, options: FpgaOptions) -> str:
    return f"device {options.device}" if value is None else f"{name}={value}"


def _room(used: Area, options: FpgaOptions) -> str:
    """What takes the design as it is, where the device sets the limit: a larger one, or a limit of the user's own."""
    own = []
    if options.max_luts is None and used.luts > options.luts:
        own.append(f"--max-luts {used.luts}")
    if options.max_bram is None and used.block_memories > options.block_memories:
        own.append(f"--max-bram {used.block_memories}")
    if not own:
        return ""
    larger = (d for d, (luts, memories) in DEVICES.items() if used.luts <= luts and used.block_memories <= memories)
    held = next((f"fpga:device={device} holds it, " for device in larger), "")
    return f"{held}{' '.join(own)} simulates it for no device in particular; "
