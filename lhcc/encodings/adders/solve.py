"""From a constant matrix to a small adder graph: greedy sharing in milliseconds, then an anytime search.

The search works on the matrix and on its transpose in turn: reversing every edge of a network gives the network of
the transposed matrix at a cost that differs by a constant, and a local optimum one way round need not be one the other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lhcc.encodings.adders import native, peer
from lhcc.encodings.adders.differences import difference_network
from lhcc.encodings.adders.graph import AdderGraph
from lhcc.encodings.adders.network import SumNetwork
from lhcc.encodings.adders.search import Options, Search
from lhcc.errors import LhccError

_UNLIMITED = 1 << 62
_DEEPEST = 48
_PHASES = 8
_CHAINS = 4
_SMALL = 250
_FEW_ADDERS = 1000
_WIDEST = 60
_WEIGHT_BITS = 32
_PAIRS = 20_000_000
"""A search counts the pairs of terms within sums, at some 60 bytes for each that differs."""


class AdderError(LhccError):
    """A matrix, or a depth cap, for which there is no adder graph."""


def integers(matrix: ArrayLike) -> tuple[NDArray[np.int64], int]:
    """A dyadic matrix as (integers, exponent): matrix == integers * 2^exponent, the exponent at most 0."""
    values = np.asarray(matrix)
    if values.ndim != 2:
        raise AdderError(f"an adder graph needs a matrix of shape (inputs, outputs), not {values.shape}")
    if values.dtype.kind in "iub":
        whole, exponent = values.astype(np.int64), 0
    else:
        real = values.astype(np.float64)
        if not np.isfinite(real).all():
            raise AdderError("the matrix holds Inf or NaN", "check the weights before solving")
        exponent = 0
        while not np.array_equal(np.ldexp(real, -exponent), np.rint(np.ldexp(real, -exponent))):
            exponent -= 1
            if exponent < -_WIDEST:
                raise AdderError(
                    f"the matrix needs more than {_WIDEST} fractional bits, so it is not dyadic",
                    "approximate the weights first: lhcc approximate MODEL -o dyadic.onnx",
                )
        scaled = np.ldexp(real, -exponent)
        if np.abs(scaled).max(initial=0) >= 2.0**_WEIGHT_BITS:
            raise AdderError(
                f"a weight needs more than {_WEIGHT_BITS} bits, so the matrix is not dyadic in earnest",
                "approximate the weights first: lhcc approximate MODEL -o dyadic.onnx",
            )
        whole = scaled.astype(np.int64)
    reach = int(np.abs(whole).astype(np.float64).sum(axis=0).max(initial=0))
    if reach >= 1 << _WIDEST:
        raise AdderError(f"a column's weights sum to 2^{reach.bit_length() - 1} or more, beyond {_WIDEST} bits")
    return whole, exponent


@dataclass
class _Best:
    """The best network so far for the matrix itself, whichever way round the search stood when it found it."""

    network: SumNetwork
    cap: int

    def offer(self, network: SumNetwork) -> bool:
        if self.cap and network.depth > self.cap:
            return False
        if network.adders < self.network.adders:
            self.network = network
        return True


def _search(network: SumNetwork, options: Options) -> SumNetwork:
    return native.search(network, options) or Search(network, options).run()


def _temperatures(adders: int, seconds: float, phases: int) -> Iterator[float]:
    """Cooling: the more time there is for each adder, the warmer the start that pays."""
    plenty = min(max(math.log10(max(seconds, 1e-3) * 500.0 / max(adders, 1)), 0.0), 1.0)
    first = 0.4 + 0.4 * plenty
    for phase in range(phases):
        yield first * 0.35 ** (phase / max(phases - 1, 1))


def _accept(temperature: float) -> tuple[int, ...]:
    return tuple(int(65536 * math.exp(-d / temperature)) for d in range(10))


def solve(
    matrix: ArrayLike,
    seconds: float = 10.0,
    max_depth: int | None = None,
    seed: int = 0,
    *,
    rounds: int | None = None,
    peers: bool = True,
) -> AdderGraph:
    """The adder graph of y = x @ matrix, for integers or dyadic rationals of shape (inputs, outputs).

    `seconds` of this thread's processor time bound the search (0: greedy sharing only), so that a busy machine makes it
    slower but no worse; `rounds` bounds it by steps instead, which makes the result reproducible. `max_depth` caps the
    adder levels. `peers` lets an installed alkaid propose a starting point.
    """
    whole, exponent = integers(matrix)
    plain = SumNetwork.from_matrix(whole)
    cap = max_depth or 0
    if max_depth is not None and plain.depth > max_depth:
        raise AdderError(
            f"the matrix needs {plain.depth} adder levels; max_depth={max_depth} cannot be met",
            f"allow max_depth={plain.depth} or more, or use weights with fewer digits",
        )
    if cap > _DEEPEST:
        cap = 0
    start = time.thread_time()
    best = _Best(plain, cap)
    starts = _first(best, whole, cap, seconds if peers else 0.0)
    if seconds > 0 or rounds:
        _anneal(best, starts, cap, seed, rounds, seconds - (time.thread_time() - start))
    graph = AdderGraph.from_network(best.network, exponent)
    if not graph.computes(whole if exponent == 0 else np.ldexp(whole.astype(np.float64), exponent)):
        raise AssertionError("the adder graph does not compute its matrix: a bug in lhcc.encodings.adders")
    return graph


def _first(best: _Best, whole: NDArray[np.int64], cap: int, peer_seconds: float) -> list[SumNetwork]:
    """Greedy sharing both ways round, of digits and of differences, and a peer's network: what fits, best first."""
    greedy, found, plain = Options(rounds=0, cap=cap), [best.network], best.network
    if plain.pairs <= _PAIRS:
        found.append(_search(plain, greedy))
    turned = SumNetwork.from_matrix(whole.T)
    if turned.pairs <= _PAIRS:
        found.append(_search(turned, Options(rounds=0)).transposed())
    elif plain.pairs > _PAIRS and len(whole) > 1:
        found.append(_in_parts(whole, cap))
    if plain.adders <= _FEW_ADDERS:
        across, along = difference_network(whole), difference_network(whole.T)
        found += [] if across is None else [_search(across, greedy)]
        found += [] if along is None else [_search(along, Options(rounds=0)).transposed()]
    found += [_search(network, greedy) for network in peer.networks(whole, cap, peer_seconds)]
    return sorted((network for network in found if best.offer(network)), key=lambda network: network.adders)


