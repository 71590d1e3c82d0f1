"""Removes channels that nobody reads or that are constant, together with the weights that make and read them.

    y = lhcc.conv2d(x, W, b); z = lhcc.conv2d(y, V, c)
      V[:, i] == 0:  channel i of y is never used       ->  W, b without row i, V without column i
      W[i] == 0:     channel i of y is act(b[i])        ->  c + sum(V[:, i]) * act(b[i]), then as above

Both follow activations, pooling, residuals, gates, concat and flattening.  A constant other than zero stays where a
padded convolution reads it: at the border the padding counts, not the constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray

from lhcc.ir.channels import Channels, Ids, Layer, reads, tap_sums
from lhcc.ir.constant_channels import ConstantChannels, reads_inside
from lhcc.ir.log import Log
from lhcc.ir.rebuild import rebuild
from lhcc.ir.tile_cost import LANES, tile_cost

Array = NDArray[Any]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class RemoveDeadChannels:
    name = "remove_dead_channels"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        channels = Channels(mod)
        constants = ConstantChannels(mod).values
        folded = {layer.var: _folded(layer, constants[layer.source], log) for layer in channels.layers}
        changed = {var: new for var, new in folded.items() if new is not None}
        weights = {layer.var: layer.weight for layer in channels.layers}
        weights |= {var: weight for var, (weight, _) in changed.items()}
        alive = _alive(channels, weights)
        _explain(channels, constants, alive, log)
        kept = _worthwhile(channels, weights, alive, log)
        if kept.all() and not changed:
            return mod
        in_place = np.arange(channels.count)
        takes = {var: channels.taken(var, in_place, kept) for var in channels.ids}
        for layer in channels.layers:
            gone = len(layer.weight) - len(takes[layer.var])
            if gone:
                log.add(layer.name, self.name, f"{gone} of {len(layer.weight)} outputs are not needed: removed")
        return rebuild(mod, log, self.name, takes, changed)


def _folded(layer: Layer, source: Array, log: Log) -> tuple[Array, Array] | None:
    """Weight and bias that do not read constant inputs any more; None if there is nothing to fold."""
    if layer.depthwise:
        return None
    constant = ~np.isnan(source) & reads(layer.weight).any(axis=0)
    if not reads_inside(layer.call):
        padded = constant & (source != 0)
        if padded.any():
            text = f"{int(padded.sum())} of its inputs are constant, but not zero like the padding: kept"
            log.add(layer.name, RemoveDeadChannels.name, text)
        constant &= source == 0
    if not constant.any():
        return None
    bias = layer.bias + tap_sums(layer.weight)[:, constant] @ source[constant]
    weight = layer.weight.copy()
    weight[:, constant] = 0
    return weight, bias.astype(np.float32)


def _alive(channels: Channels, weights: dict[Any, Array]) -> Mask:
    """The classes that an output of the network depends on; every map keeps at least one channel."""
    alive = np.zeros(channels.count, bool)
    alive[list(channels.fixed)] = True
    count = -1
    while count != int(alive.sum()):
        count = int(alive.sum())
        for layer in reversed(channels.layers):
            if not layer.depthwise:
                needed = alive[channels.ids[layer.var]]
                alive[channels.ids[layer.source][reads(weights[layer.var][needed]).any(axis=0)]] = True
        for ids in channels.ids.values():
            if len(ids) and not alive[ids].any():
                alive[ids[0]] = True
    return alive


def _explain(channels: Channels, constants: dict[Any, Array], alive: Mask, log: Log) -> None:
    """Says which channels that look dead stay, and why."""
    varies = np.zeros(channels.count, bool)
    for var, ids in channels.ids.items():
        varies[ids[np.isnan(constants[var])]] = True

    def reason(class_: int) -> str:
        joined = "they are joined with channels that vary" if varies[class_] else "a padded layer reads them"
        return channels.fixed.get(class_, joined)

    for layer in channels.layers:
        ids = channels.ids[layer.var]
        stay = ~np.isnan(constants[layer.var]) & alive[ids]
        reasons = set(map(reason, ids[stay].tolist()))
        if reasons:
            text = f"{int(stay.sum())} of {len(ids)} outputs are constant but stay: {', '.join(sorted(reasons))}"
            log.add(layer.name, RemoveDeadChannels.name, text)


def _worthwhile(channels: Channels, weights: dict[Any, Array], alive: Mask, log: Log) -> Mask:
    """The classes that stay.  Removing one moves those behind it: where tiles of like zeros would no longer fit, only
    whole blocks go."""
    chosen = np.ones(channels.count, bool)  # also classes that were united with others and are no class any more
    for segment in channels.segments():
        dead = segment[~alive[segment]]
        if not len(dead):
            continue
        layers = [layer for layer in channels.touching(segment) if not layer.depthwise]
        trials = []
        for candidate in (_in_blocks(segment, dead), _whole_blocks(segment, alive), dead[:0]):
            trial = chosen.copy()
            trial[candidate] = False
            trials.append((_cost(channels, layers, weights, trial), len(dead) - len(candidate), trial))
        _, kept, chosen = min(trials, key=lambda option: option[:2])
        if kept:
            text = f"{kept} unused channels stay: they fill blocks of {LANES}, or hold others in their tiles"
            log.add(layers[0].name, RemoveDeadChannels.name, text)
    return chosen


def _in_blocks(segment: Ids, dead: Ids) -> Ids:
    """Of `dead` so many that whole blocks are left of a map that had them: a part of a block saves nothing."""
    filling = (len(dead) - len(segment)) % LANES if len(segment) % LANES == 0 else 0
    return dead[: len(dead) - filling]


def _whole_blocks(segment: Ids, alive: Mask) -> Ids:
    """The classes of those blocks of adjacent ones that are dead altogether."""
    blocks = [segment[start : start + LANES] for start in range(0, len(segment), LANES)]
    return np.concatenate([segment[:0], *(block for block in blocks if len(block) == LANES and not alive[block].any())])


def _cost(channels: Channels, layers: list[Layer], weights: dict[Any, Array], alive: Mask) -> float:
    cost = 0.0
    for layer in layers:
        made, read = alive[channels.ids[layer.var]], alive[channels.ids[layer.source]]
        cost += tile_cost(weights[layer.var][made][:, read]) * layer.pixels
    return cost
