"""The cycle model: what each stage's control does in each clock cycle, without data; equals the circuit exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lhcc.targets.fpga.stage_cycles import WAITS, ArrayUnit, FifoUnit, Unit, unit
from lhcc.targets.fpga.stages import ArrayStage, Pipeline


@dataclass
class Timing:
    """Cycles are counted from the first one after reset, in which the first pixel is offered."""

    cycles: int
    """until the last output pixel has been taken"""
    finished: list[int]
    """per image, the cycle in which its last output pixel was taken"""
    busy: dict[str, int] = field(default_factory=dict)
    """per stage, pixels sent"""
    stalled: dict[str, int] = field(default_factory=dict)
    """per stage, cycles in which it offered a pixel and nobody took it"""
    high_water: dict[str, int] = field(default_factory=dict)
    """per FIFO, the most pixels that it ever held"""
    busiest: int = 0
    """cycles that an image occupies the array with the most to do, which a few images need not show"""

    @property
    def interval(self) -> int:
        """cycles between images: on average, for the last ones stand closer where nothing follows them"""
        if len(self.finished) == 1:
            return self.cycles
        return max(self.busiest, -(-(self.finished[-1] - self.finished[0]) // (len(self.finished) - 1)))


def _waits(units: Sequence[Unit], offered: Sequence[bool]) -> bool:
    """Whether the next cycle, like this one, moves nothing but what arrays compute: the same offers will be made."""
    return all(u.valid == before and (u.resting or isinstance(u, ArrayUnit))
               for u, before in zip(units, offered, strict=True))  # fmt: skip


def predict(pipeline: Pipeline, images: int, endless: bool = False) -> Timing:
    """Plays `images` images back to back, with the outputs always taken; `endless` FIFOs tell how deep they must be."""
    streams = {s.name: k for k, s in enumerate([*pipeline.inputs, *(s.output for s in pipeline.stages)])}
    units = [unit(s, streams, endless) for s in pipeline.stages]
    count, inputs = len(streams), len(pipeline.inputs)
    readers: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for k, u in enumerate(units):
        for slot, link in enumerate(u.inputs):
            readers[link].append((k, slot))
    left = [s.transfers * images for s in pipeline.inputs]
    sinks = {streams[s.name]: k for k, s in enumerate(pipeline.outputs)}
    owed = [s.transfers * images for s in pipeline.outputs]
    per_image = [s.transfers for s in pipeline.outputs]
    producer = {u.output: u for u in units}
    finished = [0] * images
    stalled = [0] * len(units)
    cycle = quiet = 0
    arrays = [u for u in units if isinstance(u, ArrayUnit)]
    while any(owed):
        offer = [left[k] > 0 for k in range(inputs)] + [u.valid for u in units]
        moved = [False] * count
        ready_of: list[list[bool]] = [[False] * len(u.inputs) for u in units]
        seen: list[list[bool]] = [[False] * len(u.inputs) for u in units]
        for link in range(count - 1, -1, -1):  # readers of a link stand behind it, so they are known already
            moved[link] = offer[link] and all(ready_of[k][slot] for k, slot in readers[link])
            for k, slot in readers[link]:
                others = all(ready_of[j][s] for j, s in readers[link] if (j, s) != (k, slot))
                seen[k][slot] = offer[link] and others
            if link >= inputs:
                u = producer[link]
                k = link - inputs
                ready = u.ready([offer[i] for i in u.inputs], moved[link])
                ready_of[k] = [ready] * len(u.inputs)
        for k, u in enumerate(units):
            taken = all(moved[i] for i in u.inputs)
            if u.valid and not moved[u.output]:
                stalled[k] += 1
            u.taken += taken
            u.sent += moved[u.output]
            u.clock(taken, seen[k][0], moved[u.output])
        if arrays and not any(moved) and _waits(units, offer[inputs:]):
            leap = min(u.leap() for u in arrays)
            leap = 0 if leap == WAITS else leap  # then something comes in the next cycle
            cycle += leap
            for u in arrays:
                u.skip(leap)
            for k, u in enumerate(units):
                stalled[k] += leap * u.valid
        for k in range(inputs):
            left[k] -= moved[k]
        for link, k in sinks.items():
            if moved[link]:
                owed[k] -= 1
                if owed[k] % per_image[k] == 0:
                    image = images - 1 - owed[k] // per_image[k]
                    finished[image] = max(finished[image], cycle)
        cycle += 1
        quiet = 0 if any(moved) else quiet + 1
        if quiet > 1 << 20:
            raise AssertionError("the cycle model stands still")
    names = [s.name for s in pipeline.stages]
    return Timing(
        cycle,
        finished,
        dict(zip(names, (u.sent for u in units), strict=True)),
        dict(zip(names, stalled, strict=True)),
        {n: u.highest for n, u in zip(names, units, strict=True) if isinstance(u, FifoUnit)},
        max((s.folding.period for s in pipeline.stages if isinstance(s, ArrayStage)), default=0),
    )
