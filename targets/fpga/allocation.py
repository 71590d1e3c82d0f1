"""One allocation for the whole network: leading layers unrolled, the rest on arrays that share the work evenly.

A design is a number of leading pieces that are unrolled, then a chain of block arrays, then, where only one pixel is
left, unrolled pieces again.  An array works through its layers one after the other, so the design's pace is that of
its busiest array; arrays are cut so that this one has as little to do as possible.  Of all designs only those are kept
that no other one beats in pace and in LUTs, by estimates that cost no placement.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate

from lhcc.targets.fpga.arithmetic import Multiply
from lhcc.targets.fpga.cost import Area, array_area
from lhcc.targets.fpga.estimate import unrolled_luts
from lhcc.targets.fpga.folded_code import Demands, demands
from lhcc.targets.fpga.folded_jobs import Folding
from lhcc.targets.fpga.folding import gather
from lhcc.targets.fpga.segments import Piece
from lhcc.targets.fpga.stages import Stream


@dataclass(frozen=True)
class Candidate:
    """`ends` of the arrays' pieces; those before `head` and those from the last end on are unrolled."""

    head: int
    ends: tuple[int, ...]
    interval: int
    """cycles between images, as far as can be told before placement"""
    area: Area

    @property
    def tail(self) -> int:
        return self.ends[-1] if self.ends else self.head

    @property
    def arrays(self) -> Iterator[tuple[int, int]]:
        yield from zip((self.head, *self.ends), self.ends, strict=False)


def candidates(pieces: Sequence[Piece], period: float, multiply: Multiply) -> list[Candidate]:
    """The designs worth a look, fastest first; `multiply` shares the sums of unrolled layers."""
    whole = len(pieces)
    areas = [Area(unrolled_luts(p.program, multiply)) for p in pieces]
    opening = _opening(pieces[0], period)
    found = [Candidate(whole, (), pieces[0].pixels, sum(areas, Area()))]
    for head in range(whole):
        parts: list[_Part] = []
        for end in range(head + 1, whole + 1):
            folding = opening if end == 1 else pieces[end - 1].folding
            if folding is None:
                break
            parts.append(_Part(folding.period, demands(folding)))
            if end == whole or pieces[end].pixels == 1:
                unrolled = sum(areas[:head] + areas[end:], Area())
                slowest = pieces[0].pixels if head else 0
                found += [_chain(head, cuts, parts, unrolled, slowest) for cuts in _even([p.period for p in parts])]
    return _best(found)


@dataclass(frozen=True)
class _Part:
    period: int
    demands: Demands


def _opening(piece: Piece, period: float) -> Folding | None:
    """The first piece as it runs when its windows are gathered on the way in."""
    folding = piece.folding
    if folding is None:
        return None
    source = Stream(folding.input, folding.types[folding.input])
    gathered = gather(piece.program, folding, source, period)
    return gathered[1] if gathered else folding


def _chain(head: int, cuts: Sequence[int], parts: Sequence[_Part], unrolled: Area, slowest: int) -> Candidate:
    interval, total = slowest, unrolled
    for first, last in zip((0, *cuts), cuts, strict=False):
        interval = max(interval, sum(p.period for p in parts[first:last]))
        total += array_area(reduce(Demands.join, (p.demands for p in parts[first:last])))
    return Candidate(head, tuple(head + c for c in cuts), interval, total)


def _even(periods: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """For every number of arrays the cuts that leave the busiest one the least to do."""
    sums = [0, *accumulate(periods)]
    paces = sorted({b - a for k, a in enumerate(sums) for b in sums[k + 1 :] if b - a >= max(periods)})
    before: tuple[int, ...] = ()
    for pace in paces:  # the fewest arrays at this pace: each takes as many layers as it can
        cuts, start = list[int](), 0
        while start < len(periods):
            start = bisect_right(sums, sums[start] + pace) - 1
            cuts.append(start)
        if len(cuts) != len(before):
            before = tuple(cuts)
            yield before


def _best(found: Sequence[Candidate]) -> list[Candidate]:
    """Without those that another one beats in pace and in LUTs."""
    kept: list[Candidate] = []
    for c in sorted(found, key=lambda c: (c.interval, c.area.luts)):
        if not kept or c.area.luts < kept[-1].area.luts:
            kept.append(c)
    return kept
