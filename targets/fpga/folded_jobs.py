"""A program as jobs for the block array: kept (tap, input block, output block) pairs, memory addresses, activations."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

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
    TensorType,
)
from lhcc.integer.core import Ints, Pair, width
from lhcc.targets.fpga.arithmetic import meet, requantised

INPUTS, OUTPUTS = 32, 16
"""the array takes 32 channels and makes 16: one block of kernels that share a shape"""
GAP = 6
"""idle cycles between two jobs, so that the last result is in memory before it is read"""


@dataclass(frozen=True)
class Source:
    """One term of a job: matrix.T @ tensor at (row * stride + dy, column * stride + dx), zero outside the image."""

    tensor: str
    dy: int
    dx: int
    matrix: Ints
    """(channels in, channels out)"""


@dataclass(frozen=True)
class BlockPair:
    """One pass of the array over all pixels: 32 inputs of one tap onto 16 outputs."""

    source: Source
    input_block: int
    output_block: int
    weights: Ints
    """(32, 16)"""


@dataclass
class Job:
    """One layer on the array: sources summed, bias, shift, limits, perhaps the maximum over 2x2 squares."""

    name: str
    layers: list[str]
    output: str
    sources: list[Source]
    bias: Ints
    rows: int
    columns: int
    stride: int
    shift: int = 0
    low: int | None = None
    high: int | None = None
    pool: bool = False
    pairs: list[BlockPair] = field(default_factory=list)
    dummies: int = 0
    """passes of output blocks that no pair reaches: they only bring the bias"""

    @property
    def pixels(self) -> int:
        """that the array visits; with pooling an odd last row or column is not needed"""
        return self.walked[0] * self.walked[1]

    @property
    def walked(self) -> Pair:
        return (self.rows & ~1, self.columns & ~1) if self.pool else (self.rows, self.columns)

    @property
    def blocks(self) -> int:
        return -(-len(self.bias) // OUTPUTS)

    @property
    def cycles(self) -> int:
        return len(self.pairs) * self.pixels

    def pair(self) -> None:
        """Cuts the sources into pairs, sorted by output block; only those with a weight in them are kept."""
        for block in range(self.blocks):
            found = [
                pair
                for source in self.sources
                for k in range(-(-source.matrix.shape[0] // INPUTS))
                if (pair := _block(source, k, block)).weights.any()
            ]
            if not found:
                found = [_block(self.sources[0], 0, block)]
                self.dummies += 1
            self.pairs += found


@dataclass(frozen=True)
class Folding:
    """All jobs of a program, in order, and the types of the tensors that they read and write."""

    jobs: tuple[Job, ...]
    input: str
    types: dict[str, TensorType]

    @property
    def work(self) -> int:
        """cycles in which the array is needed: kept pairs times pixels, summed over the layers"""
        return sum((len(j.pairs) - j.dummies) * j.pixels for j in self.jobs)

    @property
    def period(self) -> int:
        """cycles that one image occupies the array, gaps between jobs included"""
        return sum(j.cycles + GAP for j in self.jobs)

    @cached_property
    def weight_bits(self) -> int:
        """in two's complement, of the widest weight"""
        weights = [p.weights for j in self.jobs for p in j.pairs]
        return width(min(-1, *(int(w.min()) for w in weights)), max(0, *(int(w.max()) for w in weights)))


def fold(program: Program) -> Folding:
    """Raises Unplaceable where an instruction has no form on the array."""
    return _Folder(program).run()