def _in_parts(whole: NDArray[np.int64], cap: int) -> SumNetwork:
    """A matrix too large to count all pairs of: its halves are shared by themselves and then added up."""
    parts = []
    for half in np.array_split(whole, 2):
        part = _Best(SumNetwork.from_matrix(half), max(cap - 1, 0))
        parts.append(_first(part, half, max(cap - 1, 0), 0.0)[0])
    return SumNetwork.joined(parts)


def _anneal(best: _Best, starts: list[SumNetwork], cap: int, seed: int, rounds: int | None, seconds: float) -> None:
    """Phases of ruin and recreate, cooling, most of them the way round in which sums are short.

    A small network is annealed from each of its starts by turns, since it soon has nothing more to gain from one.
    """
    if seconds <= 0 and not rounds:
        return
    chains = starts[:_CHAINS] if starts[0].adders <= _SMALL else starts[:1]
    tall = starts[0].inputs > starts[0].outputs
    end = time.thread_time() + seconds
    phases = _PHASES * len(chains)
    temperatures = list(_temperatures(starts[0].adders, seconds, _PHASES))
    for phase in range(phases):
        chain, turn = phase % len(chains), phase // len(chains)
        current, temperature = chains[chain], temperatures[turn]
        turned = tall if turn % 4 < 3 else not tall
        options = Options(
            rounds=-(-rounds // phases) if rounds else _UNLIMITED,
            seconds=0.0 if rounds else max((end - time.thread_time()) / (phases - phase), 1e-3),
            seed=(seed * 0x9E3779B97F4A7C15 + 88172645463325252 + phase) % (1 << 64) or 1,
            cap=0 if turned else cap,
            accept=_accept(temperature),
        )
        start = current.transposed() if turned else current
        if start.pairs > _PAIRS:
            continue
        found = _search(start, options)
        found = found.transposed() if turned else found
        if best.offer(found):
            chains[chain] = found
