"""The choices about a layer that are worth measuring: those of good estimates, with all that these cannot see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from lhcc.targets.cpu.choice import CHAINS, EFFORTS, TOGETHER, UNROLLS, Choice
from lhcc.targets.cpu.geometry import splits
from lhcc.targets.cpu.pack import Candidate, Problem, preferred

WORTH_MEASURING = 1.3  # times the best estimate
UNSEEN, SLOWER_COMPILE = 0.005, 0.02  # how much worse each further guess is taken to be


def ranked(problem: Problem) -> list[Candidate]:
    """Every choice that is worth measuring: `pack`'s own first, then the others by their estimate."""
    first = preferred(problem)[0]
    candidates = [candidate for form in problem.forms() for candidate in problem.candidates(form)]
    limit = min(candidate.cycles for candidate in candidates) * WORTH_MEASURING
    near = [candidate for candidate in candidates if candidate.cycles <= limit]
    found = sorted((variant for each in near for variant in _variants(problem, each)), key=lambda c: c.cycles)
    return list({candidate.choice: candidate for candidate in [first, *found]}.values())


def _variants(problem: Problem, candidate: Candidate) -> Iterator[Candidate]:
    choice = candidate.choice
    fields = {
        "unroll": _unrolls(choice.depth),
        "chains": _chains(problem, choice),
        "together": _together(problem, choice),
        "prefetch": (choice.prefetch, 0) if choice.prefetch else (0,),
        "effort": EFFORTS,
    }
    for guesses in product(*map(enumerate, fields.values())):
        ranks, values = zip(*guesses, strict=True)
        worse = 1 + UNSEEN * sum(ranks[:-1]) + SLOWER_COMPILE * ranks[-1]
        yield Candidate(replace(choice, **dict(zip(fields, values, strict=True))), candidate.cycles * worse)


def _unrolls(depth: int) -> tuple[int, ...]:
    """Those that generate different code: one that does not divide the inputs is none."""
    dividing = {unroll: unroll if depth % unroll == 0 else 1 for unroll in UNROLLS}
    turns = {unroll: depth if depth < 2 * turn else turn for unroll, turn in dividing.items()}
    return tuple(next(u for u in UNROLLS if turns[u] == turn) for turn in dict.fromkeys(turns.values()))


def _chains(problem: Problem, choice: Choice) -> tuple[int, ...]:
    """Those that generate different code."""
    most = problem.machine.accumulators(choice.vectors)
    pixels = choice.height * choice.width
    sums = {chains: splits(pixels, choice.vectors, choice.depth, min(chains, most)) for chains in CHAINS}
    return tuple(next(c for c in CHAINS if sums[c] == count) for count in dict.fromkeys(sums.values()))


def _together(problem: Problem, choice: Choice) -> tuple[int, ...]:
    """Numbers of register tiles that are fewer than all of them."""
    if not choice.together:
        return (0,)
    across = [(-(-row.count // choice.height), -(-column.count // choice.width))
              for row in problem.axes.rows for column in problem.axes.columns]  # fmt: skip
    tiles = sum(rows * columns for rows, columns in across)
    return tuple(n for n in TOGETHER if n == TOGETHER[0] or n < tiles)