class _Folder:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.alias: dict[str, str] = {}
        self.done: set[str] = set()
        self.jobs: list[Job] = []

    def run(self) -> Folding:
        if len(self.program.inputs) != 1 or len(self.program.outputs) != 1:
            raise Unplaceable("", "the folded array takes one input and one output", "use reuse=1")
        for step in self.program.instructions:
            if step.name not in self.done and not isinstance(step, Input):
                self._job(step)
        types = dict(self.program.types)
        for name, target in self.alias.items():
            types[name] = types[target]
        for job in self.jobs:
            self._check(job)
            job.pair()
        return Folding(tuple(self.jobs), self.program.inputs[0].name, types)

    def _check(self, job: Job) -> None:
        """One job goes with one step from pixel to pixel."""
        tensors = {s.tensor for s in job.sources}
        if len({-(-self.program.types[t].channels // INPUTS) for t in tensors}) > 1:
            message = f"'{job.name}' joins tensors of different numbers of {INPUTS}-channel blocks"
            raise Unplaceable(job.name, message, "use reuse=1")

    def _real(self, name: str) -> str:
        while name in self.alias:
            name = self.alias[name]
        return name

    def _job(self, step: Instruction) -> None:
        if isinstance(step, Flatten):
            x = self.program.types[self._real(step.inputs[0])]
            users = self.program.users[step.name]
            if x.shape[:-1] not in ((1, 1), ()) and not all(isinstance(u, Dense) for u in users):
                message = f"'{step.name}' flattens an image for something else than a dense layer"
                raise Unplaceable(step.name, message)
            self.alias[step.name] = step.inputs[0]
            return
        t = self.program.types[step.name]
        rows, columns = (t.shape[0], t.shape[1]) if len(t.shape) == 3 else (1, 1)
        sources, bias, stride = self._sources(step)
        if not sources:  # every weight is zero: only the bias is left
            inputs = self.program.types[self._real(step.inputs[0])].channels
            sources = [Source(self._real(step.inputs[0]), 0, 0, np.zeros((inputs, len(bias)), np.int64))]
        job = Job(step.name, [step.name], step.name, sources, bias, rows, columns, stride)
        if isinstance(step, Add):
            self._merge(job, step)
        if isinstance(step, Clip | Requantise):
            self._absorb(job, step)
        self._tail(job, step)
        self.jobs.append(job)

    def _merge(self, job: Job, step: Add) -> None:
        """A residual joins the sums of the layer before it: that layer's unrounded result is never stored."""
        for k, (name, shift) in enumerate(zip(step.inputs, step.shifts, strict=True)):
            before = next((j for j in self.jobs if j.output == self._real(name)), None)
            if before is None or before.shift or before.pool or before.stride != 1 or before.name == step.name:
                continue
            alone = len(self.program.users[before.output]) == 1 and name != step.inputs[1 - k]
            same = [self.program.types[t].shape for t in (*(s.tensor for s in before.sources), before.output)]
            blocks = {-(-shape[-1] // INPUTS) for shape in same}
            plain = before.low is None and before.high is None and before.output not in self.program.outputs
            if not (alone and plain and len(blocks) == 1 and len({s[:-1] for s in same}) == 1):
                continue
            job.sources = [replace(s, matrix=s.matrix << shift) for s in before.sources] + [job.sources[1 - k]]
            job.bias = before.bias << shift
            job.layers = [*before.layers, *job.layers]
            self.jobs.remove(before)
            return

    def _tail(self, job: Job, step: Instruction) -> None:
        """Lets the job do what follows it, as far as its one shift, one pair of limits and one pooling reach."""
        shifted = isinstance(step, Requantise)
        last = step
        while last.name not in self.program.outputs and len(self.program.users[last.name]) == 1:
            (user,) = self.program.users[last.name]
            if isinstance(user, Requantise) and (shifted or not self._fits(job, user)):
                break
            if isinstance(user, Clip | Requantise):
                self._absorb(job, user)
                shifted |= isinstance(user, Requantise)
            elif isinstance(user, MaxPool) and (user.kernel, user.stride, any(user.padding)) == ((2, 2), (2, 2), False):
                job.pool = True
            else:
                break
            job.layers.append(user.name)
            self.done.add(user.name)
            job.output = user.name
            last = user
            if job.pool:
                break

    @staticmethod
    def _absorb(job: Job, step: Clip | Requantise) -> None:
        if isinstance(step, Requantise):
            shifts = np.broadcast_to(step.shift, job.bias.shape)
            job.shift = max(int(shifts.max()), 0)
            if (shifts != job.shift).any():  # (a * 2^k + 2^(s+k-1)) >> (s+k) is (a + 2^(s-1)) >> s: one shift for all
                gain = np.int64(1) << (job.shift - shifts)
                job.sources = [replace(s, matrix=s.matrix * gain) for s in job.sources]
                job.bias = job.bias * gain
            job.low, job.high = (None if b is None else requantised(b, job.shift, 1) for b in (job.low, job.high))
        job.low, job.high = meet((job.low, job.high), (step.low, step.high))

    @staticmethod
    def _fits(job: Job, step: Requantise) -> bool:
        """Whether the shifts can become one: they differ only where no bound but 0 came before."""
        same = step.shift.ndim == 0 and int(step.shift) >= 0
        return bool((step.multiplier == 1).all()) and (same or (job.low in (None, 0) and job.high is None))

    def _sources(self, step: Instruction) -> tuple[list[Source], Ints, int]:
        names = [self._real(n) for n in step.inputs]
        types = [self.program.types[n] for n in names]
        channels = types[0].channels
        nothing = np.zeros(self.program.types[step.name].channels, np.int64)
        if isinstance(step, Conv):
            if step.stride[0] != step.stride[1]:
                raise _strides(step)
            top, left = step.padding[:2]
            sources = [
                Source(names[0], i * step.dilation[0] - top, j * step.dilation[1] - left, _dense(step, i, j))
                for i in range(step.weight.shape[0])
                for j in range(step.weight.shape[1])
                if step.weight[i, j].any()
            ]
            return sources, step.bias, step.stride[0]
        if isinstance(step, Dense):
            shape = types[0].shape if len(types[0].shape) == 3 else (1, 1, channels)
            weight = step.weight.reshape(*shape, -1)
            places = [(i, j) for i in range(shape[0]) for j in range(shape[1])]
            return [Source(names[0], i, j, weight[i, j]) for i, j in places], step.bias, 1
        one = np.eye(channels, dtype=np.int64)
        if isinstance(step, SumPool):
            single = self.program.types[step.name].shape[:2] == (1, 1)  # one window: its stride does not matter
            if step.stride[0] != step.stride[1] and not single:
                raise _strides(step)
            top, left = step.padding[:2]
            places = [(i - top, j - left) for i in range(step.kernel[0]) for j in range(step.kernel[1])]
            return [Source(names[0], i, j, one) for i, j in places], nothing, 1 if single else step.stride[0]
        if isinstance(step, Add):
            return [Source(n, 0, 0, one << s) for n, s in zip(names, step.shifts, strict=True)], nothing, 1
        if isinstance(step, Concat):
            parts, first = [], 0
            for n, t in zip(names, types, strict=True):
                part = np.zeros((t.channels, len(nothing)), np.int64)
                part[np.arange(t.channels), first + np.arange(t.channels)] = 1
                parts.append(Source(n, 0, 0, part))
                first += t.channels
            return parts, nothing, 1
        if isinstance(step, Clip) or (isinstance(step, Requantise) and (step.multiplier == 1).all()):
            return [Source(names[0], 0, 0, one)], nothing, 1
        kind = "activation by table" if isinstance(step, Piecewise) else type(step).__name__
        raise Unplaceable(step.name, f"'{step.name}': the folded array has no {kind} of this form", "use reuse=1")


def _strides(step: Conv | SumPool) -> Unplaceable:
    return Unplaceable(step.name, f"'{step.name}': strides {step.stride} differ, and the folded array has one")


def _dense(step: Conv, i: int, j: int) -> Ints:
    """The (in, out) matrix of one tap, groups spread out."""
    if step.groups == 1:
        tap: Ints = step.weight[i, j]
        return tap
    per_group, outputs = step.weight.shape[2], step.weight.shape[3] // step.groups
    matrix: Ints = np.zeros((per_group * step.groups, step.weight.shape[3]), np.int64)
    for g in range(step.groups):
        columns = slice(g * outputs, (g + 1) * outputs)
        matrix[g * per_group : (g + 1) * per_group, columns] = step.weight[i, j][:, columns]
    return matrix


def _block(source: Source, input_block: int, output_block: int) -> BlockPair:
    weights = np.zeros((INPUTS, OUTPUTS), np.int64)
    part = source.matrix[
        input_block * INPUTS : (input_block + 1) * INPUTS, output_block * OUTPUTS : (output_block + 1) * OUTPUTS
    ]
    weights[: part.shape[0], : part.shape[1]] = part
    return BlockPair(source, input_block, output_block, weights)


def allocate(folding: Folding, blocks: dict[str, int]) -> tuple[dict[str, int], int]:
    """A base address per stored tensor (`blocks` words each), reusing what no later job reads; and the words needed."""
    last_read = {s.tensor: k for k, job in enumerate(folding.jobs) for s in job.sources}
    base: dict[str, int] = {}
    alive: list[tuple[int, int, int]] = []  # start, end, last reader
    size = 1
    for k, job in enumerate(folding.jobs):
        alive = [a for a in alive if a[2] >= k]
        if job.output not in blocks:
            continue
        start = 0
        for a in sorted(alive):
            if start + blocks[job.output] <= a[0]:
                break
            start = max(start, a[1])
        base[job.output] = start
        alive.append((start, start + blocks[job.output], last_read.get(job.output, k)))
        size = max(size, start + blocks[job.output])
    return base, size
