"""Reorders channels, through the whole graph, so that like patterns of zeros share tiles.

    y = lhcc.conv2d(x, W, b); z = lhcc.conv2d(y, V, c)
      ->  y = lhcc.conv2d(x, W[p], b[p]); z = lhcc.conv2d(y, V[:, p], c)     p: an order in which fewer tiles are kept

Lossless and free at run time: makers and readers of a channel change together, activations, pooling, residuals, gates
and concat follow.  Inputs and outputs of the network are reordered on the way, where their layout changes anyway and
where that saves more than it costs; what a foreign operator reads keeps its order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray

from lhcc.ir.channels import Channels, Ids, Layer
from lhcc.ir.graph import shape_of
from lhcc.ir.grouping import alike_order
from lhcc.ir.log import Log
from lhcc.ir.rebuild import rebuild
from lhcc.ir.seams import with_seams
from lhcc.ir.tile_cost import DEPTHS, LANES, kept_tiles, least_cost, tile_cost

Bits = NDArray[np.bool_]
SEAM = 2.0  # multiply-adds that take as long as reordering an element while its layout changes


@dataclass(frozen=True)
class PermuteChannels:
    gain: float = 0.03  # leave the order of the user only for a saving beyond this
    sweeps: int = 4
    name = "permute_channels"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        seamed = with_seams(mod)
        search = _Search(Channels(seamed, open_seams=True), self.gain)
        before = np.arange(search.channels.count)
        place = search.best(self.sweeps)
        place = search.keep_gains(search.close_seams(place))
        search.explain(place, log)
        if (place == before).all():
            return mod
        takes = {var: search.channels.taken(var, place) for var in search.channels.ids}
        return rebuild(seamed, log, self.name, takes, {})


class _Search:
    """`place[c]` is the class that stands where class `c` stood."""

    def __init__(self, channels: Channels, gain: float) -> None:
        self.channels = channels
        self.gain = gain
        self.layers = [layer for layer in channels.layers if not layer.depthwise]
        self.patterns = {layer.var: _pattern(layer) for layer in self.layers}
        self.least = {layer.var: least_cost(self.patterns[layer.var]) for layer in self.layers}
        self.unordered = np.arange(channels.count)
        self.segments = [segment for segment in channels.segments() if len(segment) > 1]
        self.touching = [[layer for layer in channels.touching(s) if not layer.depthwise] for s in self.segments]

    def best(self, sweeps: int) -> Ids:
        """Segment by segment, each given the order of the others, as long as a neighbour has moved since."""
        place = self.unordered
        waiting = set(range(len(self.segments)))
        for number in [*range(len(self.segments))] * sweeps:
            segment, layers = self.segments[number], self.touching[number]
            if number not in waiting:
                continue
            waiting.remove(number)
            if not any(self._improvable(layer, place) for layer in layers):
                continue
            trials = [place, *self._orders(segment, layers, place)]
            costs = [self._objective(layers, trial) for trial in trials]
            winner = int(np.argmin(costs))
            if costs[winner] < costs[0] * 0.99:
                place = trials[winner]
                waiting |= {other for other in self._neighbours(number) if other != number}
        return place

    def close_seams(self, place: Ids) -> Ids:
        """Puts back, one by one, the segments at seams that save too little for the seam."""
        for segment, layers in zip(self.segments, self.touching, strict=True):
            back = place.copy()
            back[segment] = segment
            dearer = self._seams(place) - self._seams(back)
            if dearer and self._cost(layers, back) <= self._cost(layers, place) + dearer:
                place = back
        return place

    def keep_gains(self, place: Ids) -> Ids:
        """Puts back the segments that are tied together by layers and save too little for all their moving."""
        moved = [number for number, segment in enumerate(self.segments) if (place[segment] != segment).any()]
        while moved:
            members, grown = set[int](), {moved[0]}
            while grown != members:
                members = grown
                grown = {other for number in members for other in self._neighbours(number)} & set(moved)
            touched = [layer for layer in self.layers if any(layer.var in self._vars(number) for number in members)]
            if self._cost(touched, place) > (1 - self.gain) * self._cost(touched, self.unordered):
                place = place.copy()
                for number in members:
                    place[self.segments[number]] = self.segments[number]
            moved = [number for number in moved if number not in members]
        return place

    def explain(self, place: Ids, log: Log) -> None:
        for layer in self.layers:
            before, after = self._cost([layer], self.unordered), self._cost([layer], place)
            if before <= (1 + self.gain) * self.least[layer.var] * layer.pixels:
                continue
            figures = f"{before / layer.pixels:,.0f}", f"{after / layer.pixels:,.0f}"
            if after != before:
                text = f"channels reordered: {figures[0]} -> {figures[1]} multiply-adds per pixel in kept tiles"
            else:
                least = f"{self.least[layer.var]:,.0f}"
                fixed = [f"its {side} stay in order ({reason})" for side, reason in self._fixed(layer) if reason]
                why = ", ".join(fixed) or f"no order that was tried keeps fewer than {1 - self.gain:.0%} of them"
                text = f"{figures[0]} multiply-adds per pixel in kept tiles, {least} at the very least, but {why}"
            log.add(layer.name, PermuteChannels.name, text)

    def _fixed(self, layer: Layer) -> Iterator[tuple[str, str]]:
        for side, var in (("inputs", layer.source), ("outputs", layer.var)):
            yield side, self.channels.fixed.get(int(self.channels.ids[var][0]), "")

    def _vars(self, number: int) -> set[Any]:
        return {layer.var for layer in self.touching[number]}

    def _neighbours(self, number: int) -> set[int]:
        mine = self._vars(number)
        return {other for other in range(len(self.segments)) if mine & self._vars(other)}

    # ---- prices
    def _ordered(self, layer: Layer, place: Ids) -> Bits:
        taken = self.channels.taken
        return np.asarray(self.patterns[layer.var][taken(layer.var, place)][:, taken(layer.source, place)])

    def _cost(self, layers: list[Layer], place: Ids) -> float:
        return sum(tile_cost(self._ordered(layer, place)) * layer.pixels for layer in layers)

    def _seams(self, place: Ids) -> float:
        """What it costs to reorder at the seams."""
        taken, seams = self.channels.taken, self.channels.seams
        moved = [var for var, source in seams if (taken(var, place) != taken(source, place)).any()]
        return SEAM * float(sum(prod(shape_of(var)) for var in moved))

    def _objective(self, layers: list[Layer], place: Ids) -> float:
        """Kept tiles at all depths, so that a step that pays only together with the next one counts already."""
        weights = np.array(DEPTHS)
        return sum(float(kept_tiles(self._ordered(layer, place)) @ weights) * layer.pixels for layer in layers)

    def _improvable(self, layer: Layer, place: Ids) -> bool:
        return self._cost([layer], place) > (1 + self.gain) * self.least[layer.var] * layer.pixels

    # ---- orders to try
    def _orders(self, segment: Ids, layers: list[Layer], place: Ids) -> Iterator[Ids]:
        """Channels grouped by the zeros of the weights that make them, that read them, or both; looked at weight by
        weight, or by whole tiles of the other side in its present order."""
        for block in (1, LANES):
            made: list[tuple[Bits, float]] = []
            read: list[tuple[Bits, float]] = []
            for layer in layers:
                pattern = self._ordered(layer, place)
                if segment[0] in self.channels.ids[layer.var]:
                    made.append((self._lines(pattern, layer.var, segment, block), float(block * layer.pixels)))
                if segment[0] in self.channels.ids[layer.source]:
                    turned = pattern.swapaxes(0, 1)
                    read.append((self._lines(turned, layer.source, segment, block), float(block * layer.pixels)))
            for features in (made, read, made + read if made and read else []):
                if features:
                    trial = place.copy()
                    trial[segment] = place[segment][alike_order(features, LANES)]
                    yield trial

    def _lines(self, pattern: Bits, var: Any, segment: Ids, block: int) -> Bits:
        """(class of the segment, positions): the zeros of a class along the first axis of `pattern`."""
        merged = np.logical_or.reduceat(pattern, np.arange(0, pattern.shape[1], block), axis=1)
        rows = merged.reshape(len(merged), -1)
        ids = self.channels.ids[var]
        order = np.argsort(ids, kind="stable")
        first = np.searchsorted(ids[order], segment)
        times = int(np.count_nonzero(ids == segment[0]))  # in a flattened map, once per pixel
        return np.asarray(rows[order[first[:, None] + np.arange(times)]].reshape(len(segment), -1))


def _pattern(layer: Layer) -> Bits:
    weight = layer.weight
    return weight.reshape(*weight.shape[:2], -1).astype(bool) if weight.size else weight.astype(bool)
