"""A convolution, matrix product or pooling as a target's packer sees it: geometry, weights, epilogue and layouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.ir.graph import array_of, attributes, op_name, shape_of


@dataclass(frozen=True)
class ConvLayer:
    name: str
    op: str  # for people: conv2d, dense, max_pool2d, ...
    weight: NDArray[np.float32] | None  # (O, I/groups, kh, kw); None: pooling by maximum
    bias: NDArray[np.float32] | None
    kernel: tuple[int, int]
    groups: int
    image: tuple[int, int, int, int]  # logical shape of the input
    result: tuple[int, int, int, int]  # logical shape of the output
    strides: tuple[int, int]
    padding: tuple[int, int, int, int]  # top, left, bottom, right
    dilation: tuple[int, int]
    transposed: bool
    source: str  # "planar", "blocked" or "rows"
    target: str  # "blocked" or "rows"
    activation: str
    residual: str

    @property
    def depthwise(self) -> bool:
        return self.weight is None or (self.weight.shape[:2] == (self.groups, 1) and self.groups == self.image[1])

    @property
    def macs(self) -> int:
        """Multiply-adds of the layer as the user wrote it; a window's part outside the image counts, as is usual."""
        if self.weight is None:
            return 0
        images, _, height, width = self.image if self.transposed else self.result
        return images * height * width * self.weight.size

    @property
    def density(self) -> float:
        """Non-zero weights over all weights."""
        return 1.0 if self.weight is None else float(np.count_nonzero(self.weight)) / max(1, self.weight.size)


def logical_layer(name: str, call: Any) -> ConvLayer:
    """A convolution of the dialect before its maps are laid out: both are planar."""
    attrs = attributes(call)
    weight, bias = array_of(call.args[1]), array_of(call.args[2])
    assert weight is not None
    height, width = weight.shape[2:]
    return ConvLayer(
        name, "conv2d", weight, bias, (height, width), attrs["groups"], _four(shape_of(call.args[0])),
        _four(attrs["shape"]), attrs["strides"], attrs["padding"], attrs["dilation"], bool(attrs["transposed"]),
        "blocked", "blocked", attrs["activation"], attrs["residual"],
    )  # fmt: skip


def _four(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    images, channels, height, width = shape
    return images, channels, height, width


def conv_layer(name: str, call: Any) -> ConvLayer | None:
    """The layer behind a laid-out dialect call; None if the call is no such layer."""
    operator, attrs = op_name(call), attributes(call)
    if operator == "lhcc.conv2d":
        weight, bias = array_of(call.args[1]), array_of(call.args[2])
        assert weight is not None
        label = "conv_transpose2d" if attrs["transposed"] else "conv2d"
        height, width = weight.shape[2:]
        return ConvLayer(
            name, label, weight, bias, (height, width), attrs["groups"], attrs["image"], attrs["logical"],
            attrs["strides"], attrs["padding"], attrs["dilation"], bool(attrs["transposed"]),
            attrs["source"], "blocked", attrs["activation"], attrs["residual"],
        )  # fmt: skip
    if operator == "lhcc.pool2d":
        image = attrs["image"]
        return ConvLayer(
            name, "max_pool2d", None, None, attrs["window"], image[1], image, attrs["logical"],
            attrs["strides"], attrs["padding"], attrs["dilation"], False, "blocked", "blocked", "", "",
        )  # fmt: skip
    if operator == "lhcc.dense":
        (rows, inputs), (_, outputs) = shape_of(call.args[0]), attrs["shape"]
        weight, bias = array_of(call.args[1]), array_of(call.args[2])
        assert weight is not None
        return ConvLayer(
            name, "dense", weight[:, :, None, None], bias, (1, 1), 1, (1, inputs, 1, rows), (1, outputs, 1, rows),
            (1, 1), (0, 0, 0, 0), (1, 1), False, "rows", "rows", attrs["activation"], attrs["residual"],
        )  # fmt: skip
    return None


@dataclass(frozen=True)
class Packed:
    """A layer encoded for a kernel: what the kernel is generated from, its constant operands, and what it costs."""

    spec: str
    constants: tuple[NDArray[Any], ...]
    encoding: str
    density: float
    macs: int
    macs_kept: int
    schedule: str
    why: tuple[str, ...]
