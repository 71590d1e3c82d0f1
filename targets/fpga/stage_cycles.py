"""Each stage's control, cycle by cycle, without data: when it takes something in, when it offers something."""

from __future__ import annotations

from lhcc.targets.fpga.folded_jobs import GAP
from lhcc.targets.fpga.stages import (
    AccumulateStage,
    AnyStage,
    ArrayStage,
    FifoStage,
    JoinStage,
    SlidingStage,
    Stage,
)


class Unit:
    """One stage: `valid` says whether it offers a pixel; `plan` and `clock` mirror its Verilog."""

    def __init__(self, inputs: list[int], output: int) -> None:
        self.inputs, self.output = inputs, output
        self.taken = self.sent = 0

    valid = False

    def ready(self, offered: list[bool], out_ready: bool) -> bool:
        """Whether it takes a pixel from each input, given which inputs offer one."""
        raise NotImplementedError

    def clock(self, taken: bool, offered: bool, out_ready: bool) -> None:
        raise NotImplementedError

    @property
    def resting(self) -> bool:
        """Whether a cycle without any transfer leaves it as it is."""
        return True


class _Pipe(Unit):
    """A pipeline of fixed length that moves as a whole."""

    def __init__(self, inputs: list[int], output: int, steps: int) -> None:
        super().__init__(inputs, output)
        self.bits, self.mask, self.top = 0, (1 << steps + 1) - 1, 1 << steps

    @property
    def resting(self) -> bool:
        return self.valid or self.bits == 0

    def move(self, first: bool) -> None:
        self.bits = ((self.bits << 1) | first) & self.mask
        self.valid = self.bits & self.top != 0


class _Window(_Pipe):
    def __init__(self, stage: SlidingStage, inputs: list[int], output: int) -> None:
        super().__init__(inputs, output, stage.steps)
        g = stage.geometry
        self.pixels, self.lag, self.flush = g.height * g.width, g.lag, g.flush
        (sy, sx), (last_y, last_x) = g.stride, g.last
        self.complete = [
            y % sy == 0 and x % sx == 0 and y <= last_y and x <= last_x for y in range(g.height) for x in range(g.width)
        ]
        self._restart()

    def _restart(self) -> None:
        self.entering, self.position, self.fill = 0, 0, self.lag
        self.draining, self.drained = False, 0

    @property
    def resting(self) -> bool:
        between = self.flush > 0 and self.entering == 0 and self.fill != self.lag
        return self.valid or (self.bits == 0 and not self.draining and not between)

    def ready(self, offered: list[bool], out_ready: bool) -> bool:
        return (out_ready or not self.valid) and not self.draining

    def clock(self, taken: bool, offered: bool, out_ready: bool) -> None:
        if self.valid and not out_ready:
            return
        between = self.flush > 0 and self.entering == 0 and self.fill != self.lag
        empty = self.draining or (between and not offered)
        if not (taken or empty):
            self.move(False)
            return
        self.move(self.fill == 0 and self.complete[self.position])
        if empty and self.drained == self.flush - 1:
            self._restart()
            return
        self.entering = (self.entering + 1) % self.pixels
        if self.fill:
            self.fill -= 1
        else:
            self.position = (self.position + 1) % self.pixels
        if empty:
            self.draining, self.drained = True, self.drained + 1


class _Join(_Pipe):
    def ready(self, offered: list[bool], out_ready: bool) -> bool:
        return (out_ready or not self.valid) and all(offered)

    def clock(self, taken: bool, offered: bool, out_ready: bool) -> None:
        if out_ready or not self.valid:
            self.move(taken)


class _Accumulate(_Pipe):
    def __init__(self, stage: AccumulateStage, inputs: list[int], output: int) -> None:
        super().__init__(inputs, output, stage.steps)
        self.pixels, self.pixel = stage.inputs[0].pixels, 0

    def ready(self, offered: list[bool], out_ready: bool) -> bool:
        return out_ready or not self.valid

    def clock(self, taken: bool, offered: bool, out_ready: bool) -> None:
        if self.valid and not out_ready:
            return
        last = taken and self.pixel == self.pixels - 1
        if taken:
            self.pixel = 0 if last else self.pixel + 1
        self.move(last)


