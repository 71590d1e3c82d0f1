"""Integers to transfers and back: one pixel per transfer, channel 0 in the lowest bits, two's complement."""

from __future__ import annotations

import numpy as np

from lhcc.integer.core import Ints
from lhcc.targets.fpga.stages import Stream

WORD = 32
_LOW = np.uint64((1 << WORD) - 1)


def pack(x: Ints, stream: Stream) -> np.ndarray:
    """(N, H, W, C) or (N, C) integers as (transfers, 32-bit words)."""
    pixels, bits = x.reshape(-1, stream.type.channels), stream.bits
    if stream.lanes:
        blocks = stream.transfers // stream.pixels
        wide = np.zeros((len(pixels), blocks * stream.lanes), np.int64)
        wide[:, : pixels.shape[1]] = pixels
        wide = wide.reshape(-1, stream.pixels, blocks, stream.lanes).transpose(0, 2, 1, 3)
        pixels = wide.reshape(-1, stream.lanes)
    mask = np.uint64((1 << bits) - 1)
    words = np.zeros((-(-stream.word // WORD) + 2, len(pixels)), np.uint64)  # two spare words take what sticks out
    for lane in range(pixels.shape[1]):
        at, shift = divmod(lane * bits, WORD)
        value = np.ascontiguousarray(pixels[:, lane]).view(np.uint64) & mask
        for k in range(-(-bits // WORD)):
            part = ((value >> np.uint64(WORD * k)) & _LOW) << np.uint64(shift)
            words[at + k] |= part & _LOW
            words[at + k + 1] |= part >> np.uint64(WORD)
    return np.ascontiguousarray(words[:-2].T.astype(np.uint32))


def unpack(words: np.ndarray, stream: Stream) -> Ints:
    """The inverse, as (N, H, W, C) or (N, C)."""
    lanes, bits = stream.lanes or stream.type.channels, stream.bits
    columns = np.zeros((words.shape[1] + 2, len(words)), np.uint64)
    columns[:-2] = words.T
    values: Ints = np.empty((len(words), lanes), np.int64)
    unused = np.uint64(64 - bits)
    for lane in range(lanes):
        at, shift = divmod(lane * bits, WORD)
        value = columns[at] >> np.uint64(shift) | columns[at + 1] << np.uint64(WORD - shift)
        if shift + bits > 2 * WORD:
            value |= columns[at + 2] << np.uint64(2 * WORD - shift)
        top = value << unused  # the lane's sign bit on top, so that a shift back fills in signs or zeros
        signed = stream.type.signed
        values[:, lane] = top.view(np.int64) >> np.int64(unused) if signed else (top >> unused).view(np.int64)
    if stream.lanes:
        blocks = stream.transfers // stream.pixels
        values = values.reshape(-1, blocks, stream.pixels, lanes).transpose(0, 2, 1, 3)
        values = values.reshape(-1, stream.pixels, blocks * lanes)[..., : stream.type.channels]
    return values.reshape(-1, *stream.type.shape)
