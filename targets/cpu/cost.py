"""Estimates cycles: of the innermost loops under every division into register tiles, and of sweeping memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhcc.targets.cpu.geometry import splits
from lhcc.targets.cpu.machine import Machine
from lhcc.targets.cpu.tiling import Divisions

Floats = NDArray[np.float64]

WAKE = 1500.0  # cycles until all threads have met, and go on
FOREIGN = 1 / 2  # cycles per byte that another core wrote: it comes out of that core's caches (measured on Zen 4)


@dataclass(frozen=True)
class Rates:
    """What small things cost, in cycles."""

    step: float  # per input channel of a weight tile, beyond what its multiply-adds and loads take
    entry: float  # per weight tile
    store: float  # per vector stored
    run: float  # per loop over taps: to find its weight tiles, and for the branch that leaves it
    tile: float  # per register tile
    size: float  # share by which every size of tile slows all: it is code of its own, which has to come into the cache
    row: tuple[float, float]  # the same of every row of a tile, which is one more stream; outputs outer, tiles outer
    image: tuple[float, float]  # an image of so many first-, or second-level caches is swept at no cost
    weights: float  # and so are weights of so many first-level caches
    near: float  # per byte swept that the second-level cache holds ...
    far: float  # ... or does not
    stream: float  # per byte of weights that the second-level cache does not keep, when they are first met
    scatter: float  # per byte of large results that are written, and residuals read, in all blocks at once


# Where many registers make large tiles (measured with AVX-512), little is left to fetch; where tiles are small (Zen 3,
# 23 layers in 250 ways), loops are left more often but branches are foreseen, and what is read is fetched ahead.
LARGE = Rates(0.15, 3.0, 1.5, 40.0, 30.0, 0.002, (0.002, 0.002), (3 / 4, 0.0), 3 / 4, 1 / 64, 1 / 16, 0.0, 0.0)
SMALL = Rates(0.40, 3.0, 2.0, 12.0, 25.0, 0.002, (0.012, 0.05), (0.0, 3 / 8), 1 / 4, 1 / 100, 1 / 60, 1 / 20, 0.06)


def rates(machine: Machine) -> Rates:
    return LARGE if machine.registers == 32 else SMALL


@dataclass(frozen=True)
class Form:
    """The weight tiles of one encoding of a layer."""

    vectors: int
    depth: int
    dense: bool
    counts: tuple[int, ...]  # tiles kept per tap
    blocks: int  # of outputs
    lanewise: bool = False
    merged: bool = False  # one step runs through a kernel row

    def weight_bytes(self, lanes: int) -> int:
        return 4 * sum(self.counts) * self.depth * self.vectors * lanes


def cycles(divided: Divisions, form: Form, machine: Machine, chains: int) -> Floats:
    """Cycles of arithmetic for one image, per division; see `Orders` for what the order of the loops adds."""
    taps, rate = np.array(form.counts, np.float64), rates(machine)
    products = _issued(divided, form, machine, chains) + rate.step
    inside = divided.area > 0
    per_tile = ((form.depth * products + rate.entry) * inside) @ taps
    per_tile += form.blocks * (divided.pixels * form.vectors * rate.store + divided.runs * rate.run + rate.tile)
    total: Floats = (divided.many * per_tile).sum(axis=1) * (1 + rate.size * divided.shapes)
    return total


def issue(divided: Divisions, form: Form, machine: Machine, chains: int) -> Floats:
    """Cycles of the innermost loops alone, for one image, per division."""
    per_tile = (form.depth * _issued(divided, form, machine, chains) * (divided.area > 0)) @ np.array(form.counts)
    total: Floats = (divided.many * per_tile).sum(axis=1)
    return total


def _issued(divided: Divisions, form: Form, machine: Machine, chains: int) -> Floats:
    """Cycles of one input channel at one tap, by the multiply-adds and loads that a core begins in a cycle.

    An input that cannot be an operand of the multiply-add has to be brought into a register first: with large tiles
    that takes an instruction of its own in a full pipeline.
    """
    operand = machine.lanes == 16 and form.vectors == 1
    broadcast = 0.0 if operand or machine.registers < 32 else 1 / (machine.loads * form.vectors)
    area, vectors = divided.area.astype(np.float64), form.vectors
    most = int(divided.pixels.max())
    sums = np.array([splits(max(1, n), vectors, form.depth, chains) for n in range(most + 1)], np.float64)
    latency = machine.latency / sums[divided.pixels]
    loads = (area + vectors) / machine.loads + area * broadcast
    issued: Floats = np.maximum(np.maximum(area * vectors / machine.fma, loads), latency[..., None])
    return issued


def outputs_outer(work: Floats, divided: Divisions, form: Form, machine: Machine, image: int, inputs: int) -> Floats:
    """`work` of a layer whose every block of outputs sweeps over the image of `image` bytes, in `inputs` blocks."""
    rate = rates(machine)
    share = min(1.0, sum(form.counts) / max(1, form.blocks * inputs)) if rate is SMALL else 1.0
    free = max(rate.image[0] * machine.l1, rate.image[1] * machine.l2)
    swept = form.blocks * share * _sweep(image, free, rate, machine)
    weights = form.weight_bytes(machine.lanes)
    # the first tile that meets weights waits for them
    awaited = np.maximum(0.0, rate.stream * weights - work / divided.tiles) * (weights > machine.l2 / 4)
    return np.asarray(work * (1 + rate.row[0] * divided.heights) + swept + awaited)


def tiles_outer(work: Floats, divided: Divisions, form: Form, machine: Machine, result: int) -> Floats:
    """`work` of a layer whose every register tile sweeps over all weights, and writes to all blocks of the result;
    that has `result` bytes, the residual included."""
    rate = rates(machine)
    per_tile = _sweep(form.weight_bytes(machine.lanes), rate.weights * machine.l1, rate, machine)
    scattered = rate.scatter * result * (2 * result > machine.l2)
    return np.asarray(work * (1 + rate.row[1] * divided.heights) + divided.tiles * np.float64(per_tile) + scattered)


def _sweep(swept: int, free: float, rate: Rates, machine: Machine) -> float:
    """Cycles of reading `swept` bytes, beyond what the innermost loop hides."""
    if swept <= free:
        return 0.0
    return swept * (rate.near if swept <= machine.l2 else rate.far)


def fetched(divided: Divisions, form: Form, machine: Machine, image: int, tiles: bool, threads: int) -> Floats:
    """Cycles that each of several threads fetches: the layer before has left its `image` where it was computed, some
    pixels with each thread.  Those that share out `tiles` read mostly their own pixels, but each needs all weights;
    those that share out blocks of outputs need the pixels of all others, be it only in their own channels."""
    others = 1 - 1 / threads
    foreign = image * others * FOREIGN * (1 / threads if form.lanewise else 1)
    weights = form.weight_bytes(machine.lanes) * others * rates(machine).far
    return np.where(tiles & (divided.tiles >= threads), weights, foreign)


def shared(serial: Floats, threads: int) -> Floats:
    return serial if threads == 1 else serial / threads + WAKE