class FifoUnit(Unit):
    def __init__(self, depth: int, inputs: list[int], output: int) -> None:
        super().__init__(inputs, output)
        self.depth, self.count, self.highest = depth, 0, 0

    def ready(self, offered: list[bool], out_ready: bool) -> bool:
        return self.count != self.depth

    def clock(self, taken: bool, offered: bool, out_ready: bool) -> None:
        self.count += taken - (self.valid and out_ready)
        self.highest = max(self.highest, self.count)
        self.valid = self.count > 0


WAITS = 1 << 62
"""of a leap: it does nothing until something comes in"""


class ArrayUnit(_Pipe):
    """The folded array: images are stored word by word, as many as there is room for; each then runs through the jobs,
    with idle cycles between them."""

    def __init__(self, stage: ArrayStage, inputs: list[int], output: int) -> None:
        super().__init__(inputs, output, GAP)
        self.banks, self.blocks = stage.code.banks, 1 if stage.code.input_lanes else stage.code.input_blocks
        self.words = stage.inputs[0].transfers * self.blocks
        readers = [
            k for k, j in enumerate(stage.folding.jobs) if any(s.tensor == stage.folding.input for s in j.sources)
        ]
        self.waiting, self.release = set(readers), max(readers)
        self.lengths = [j.cycles for j in stage.folding.jobs]
        self.sends = _sends(stage)
        self.word = self.job = self.at = self.idle = self.full = 0
        self.loaded = self.storing = False

    @property
    def issues(self) -> bool:
        return self.loaded and self.idle == 0 and (self.full > 0 or self.job not in self.waiting)

    def leap(self) -> int:
        """Cycles that pass before it next sends, ends a job, or takes something in: counted without being played."""
        if self.bits or self.storing or not self.loaded or self.idle:
            return 0
        if not self.issues:
            return WAITS
        end = self.lengths[self.job] - 1
        if self.job == len(self.lengths) - 1:
            end = min((s for s in self.sends if s >= self.at), default=end)
        return end - self.at

    def skip(self, cycles: int) -> None:
        self.at += cycles if self.issues else 0

    def ready(self, offered: list[bool], out_ready: bool) -> bool:
        return self.full < self.banks and self.word % self.blocks == self.blocks - 1

    def clock(self, taken: bool, offered: bool, out_ready: bool) -> None:
        self.storing = offered and self.full < self.banks
        if not (self.valid and not out_ready):
            self._go()
        if self.storing:
            self.word += 1
            if self.word == self.words:
                self.word, self.full = 0, self.full + 1

    def _go(self) -> None:
        issue = self.issues
        self.move(issue and self.job == len(self.lengths) - 1 and self.at in self.sends)
        if not self.loaded:
            self.loaded = True
        elif self.idle:
            self.idle -= 1
        elif issue:
            self.at += 1
            if self.at == self.lengths[self.job]:
                self.full -= self.job == self.release
                self.at, self.idle, self.job = 0, GAP, (self.job + 1) % len(self.lengths)


def _sends(stage: ArrayStage) -> set[int]:
    """At which issues of the last job a transfer leaves (the pipeline's length later)."""
    job = stage.folding.jobs[-1]
    ends = [
        k for k, p in enumerate(job.pairs) if k + 1 == len(job.pairs) or job.pairs[k + 1].output_block != p.output_block
    ]
    if not stage.output.lanes:
        ends = ends[-1:]
    step = 4 if job.pool else 1
    return {k * job.pixels + i for k in ends for i in range(step - 1, job.pixels, step)}


def unit(stage: AnyStage, links: dict[str, int], endless: bool) -> Unit:
    inputs, output = [links[s.name] for s in stage.inputs], links[stage.output.name]
    if isinstance(stage, FifoStage):
        return FifoUnit(1 << 62 if endless else stage.depth, inputs, output)
    if isinstance(stage, SlidingStage):
        return _Window(stage, inputs, output)
    if isinstance(stage, ArrayStage):
        return ArrayUnit(stage, inputs, output)
    if isinstance(stage, AccumulateStage):
        return _Accumulate(stage, inputs, output)
    assert isinstance(stage, JoinStage) and isinstance(stage, Stage)
    return _Join(inputs, output, stage.steps)
