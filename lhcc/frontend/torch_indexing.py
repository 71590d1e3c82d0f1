"""Converters of ATen operators that pick elements by position: index, slice_scatter, max and min along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import relax

from lhcc.frontend import layers
from lhcc.frontend.torch_ops import arguments, converter


@converter("index.Tensor", "_unsafe_index.Tensor")
def index(node: Any, importer: Any) -> Any:
    """x[:, i, j]: the axes that are indexed become one, from which the elements at i * n + j are taken.

    As in NumPy, what is taken stands where the indexed axes were if these are neighbours, else in front.
    """
    data, indices = arguments(node, importer)
    shape = list(layers.shape_of(data))
    axes = [axis for axis, i in enumerate(indices) if i is not None]
    if any(layers.dtype_of(indices[axis]) in ("bool", "uint8") for axis in axes):
        raise NotImplementedError("how many elements a mask picks depends on its values")
    first = axes[0]
    if axes != list(range(first, first + len(axes))):
        order = [*axes, *(axis for axis in range(len(shape)) if axis not in axes)]
        data = importer.block_builder.emit(relax.op.permute_dims(data, order))
        first, shape = 0, [shape[axis] for axis in order]
    sizes = shape[first : first + len(axes)]
    flat = [*shape[:first], int(np.prod(sizes)), *shape[first + len(axes) :]]
    place = _place([indices[axis] for axis in axes], sizes)
    return relax.op.take(relax.op.reshape(data, flat), place, axis=first)


def _place(indices: Sequence[Any], sizes: Sequence[int]) -> Any:
    """Where the element at these indices stands when their axes are one; negative indices count from the end."""
    place: Any = None
    for i, size in zip(indices, sizes, strict=True):
        known = layers.known(i)
        if known is not None:
            i = layers.constant(np.where(known < 0, known + size, known).astype(np.int64))
        else:
            i = relax.op.astype(i, "int64")
            i = relax.op.where(relax.op.less(i, _int(0)), relax.op.add(i, _int(size)), i)
        place = i if place is None else relax.op.add(relax.op.multiply(place, _int(size)), i)
    return place


def _int(value: int) -> Any:
    return relax.const(value, "int64")


@converter("slice_scatter.default")
def slice_scatter(node: Any, importer: Any) -> Any:
    data, source, axis, start, end, step = arguments(node, importer)
    if step != 1:
        return importer.convert_map["slice_scatter.default"](node)
    size = layers.shape_of(data)[axis]
    first, last, _ = slice(start, end).indices(size)
    before = [relax.op.strided_slice(data, [axis], [0], [first])] if first > 0 else []
    after = [relax.op.strided_slice(data, [axis], [last], [size])] if last < size else []
    parts = [*before, source, *after]
    return source if len(parts) == 1 else relax.op.concat(parts, axis=axis)


@converter("index_put.default", "index_put_.default")
def index_put(node: Any, importer: Any) -> Any:
    _, indices, *_ = arguments(node, importer)
    if any(i is None or len(layers.shape_of(i)) > 1 for i in indices):
        raise NotImplementedError("indices other than lists of whole elements")
    return importer.convert_map["index_put.default"](node)


@converter("max.dim", "min.dim")
def extremum_and_place(node: Any, importer: Any) -> Any:
    data, axis, keep = arguments(node, importer)
    value, place = (
        (relax.op.max, relax.op.argmax) if node.target.__name__ == "max.dim" else (relax.op.min, relax.op.argmin)
    )
    emit = importer.block_builder.emit
    return emit(value(data, axis=axis, keepdims=keep)), emit(place(data, axis=axis, keepdims=keep))
