"""Estimates cycles: of the innermost loops under every division into register tiles, and of sweeping memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lhcc.targets.cpu.geometry import splits
from lhcc.targets.cpu.machine import Machine
from lhcc.targets.cpu.tiling import Divisions

Floats = NDArray[np.float64]

NEAR = 3 / 4  # of the first-level cache, for what is read again and again: other things pass through it
NEAR_RATE, FAR_RATE = 64.0, 16.0  # bytes a cycle from the second-level cache, and from beyond it
WAKE = 6000.0  # cycles until all threads work, and have met again
ENTRY, STORE, TILE = 3.0, 1.5, 30.0  # cycles per weight tile, per vector stored, per register tile
RUN = 40.0  # cycles per loop over taps: to find its weight tiles, and for the branch that leaves it


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
    """Cycles of arithmetic for one image, per division."""
    taps = np.array(form.counts, np.float64)
    products = _products(divided, form, machine, chains)
    inside = divided.area > 0
    per_tile = ((form.depth * products + ENTRY) * inside) @ taps
    per_tile += form.blocks * (divided.pixels * form.vectors * STORE + divided.runs * RUN + TILE)
    # every size of tile is code of its own, which has to come into the cache; every row of a tile is one more stream
    total: Floats = (divided.many * per_tile).sum(axis=1) * (1 + 0.002 * divided.shapes + 0.002 * divided.heights)
    return total


def _products(divided: Divisions, form: Form, machine: Machine, chains: int) -> Floats:
    """Cycles of one input channel at one tap, by the multiply-adds and loads that a core begins in a cycle.

    An input that cannot be an operand of the multiply-add has to be brought into a register first.
    """
    operand = machine.lanes == 16 and form.vectors == 1
    broadcast = 0.0 if operand else 1 / (machine.loads * form.vectors)
    area, vectors = divided.area.astype(np.float64), form.vectors
    most = int(divided.pixels.max())
    sums = np.array([splits(max(1, n), vectors, form.depth, chains) for n in range(most + 1)], np.float64)
    latency = machine.latency / sums[divided.pixels]
    loads = (area + vectors) / machine.loads + area * broadcast
    products: Floats = np.maximum(np.maximum(area * vectors / machine.fma, loads), latency[..., None]) + 0.15
    return products


def sweep(swept: int, times: NDArray[np.int64], machine: Machine) -> Floats:
    """Cycles of reading `swept` bytes `times` over, beyond what the innermost loop hides."""
    rate = NEAR_RATE if swept <= machine.l2 else FAR_RATE
    per_sweep = 0.0 if swept <= NEAR * machine.l1 else swept / rate
    total: Floats = times * np.float64(per_sweep)
    return total


def shared(serial: Floats, threads: int) -> Floats:
    return serial if threads == 1 else serial / threads + WAKE
