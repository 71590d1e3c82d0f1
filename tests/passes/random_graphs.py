"""Seeded random networks of Relax operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from tvm import relax

from lhcc.ir.graph import shape_of
from tests.passes.modules import Array, Expr, Graph, const

Maker = Callable[["RandomGraph"], "Expr | None"]


class RandomGraph:
    """A seeded small CNN in Relax operators: convolutions of all kinds, pooling, activations, joins."""

    def __init__(self, seed: int, zeros: float = 0.0) -> None:
        self.rng = np.random.default_rng(seed)
        self.zeros = zeros
        self.images = int(self.rng.choice([1, 1, 2, 3]))
        channels, size = int(self.rng.integers(1, 6)), int(self.rng.integers(5, 13))
        self.graph = Graph(x=(self.images, channels, size, size + int(self.rng.integers(0, 3))))
        self.maps = [self.graph.x]
        self.count = 0

    def module(self, steps: int) -> tvm.IRModule:
        makers: list[Maker] = [
            _conv, _conv, _conv, _depthwise, _grouped, _transposed, _activation, _activation, _affine, _affine, _join,
            _join, _concat, _max_pool, _average_pool, _gate, _resize, _border,
        ]  # fmt: skip
        while self.count < steps:
            self.emit(makers[int(self.rng.integers(len(makers)))](self))
        outputs = [self.maps[-1]]
        if self.rng.random() < 0.5:
            outputs.append(self.maps[int(self.rng.integers(1, len(self.maps)))])
        if self.rng.random() < 0.6:
            outputs[0] = self._head(outputs[0])
        return self.graph.returns(*outputs)

    def emit(self, expr: Expr | None, keep: bool = True) -> Expr:
        if expr is None:
            return None
        self.count += 1
        var = self.graph(f"v{self.count}", expr)
        if keep:
            self.maps.append(var)
        return var

    def _head(self, x: Expr) -> Expr:
        if self.rng.random() < 0.5:
            x = self.emit(relax.op.nn.adaptive_avg_pool2d(x, (1, 1)))
        x = self.emit(relax.op.reshape(x, (self.images, int(np.prod(shape_of(x)[1:])))), keep=False)
        x = self.emit(relax.op.matmul(x, const(self.weight(shape_of(x)[1], 10))), keep=False)
        x = self.emit(relax.op.add(x, const(self.weight(10))), keep=False)
        return self.emit(relax.op.nn.softmax(x), keep=False) if self.rng.random() < 0.5 else x

    def pick(self) -> Expr:
        """A map, the latest with preference."""
        back = min(len(self.maps), 1 + int(self.rng.geometric(0.5)))
        return self.maps[-back + 1 if back > 1 else -1]

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def weight(self, *shape: int) -> Array:
        fan = max(1, int(np.prod(shape[1:])))
        values = self.rng.standard_normal(shape) / np.sqrt(fan)
        if self.zeros:
            values *= self.rng.random(shape) >= self.zeros
            if len(shape) > 1:  # whole channels, too
                values[self.rng.random(shape[0]) < self.zeros] = 0
                values[:, self.rng.random(shape[1]) < self.zeros] = 0
        return np.asarray(values, np.float32)


def _channels(g: RandomGraph) -> int:
    return int(g.rng.choice([1, 2, 3, 4, 6, 8, 16, 17, 20, 32, 48]))


def _window(g: RandomGraph, x: Expr) -> dict[str, Any] | None:
    """Kernel, strides, padding and dilation that fit the image."""
    height, width = shape_of(x)[2:]
    kernel = [g.integer(1, 3), g.integer(1, 3)]
    dilation = [g.integer(1, 2) if k > 1 else 1 for k in kernel]
    padding = [g.integer(0, k // 2) for k in (*kernel, *kernel)]
    if any(
        extent + padding[i] + padding[i + 2] < dilation[i] * (kernel[i] - 1) + 1
        for i, extent in enumerate((height, width))
    ):
        return None
    return {"kernel": kernel, "strides": [g.integer(1, 2), g.integer(1, 2)], "padding": padding, "dilation": dilation}


def _convolution(g: RandomGraph, x: Expr, outputs: int, groups: int) -> Expr | None:
    window = _window(g, x)
    if window is None:
        return None
    weight = g.weight(outputs, shape_of(x)[1] // groups, *window.pop("kernel"))
    return relax.op.nn.conv2d(x, const(weight), groups=groups, **window)


def _conv(g: RandomGraph) -> Expr | None:
    return _convolution(g, g.pick(), _channels(g), 1)


def _depthwise(g: RandomGraph) -> Expr | None:
    x = g.pick()
    channels = shape_of(x)[1]
    return _convolution(g, x, channels * int(g.rng.choice([1, 1, 2])), channels)


def _grouped(g: RandomGraph) -> Expr | None:
    x = g.pick()
    channels = shape_of(x)[1]
    groups = 2 if channels % 2 == 0 else 3 if channels % 3 == 0 else 1
    return _convolution(g, x, groups * g.integer(1, 9), groups)


def _transposed(g: RandomGraph) -> Expr | None:
    x = g.pick()
    _, channels, height, width = shape_of(x)
    if height * width > 300:
        return None
    kernel = [g.integer(1, 4), g.integer(1, 4)]
    weight = g.weight(channels, _channels(g), *kernel)
    strides = [g.integer(1, 2), g.integer(1, 2)]
    padding = [min(1, kernel[0] - 1), min(1, kernel[1] - 1), 0, 0]
    return relax.op.nn.conv2d_transpose(x, const(weight), strides=strides, padding=padding)


def _activation(g: RandomGraph) -> Expr:
    x = g.pick()
    choice = g.integer(0, 8)
    if choice == 6:  # hard swish, spelled out
        gate = g.emit(relax.op.clip(g.emit(relax.op.add(x, const(3.0)), keep=False), 0, 6), keep=False)
        return relax.op.divide(g.emit(relax.op.multiply(x, gate), keep=False), const(6.0))
    if choice == 7:  # silu, spelled out
        return relax.op.multiply(x, g.emit(relax.op.sigmoid(x), keep=False))
    if choice == 8:
        return relax.op.clip(g.emit(relax.op.clip(x, -0.5, 2), keep=False), -1, 1)
    functions: list[Callable[[Expr], Expr]] = [
        relax.op.nn.relu, relax.op.nn.relu6, relax.op.sigmoid, relax.op.tanh, relax.op.nn.gelu,
        lambda v: relax.op.nn.leakyrelu(v, 0.1),
    ]  # fmt: skip
    return functions[choice](x)


def _affine(g: RandomGraph) -> Expr:
    """A constant that is a number, one per channel, or one per element, on either side."""
    x = g.pick()
    shape = shape_of(x)
    choices = [(), (1,), (1, shape[1], 1, 1), (shape[1], 1, 1), (1, 1, 1, shape[3]), shape]
    value = const(g.rng.uniform(0.5, 1.5, choices[g.integer(0, len(choices) - 1)]))
    operator = [relax.op.add, relax.op.subtract, relax.op.multiply, relax.op.divide][g.integer(0, 3)]
    swap = g.rng.random() < 0.3 and operator is not relax.op.divide
    return operator(value, x) if swap else operator(x, value)


def _join(g: RandomGraph) -> Expr | None:
    x = g.pick()
    _, channels, height, width = shape_of(x)
    fitting = [
        m
        for m in g.maps
        if all(a == b or b == 1 for a, b in zip((channels, height, width), shape_of(m)[1:], strict=True))
    ]
    if len(fitting) < 2 or g.rng.random() < 0.4:
        fitting.append(g.emit(relax.op.nn.conv2d(x, const(g.weight(channels, channels, 1, 1)))))
    other = fitting[-g.integer(1, min(2, len(fitting)))]
    operator = [relax.op.add, relax.op.add, relax.op.add, relax.op.multiply, relax.op.maximum, relax.op.subtract]
    return operator[g.integer(0, 5)](*((x, other) if g.rng.random() < 0.5 else (other, x)))


def _concat(g: RandomGraph) -> Expr | None:
    x = g.pick()
    fitting = [m for m in g.maps if shape_of(m)[2:] == shape_of(x)[2:]]
    if sum(shape_of(m)[1] for m in fitting[-3:]) > 200:
        return None
    return relax.op.concat(fitting[-3:], axis=1) if len(fitting) > 1 else None


def _max_pool(g: RandomGraph) -> Expr | None:
    x = g.pick()
    if min(shape_of(x)[2:]) < 3:
        return None
    return relax.op.nn.max_pool2d(x, (g.integer(2, 3), g.integer(1, 3)), (g.integer(1, 2),) * 2, g.integer(0, 1) * 0)


def _average_pool(g: RandomGraph) -> Expr | None:
    x = g.pick()
    if min(shape_of(x)[2:]) < 3:
        return None
    padding = (1, 1) if g.rng.random() < 0.5 else (0, 0)
    counted = bool(g.rng.random() < 0.5)
    return relax.op.nn.avg_pool2d(x, (3, 3), (g.integer(1, 2),) * 2, padding, count_include_pad=counted)


def _gate(g: RandomGraph) -> Expr:
    """Squeeze and excite."""
    x = g.pick()
    channels = shape_of(x)[1]
    pooled = g.emit(relax.op.mean(x, [2, 3], keepdims=True), keep=False)
    inner = g.emit(relax.op.nn.conv2d(pooled, const(g.weight(channels, channels, 1, 1))), keep=False)
    return relax.op.multiply(x, g.emit(relax.op.sigmoid(inner), keep=False))


def _resize(g: RandomGraph) -> Expr | None:
    x = g.pick()
    height, width = shape_of(x)[2:]
    if height * width > 100 or g.rng.random() < 0.5:
        return None
    return relax.op.image.resize2d(
        x, relax.ShapeExpr([2 * height, 2 * width]), layout="NCHW", method="nearest_neighbor",
        coordinate_transformation_mode="asymmetric", rounding_method="floor",
    )  # fmt: skip


def _border(g: RandomGraph) -> Expr:
    x = g.pick()
    return relax.op.nn.pad(x, (0, 0, 0, 0, *(g.integer(0, 2) for _ in range(4))))
