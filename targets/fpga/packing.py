"""Integers to transfers and back: one pixel per transfer, channel 0 in the lowest bits, two's complement."""

from __future__ import annotations

import numpy as np

from lhcc.integer.core import Ints
from lhcc.targets.fpga.stages import Stream


def pack(x: Ints, stream: Stream) -> np.ndarray:
    """(N, H, W, C) or (N, C) integers as (transfers, 32-bit words)."""
    pixels, bits = x.reshape(-1, stream.type.channels), stream.bits
    if stream.lanes:
        blocks = stream.transfers // stream.pixels
        wide = np.zeros((len(pixels), blocks * stream.lanes), np.int64)
        wide[:, : pixels.shape[1]] = pixels
        wide = wide.reshape(-1, stream.pixels, blocks, stream.lanes).transpose(0, 2, 1, 3)
        pixels = wide.reshape(-1, stream.lanes)
    planes = ((pixels[:, :, None] >> np.arange(bits)) & 1).astype(np.uint8).reshape(len(pixels), -1)
    words = -(-stream.word // 32)
    padded = np.zeros((len(pixels), words * 32), np.uint8)
    padded[:, : stream.word] = planes
    return np.packbits(padded, axis=1, bitorder="little").view(np.uint32)


def unpack(words: np.ndarray, stream: Stream) -> Ints:
    """The inverse, as (N, H, W, C) or (N, C)."""
    lanes, bits = stream.lanes or stream.type.channels, stream.bits
    planes = np.unpackbits(words.view(np.uint8).reshape(len(words), -1), axis=1, bitorder="little")[:, : stream.word]
    weights = np.int64(1) << np.arange(bits, dtype=np.int64)
    if stream.type.signed:
        weights[-1] = -weights[-1]
    values: Ints = planes.reshape(-1, lanes, bits).astype(np.int64) @ weights
    if stream.lanes:
        blocks = stream.transfers // stream.pixels
        values = values.reshape(-1, blocks, stream.pixels, lanes).transpose(0, 2, 1, 3)
        values = values.reshape(-1, stream.pixels, blocks * lanes)[..., : stream.type.channels]
    return values.reshape(-1, *stream.type.shape)
