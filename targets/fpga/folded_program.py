"""A program as jobs for the block array: which instructions join into one, and what the array has no form for."""

from __future__ import annotations

from dataclasses import replace

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
from lhcc.integer.core import Ints
from lhcc.targets.fpga.arithmetic import meet, requantised
from lhcc.targets.fpga.folded_jobs import INPUTS, Folding, Job, Source


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
