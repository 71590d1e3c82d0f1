"""The exact optimum of min ||W - alpha * T|| over alpha and T in D^n, for many groups of weights at once.

With alpha given, every T[i] is the level nearest to W[i] / alpha; with T given, alpha = <W,T> / <T,T> leaves the error
||W||^2 - <W,T>^2 / <T,T>. As alpha falls from infinity each T[i] climbs its ladder of levels, one rung at a time, at
alphas that are known in advance. Sorting these breakpoints and keeping running sums visits every T that is optimal for
any alpha, so the best of them is the global optimum. Powers of two are fewer: they are tried one by one until no
smaller one can win.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhcc.approximation.sets import DyadicSet

Doubles = NDArray[np.float64]
_CHUNK = 1 << 21


@dataclass(frozen=True)
class Approximation:
    """W ~ alpha[:, None] * levels, with the squared error that is left per group."""

    alpha: Doubles
    levels: Doubles
    error: Doubles

    def dense(self) -> Doubles:
        return self.alpha[:, None] * self.levels


@dataclass(frozen=True)
class _Ladder:
    """Levels from the one nearest zero outwards, in the direction of the weight, and the midpoints between them."""

    rungs: Doubles
    middles: Doubles

    @classmethod
    def of(cls, chosen: DyadicSet, sign: int) -> _Ladder:
        levels = sorted(sign * level for level in chosen.levels)
        start = min(range(len(levels)), key=lambda i: (abs(levels[i]), -levels[i]))
        rungs = np.array(levels[start:], dtype=np.float64)
        return cls(rungs, (rungs[1:] + rungs[:-1]) / 2)

    def nearest(self, x: Doubles) -> Doubles:
        return self.rungs[np.searchsorted(self.middles, x)]


def _chunks(groups: int, events: int) -> list[slice]:
    step = max(_CHUNK // max(events, 1), 1)
    return [slice(start, start + step) for start in range(0, groups, step)]


def best_free(weights: Doubles, chosen: DyadicSet) -> Approximation:
    """The optimum over any alpha, for weights of shape (groups, n)."""
    found = _best_free_signed(weights, chosen)
    if chosen.symmetric:
        return found
    mirrored = _best_free_signed(-weights, chosen)
    better = mirrored.error < found.error
    return Approximation(
        np.where(better, -mirrored.alpha, found.alpha),
        np.where(better[:, None], mirrored.levels, found.levels),
        np.where(better, mirrored.error, found.error),
    )


def _best_free_signed(weights: Doubles, chosen: DyadicSet) -> Approximation:
    groups, n = weights.shape
    ups, downs = _Ladder.of(chosen, 1), _Ladder.of(chosen, -1)
    alpha, error = np.zeros(groups), np.zeros(groups)
    levels = np.zeros((groups, n))
    events = n * max(len(ups.middles), len(downs.middles), 1)
    for part in _chunks(groups, events):
        levels[part] = _climb(weights[part], ups, downs)
    wt, tt = (weights * levels).sum(axis=1), (levels * levels).sum(axis=1)
    np.divide(np.maximum(wt, 0), tt, out=alpha, where=tt > 0)
    for part in _chunks(groups, n):
        error[part] = ((weights[part] - alpha[part, None] * levels[part]) ** 2).sum(axis=1)
    return Approximation(alpha, levels, error)


def _climb(weights: Doubles, ups: _Ladder, downs: _Ladder) -> Doubles:
    """The best T of every row: all breakpoints in falling order of alpha, running sums, the largest <W,T>^2 / <T,T>."""
    rows, n = weights.shape
    sizes, down = np.abs(weights), weights < 0
    rungs = max(len(ups.middles), len(downs.middles))
    tables = [_tables(ladder, rungs) for ladder in (ups, downs)]
    same = all(np.array_equal(a, b) for a, b in zip(*tables, strict=True))
    middles, steps, squares = (
        tables[0][k] if same else np.where(down[:, :, None], tables[1][k], tables[0][k]) for k in range(3)
    )
    start = np.where(down, downs.rungs[0], ups.rungs[0])
    if rungs == 0:
        return np.asarray(np.where(down, -start, start))
    at = (sizes[:, :, None] / middles).reshape(rows, n * rungs)
    gain_wt = (sizes[:, :, None] * steps).reshape(rows, -1)
    gain_tt = np.broadcast_to(squares, (rows, n, rungs)).reshape(rows, -1)
    order = np.argsort(-at, axis=1)
    wt = np.cumsum(np.take_along_axis(gain_wt, order, axis=1), axis=1) + (sizes * start).sum(axis=1, keepdims=True)
    tt = np.cumsum(np.take_along_axis(gain_tt, order, axis=1), axis=1) + (start * start).sum(axis=1, keepdims=True)
    score = np.divide(np.maximum(wt, 0) ** 2, tt, out=np.zeros_like(wt), where=tt > 0)
    last = np.argmax(score, axis=1)
    cut = np.take_along_axis(at, np.take_along_axis(order, last[:, None], axis=1), axis=1)
    climbed = ((at >= cut) & (at > 0)).reshape(rows, n, rungs)
    initial = (sizes * start).sum(axis=1) ** 2 / np.maximum((start * start).sum(axis=1), 1e-300)
    climbed &= (np.take_along_axis(score, last[:, None], axis=1) > initial[:, None])[:, :, None]
    outward = start + (climbed * steps).sum(axis=2)
    return np.asarray(np.where(down, -outward, outward))


def _tables(ladder: _Ladder, rungs: int) -> tuple[Doubles, Doubles, Doubles]:
    """Per rung: midpoint below it, step in T, step in T^2; missing rungs are out of reach."""
    missing = rungs - len(ladder.middles)
    middles = np.concatenate([ladder.middles, np.full(missing, np.inf)])
    steps = np.concatenate([np.diff(ladder.rungs), np.zeros(missing)])
    squares = np.concatenate([np.diff(ladder.rungs**2), np.zeros(missing)])
    return middles, steps, squares


def best_shift(weights: Doubles, chosen: DyadicSet, lowest: NDArray[np.int64] | None = None) -> Approximation:
    """The optimum over alpha = 2^e, for weights of shape (groups, n); `lowest` bounds e from below per group."""
    groups, n = weights.shape
    result = Approximation(np.ones(groups), np.zeros((groups, n)), np.zeros(groups))
    for part in _chunks(groups, 4 * n):
        low = None if lowest is None else lowest[part]
        result.alpha[part], result.levels[part], result.error[part] = _descend(weights[part], chosen, low)
    return result


def _descend(weights: Doubles, chosen: DyadicSet, lowest: NDArray[np.int64] | None) -> tuple[Doubles, Doubles, Doubles]:
    """Halves alpha until the largest level, everywhere, could no longer reach the weights closely enough."""
    ups, downs = _Ladder.of(chosen, 1), _Ladder.of(chosen, -1)
    rows, n = weights.shape
    down = weights < 0
    first = np.frexp(np.abs(weights).max(axis=1))[1].astype(np.int64)
    middles = [m for m in (*ups.middles[:1], *downs.middles[:1]) if m > 0]
    first -= int(np.floor(np.log2(min(middles)))) if middles else 0
    if lowest is not None:
        first = np.maximum(first, lowest)
    reach = max(abs(level) for level in chosen.levels) * np.sqrt(n)
    norm = np.sqrt((weights * weights).sum(axis=1))
    best_error, best_alpha, best_levels = np.full(rows, np.inf), np.ones(rows), np.zeros((rows, n))
    live = np.arange(rows)
    for step in range(0, 64):
        exponent = first[live] - step
        alpha = np.ldexp(1.0, exponent)
        sizes = np.abs(weights[live]) / alpha[:, None]
        levels = (
            ups.nearest(sizes) if chosen.symmetric else np.where(down[live], downs.nearest(sizes), ups.nearest(sizes))
        )
        error = (((sizes - levels) * alpha[:, None]) ** 2).sum(axis=1)
        better = error < best_error[live]
        rows_better = live[better]
        best_error[rows_better], best_alpha[rows_better] = error[better], alpha[better]
        best_levels[rows_better] = levels[better]
        short = np.maximum(norm[live] - alpha / 2 * reach, 0) ** 2  # no smaller alpha can leave less
        going = (short < best_error[live]) & (best_error[live] > 0)
        if lowest is not None:
            going &= exponent > lowest[live]
        live = live[going]
        if not len(live):
            break
    return best_alpha, np.where(down, -best_levels, best_levels), best_error
