"""Random integer programs for the FPGA target's tests: every layer kind, odd sizes, signed and unsigned."""

from __future__ import annotations

import numpy as np

from lhcc.integer import Builder, Program

Rng = np.random.Generator
LARGE = "xc7vx690t"
"""a device that holds every design of these tests"""


def weights(rng: Rng, shape: tuple[int, ...]) -> np.ndarray:
    """Dyadic with two digits, LHC-masked, or dense int4 / int8."""
    kind = rng.integers(4)
    if kind == 0:
        return rng.choice([0, 1, -1, 2, -2, 3, -3, 5, 6, -12, 8], shape)
    if kind == 1:
        mask = rng.random((shape[0], shape[1], 1, 1)) < 0.4
        return rng.choice([1, -1, 2, -2, 4], shape) * mask
    return rng.integers(-8, 8, shape) if kind == 2 else rng.integers(-128, 128, shape)


def unrolled(seed: int) -> Program:
    """One to three layers of small images, anything that the unrolled pipeline takes."""
    rng = np.random.default_rng(seed)
    b = Builder()
    height, width, channels = int(rng.integers(3, 8)), int(rng.integers(3, 8)), int(rng.integers(1, 4))
    x = b.input("image", (height, width, channels), int(rng.integers(3, 9)), 2, signed=bool(rng.integers(2)))
    for k in range(int(rng.integers(1, 3))):
        x = _layer(rng, b, x, f"layer{k}.0/conv")
    h, w, _ = b.types[x].shape
    end = rng.integers(4)
    if end == 0:
        x = b.flatten("flat", b.global_sum("sum", x))
        x = b.dense("head", x, rng.integers(-5, 6, (b.types[x].channels, 3)), rng.integers(-9, 9, 3))
    elif end == 1 and h * w <= 12:
        x = b.flatten("flat", x)
        x = b.dense("head", x, rng.integers(-3, 4, (b.types[x].channels, 2)))
    elif end == 2:
        x = b.requantise("r", b.piecewise("act", x, [-20, 0, 31], [0, 1, 3, 0], [-20, 0, 0, 93], 1), 1)
    return b.build(x)


def _layer(rng: Rng, b: Builder, x: str, name: str) -> str:
    height, width, channels = b.types[x].shape
    kernel = int(rng.choice([1, 2, 3]))
    kernel = min(kernel, height, width)
    stride, pad = int(rng.integers(1, 3)), int(rng.integers(0, 2)) if kernel == 3 else 0
    groups = channels if rng.random() < 0.2 else 1
    outputs = groups * int(rng.integers(1, 4))
    w = weights(rng, (kernel, kernel, channels // groups, outputs))
    y = b.conv(name, x, w, rng.integers(-50, 50, outputs), 2, (stride, stride), (pad, pad, pad, pad), groups=groups)
    if rng.integers(2):
        y = b.relu(f"{name}.relu", y)
    shift = int(max(0, b.types[y].bits - rng.integers(6, 10)))
    signed = b.types[y].signed
    y = b.requantise(f"{name}.round", y, shift, -64 if signed else 0, 63)
    if rng.integers(3) == 0 and outputs > 1:
        same = b.conv(f"{name}.a", y, weights(rng, (3, 3, outputs, outputs)), padding=(1, 1, 1, 1))
        y = b.requantise(f"{name}.sum", b.add(f"{name}.add", same, y), 3, -100, 100)
    if rng.integers(3) == 0 and min(b.types[y].shape[:2]) >= 2:
        y = b.max_pool(f"{name}.pool", y, (2, 2), None if rng.integers(2) else (1, 1))
    if rng.integers(4) == 0 and min(b.types[y].shape[:2]) >= 3:
        y = b.max_pool(f"{name}.pool3", y, (3, 3), (2, 2), (1, 1, 1, 1))
    if rng.integers(4) == 0 and min(b.types[y].shape[:2]) >= 2:
        y = b.sum_pool(f"{name}.average", y, (2, 2))
    return b.concat(f"{name}.both", y, y) if rng.integers(5) == 0 else y


def folded(seed: int) -> Program:
    """Layers with more channels than one block, residual joins, pooling, a head: what the block array takes."""
    rng = np.random.default_rng(seed)
    b = Builder()
    size = int(rng.integers(3, 7))
    x = b.input(
        "image", (size, size + int(rng.integers(2)), int(rng.choice([1, 3, 5]))), 8, 4, signed=bool(rng.integers(2))
    )
    for k in range(2):
        channels, outputs = b.types[x].channels, int(rng.choice([16, 20, 40]))
        kernel = int(rng.choice([1, 3]))
        pad = kernel // 2
        mask = rng.random((kernel, kernel, -(-channels // 32), -(-outputs // 16))) < 0.5
        w = rng.choice([1, -1, 2, 3, -4, 6], (kernel, kernel, channels, outputs))
        w = w * mask.repeat(32, 2).repeat(16, 3)[:, :, :channels, :outputs]
        stride = int(rng.integers(1, 3)) if min(b.types[x].shape[:2]) > 2 else 1
        y = b.conv(f"c{k}", x, w, rng.integers(-99, 99, outputs), 2, (stride, stride), (pad, pad, pad, pad))
        y = b.relu(f"relu{k}", y) if rng.integers(2) else y
        y = b.requantise(f"r{k}", y, rng.integers(1, 5, outputs), -128, 127, scale=0.25)
        if rng.integers(2) and min(b.types[y].shape[:2]) >= 2:
            y = b.max_pool(f"p{k}", y, (2, 2))
        if rng.integers(2):
            z = b.conv(f"s{k}", y, rng.choice([0, 1, -2], (1, 1, outputs, outputs)))
            y = b.requantise(f"j{k}", b.add(f"a{k}", b.requantise(f"z{k}", z, 2, -99, 99, scale=0.25), y), 1)
        x = y
    if rng.integers(2):
        x = b.dense(
            "head", b.flatten("flat", b.global_sum("sum", x)), rng.choice([1, -1, 2, 3], (b.types[x].channels, 10))
        )
    return b.build(x)
