"""Operators that move or copy elements: reshape, transpose, concat, split, slice, pad, and those that vanish."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from lhcc.frontend import layers
from lhcc.frontend.onnx_ops.registry import Node, converter


def _axes(node: Node, operand: int) -> list[int] | None:
    """The axes, an operand in newer opsets and an attribute in older ones; None when absent."""
    given = node.constant(operand)
    given = node.attr("axes") if given is None else given
    return None if given is None else [int(a) for a in np.atleast_1d(given)]


@converter("Identity")
def identity(node: Node) -> Any:
    return node.value(0)


@converter("Dropout")
def dropout(node: Node) -> Any:
    training = node.constant(2)
    if training is not None and bool(training) or node.wants(1):
        raise NotImplementedError("drop-out in training mode")
    return node.value(0)


@converter("Shape")
def shape(node: Node) -> Any:
    return np.asarray(node.shape()[slice(node.attr("start"), node.attr("end"))], np.int64)


@converter("Size")
def size(node: Node) -> Any:
    return np.asarray(np.prod(node.shape(), dtype=np.int64))


@converter("Reshape")
def reshape(node: Node) -> Any:
    wanted = node.attr("shape") if node.opset < 5 else node.required(1)
    keep_zero = bool(node.attr("allowzero", 0))
    sizes = [node.shape()[i] if n == 0 and not keep_zero else int(n) for i, n in enumerate(wanted)]
    if -1 in sizes:
        rest = int(np.prod([n for n in sizes if n != -1], dtype=np.int64))
        sizes[sizes.index(-1)] = int(np.prod(node.shape(), dtype=np.int64)) // rest if rest else 0
    if 0 in sizes:  # no elements: nothing to compute, and TVM refuses some of these
        return np.zeros(sizes, node.dtype())
    return relax.op.reshape(node.expr(0), sizes)


@converter("Flatten")
def flatten(node: Node) -> Any:
    sizes, axis = node.shape(), node.attr("axis", 1)
    axis = axis % len(sizes) if axis < 0 else axis
    head = int(np.prod(sizes[:axis], dtype=np.int64))
    return relax.op.reshape(node.expr(0), [head, int(np.prod(sizes[axis:], dtype=np.int64))])


@converter("Squeeze")
def squeeze(node: Node) -> Any:
    axes, sizes = _axes(node, 1), node.shape()
    gone = {i for i, n in enumerate(sizes) if n == 1} if axes is None else {a % len(sizes) for a in axes}
    return relax.op.reshape(node.expr(0), [n for i, n in enumerate(sizes) if i not in gone])


@converter("Unsqueeze")
def unsqueeze(node: Node) -> Any:
    axes, rest = _axes(node, 1) or [], iter(node.shape())
    rank = len(node.shape()) + len(axes)
    new = {a % rank for a in axes}
    return relax.op.reshape(node.expr(0), [1 if i in new else next(rest) for i in range(rank)])


@converter("Transpose")
def transpose(node: Node) -> Any:
    rank = len(node.shape())
    return relax.op.permute_dims(node.expr(0), list(node.attr("perm", range(rank - 1, -1, -1))))


@converter("Expand")
def expand(node: Node) -> Any:
    wanted = [int(n) for n in node.required(1)]
    return relax.op.broadcast_to(node.expr(0), list(np.broadcast_shapes(node.shape(), tuple(wanted))))


@converter("Tile")
def tile(node: Node) -> Any:
    return layers.tile(node.value(0), [int(n) for n in node.required(1)])


@converter("Concat")
def concat(node: Node) -> Any:
    axis = node.attr("axis", 1) % len(node.shape())
    parts = [layers.expr(value) for value in node.inputs if layers.shape_of(value)[axis]]
    return relax.op.concat(parts or [node.expr(0)], axis=axis) if len(parts) != 1 else parts[0]


@converter("Split")
def split(node: Node) -> Any:
    axis = node.attr("axis", 0) % len(node.shape())
    size, count = node.shape()[axis], len(node.outputs)
    lengths = node.constant(1) if node.opset >= 13 else node.attr("split")
    if lengths is None:
        each = -(-size // count)
        lengths = [min(each, size - i * each) for i in range(count)]
    lengths = [int(n) for n in lengths]
    filled = [n for n in lengths if n]
    if len(filled) <= 1:
        parts = iter([node.value(0)])
    else:
        whole = node.emit(relax.op.split(node.expr(0), [int(n) for n in np.cumsum(filled)[:-1]], axis=axis))
        parts = (relax.TupleGetItem(whole, i) for i in range(len(filled)))
    empty = np.zeros([0 if i == axis else n for i, n in enumerate(node.shape())], node.dtype())
    return [next(parts) if n else empty for n in lengths]


@converter("Slice")
def slice_(node: Node) -> Any:
    sizes = node.shape()
    if node.opset < 10:
        starts, ends, axes, steps = node.attr("starts"), node.attr("ends"), node.attr("axes"), None
    else:
        starts, ends, axes, steps = node.required(1), node.required(2), node.constant(3), node.constant(4)
    over = range(len(starts)) if axes is None else axes
    strides = [1] * len(starts) if steps is None else steps
    data = node.expr(0)
    plain: list[tuple[int, int, int, int]] = []
    for start, end, axis, step in zip(starts, ends, over, strides, strict=True):
        axis = int(axis) % len(sizes)
        kept = range(sizes[axis])[slice(int(start), int(end), int(step))]
        if len(kept) and step < 0:  # reversed: a gather by a known index
            data = node.emit(relax.op.take(data, layers.constant(np.asarray(kept, np.int64)), axis=axis))
        elif len(kept) != sizes[axis]:
            plain.append(
                (
                    axis,
                    kept.start,
                    kept.start + (len(kept) - 1) * kept.step + 1 if kept else kept.start,
                    max(kept.step, 1),
                )
            )
    if not plain:
        return data
    columns = [list(column) for column in zip(*plain, strict=True)]  # axes, begins, ends, strides
    return relax.op.strided_slice(data, *columns)


@converter("Pad")
def pad(node: Node) -> Any:
    rank = len(node.shape())
    if node.opset < 11:
        pads, value = node.attr("pads", node.attr("paddings")), node.attr("value", 0.0)
    else:
        pads, value = node.required(1), node.constant(2)
        value = 0.0 if value is None else value.item()
    given = node.constant(3) if node.opset >= 18 else None
    axes = list(range(rank)) if given is None else [int(a) % rank for a in given]
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = int(pads[i]), int(pads[i + len(axes)])
    mode = node.attr("mode", "constant")
    if mode != "constant":
        return _padded_by_index(node, before, after, mode)
    data = node.expr(0)
    if min(*before, *after) < 0:  # a negative padding crops
        crop = [
            (i, max(-b, 0), n - max(-a, 0))
            for i, (n, b, a) in enumerate(zip(node.shape(), before, after, strict=True))
            if b < 0 or a < 0
        ]
        over, begin, end = (list(column) for column in zip(*crop, strict=True))
        data = node.emit(relax.op.strided_slice(data, over, begin, end, [1] * len(over)))
    widths = [max(n, 0) for pair in zip(before, after, strict=True) for n in pair]
    if not any(widths):
        return data
    return relax.op.nn.pad(data, widths, pad_mode="constant", pad_value=value)


def _padded_by_index(node: Node, before: list[int], after: list[int], mode: str) -> Any:
    """Reflect, edge and wrap: along each axis a gather by a known index."""
    names = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    if mode not in names:
        raise NotImplementedError(f"mode '{mode}'")
    data = node.expr(0)
    for axis, (n, b, a) in enumerate(zip(node.shape(), before, after, strict=True)):
        if b or a:
            index = np.pad(np.arange(n), (max(b, 0), max(a, 0)), mode=names[mode])  # type: ignore[call-overload]
            index = index[max(-b, 0) : len(index) - max(-a, 0)]
            data = node.emit(relax.op.take(data, layers.constant(index.astype(np.int64)), axis=axis))
    return data


@converter("DepthToSpace")
def depth_to_space(node: Node) -> Any:
    n, c, h, w = node.shape()
    s = node.attr("blocksize")
    if node.attr("mode", "DCR") == "DCR":
        split_shape, order = [n, s, s, c // s**2, h, w], [0, 3, 4, 1, 5, 2]
    else:
        split_shape, order = [n, c // s**2, s, s, h, w], [0, 1, 4, 2, 5, 3]
    moved = relax.op.permute_dims(relax.op.reshape(node.expr(0), split_shape), order)
    return relax.op.reshape(moved, [n, c // s**2, h * s, w * s])


@converter("SpaceToDepth")
def space_to_depth(node: Node) -> Any:
    n, c, h, w = node.shape()
    s = node.attr("blocksize")
    order = [0, 3, 5, 1, 2, 4] if node.attr("mode", "DCR") == "DCR" else [0, 1, 3, 5, 2, 4]
    moved = relax.op.permute_dims(relax.op.reshape(node.expr(0), [n, c, h // s, s, w // s, s]), order)
    return relax.op.reshape(moved, [n, c * s**2, h // s, w // s])
