"""Operators that compare positions: one-hot vectors and the largest elements, without sorting."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from lhcc.frontend.layers import constant
from lhcc.frontend.onnx_ops.registry import Node, converter

MOST_RANKED = 4096  # every element is compared with every other


@converter("OneHot")
def one_hot(node: Node) -> Any:
    """The second of the two values where the index is the place along the new axis, else the first."""
    depth, sizes = int(np.ravel(node.required(1))[0]), node.shape()
    axis = node.attr("axis", -1) % (len(sizes) + 1)
    index = relax.op.astype(node.expr(0), "int64")
    index = relax.op.reshape(index, [*sizes[:axis], 1, *sizes[axis:]])
    places = np.arange(depth).reshape([depth] + [1] * (len(sizes) - axis))
    from_start, from_end = (relax.op.equal(index, constant(p)) for p in (places, places - depth))
    values = node.emit(relax.op.split(node.expr(2), 2))
    off, on = (relax.TupleGetItem(values, i) for i in range(2))
    return relax.op.where(relax.op.logical_or(from_start, from_end), on, off)


@converter("TopK")
def top_k(node: Node) -> Any:
    """An element's rank is how many come before it: what is larger, and what is equal and stands before it."""
    count = int(np.ravel(node.attr("k") if node.opset < 10 else node.required(1))[0])
    rank = len(node.shape())
    axis = node.attr("axis", -1) % rank
    size = node.shape()[axis]
    if size > MOST_RANKED:
        raise NotImplementedError(f"of {size} elements, more than {MOST_RANKED}")
    order = [*(i for i in range(rank) if i != axis), axis]
    x = node.emit(relax.op.permute_dims(node.expr(0), order))
    each, other = relax.op.expand_dims(x, -1), relax.op.expand_dims(x, -2)
    precedes = relax.op.greater if node.attr("largest", 1) else relax.op.less
    equal_and_earlier = relax.op.logical_and(relax.op.equal(other, each), constant(np.tri(size, k=-1, dtype=bool)))
    before = relax.op.logical_or(precedes(other, each), equal_and_earlier)
    ranks = relax.op.sum(relax.op.astype(before, "int64"), -1)
    at = relax.op.equal(relax.op.expand_dims(ranks, -2), constant(np.arange(count)[:, None]))
    indices = node.emit(relax.op.max(relax.op.where(at, constant(np.arange(size)), constant(np.int64(0))), -1))
    back = list(np.argsort(order))
    return [relax.op.permute_dims(y, back) for y in (relax.op.gather_elements(x, indices, -1), indices)]
