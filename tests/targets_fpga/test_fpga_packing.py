"""Integers become transfers and come back, for every width, sign and number of channels; bits lie where they must."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lhcc.integer.core import typed
from lhcc.targets.fpga.packing import pack, unpack
from lhcc.targets.fpga.stages import Stream


@pytest.mark.parametrize("bits", [1, 2, 7, 8, 13, 16, 31, 32, 33, 47, 62])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 17])
def test_there_and_back(bits: int, signed: bool, channels: int) -> None:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    stream = Stream("s", typed("s", (2, 3, channels), np.float64(1), low, high))
    rng = np.random.default_rng(bits)
    x = rng.integers(low, high, (4, 2, 3, channels), endpoint=True)
    x.flat[:2] = low, high
    assert stream.bits == bits
    words = pack(x, stream)
    assert words.dtype == np.uint32 and words.shape == (24, -(-bits * channels // 32))
    whole = [sum(int(w) << 32 * k for k, w in enumerate(row)) for row in words]
    pixels = x.reshape(-1, channels).tolist()
    assert whole == [sum((v & (1 << bits) - 1) << bits * c for c, v in enumerate(pixel)) for pixel in pixels]
    assert (unpack(words, stream) == x).all()


def test_lanes_go_block_by_block() -> None:
    stream = Stream("s", typed("s", (2, 2, 20), np.float64(1), -8, 7), lane_bits=9, lanes=16)
    x = np.random.default_rng(0).integers(-8, 8, (3, 2, 2, 20))
    words = pack(x, stream)
    assert len(words) == 3 * stream.transfers == 24
    first = unpack(words[:4], replace(stream, type=typed("s", (2, 2, 16), np.float64(1), -8, 7), lanes=None))
    assert (first[0] == x[0, ..., :16]).all()
    assert (unpack(words, stream) == x).all()
