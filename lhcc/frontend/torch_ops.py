"""Converters of ATen operators into the forms that the passes expect, and of those that TVM's importer lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tvm import relax

from lhcc.frontend import layers
from lhcc.frontend.resize import resize

# target name -> function(fx node, importer) -> Relax value
CONVERTERS: dict[str, Callable[[Any, Any], Any]] = {}


def converter(*targets: str) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        CONVERTERS.update(dict.fromkeys(targets, function))
        return function

    return register


def arguments(node: Any, importer: Any) -> list[Any]:
    """All arguments in the order of the operator's schema, defaults filled in, tensors as Relax values."""
    given = dict(zip((a.name for a in node.target._schema.arguments), node.args, strict=False)) | dict(node.kwargs)
    values = [
        given.get(a.name, a.default_value if a.has_default_value() else None) for a in node.target._schema.arguments
    ]
    return list(torch.fx.node.map_arg(values, lambda source: importer.env[source]))


def spread(value: Any, rank: int) -> list[int]:
    """An ATen window argument: one number may stand for all axes."""
    numbers = list(value) if isinstance(value, (list, tuple)) else [value]
    return numbers * rank if len(numbers) == 1 else numbers


@converter("convolution.default")
def convolution(node: Any, importer: Any) -> Any:
    data, weight, bias, stride, padding, dilation, transposed, extra, groups = arguments(node, importer)
    rank = len(layers.shape_of(weight)) - 2
    stride, padding, dilation, extra = (spread(v, rank) for v in (stride, padding, dilation, extra))
    bias = None if bias is None else layers.known(bias) if layers.known(bias) is not None else bias
    weight = layers.known(weight) if layers.known(weight) is not None else weight
    if transposed:
        return layers.transposed_convolution(data, weight, bias, stride, padding, padding, dilation, groups, extra)
    return layers.convolution(data, weight, bias, stride, padding, padding, dilation, groups)


@converter("_native_batch_norm_legit_no_training.default")
def batch_norm(node: Any, importer: Any) -> Any:
    data, gamma, beta, mean, variance, _, epsilon = arguments(node, importer)
    channels = layers.shape_of(data)[1]
    gamma = np.ones(channels, np.float32) if gamma is None else gamma
    beta = np.zeros(channels, np.float32) if beta is None else beta
    out = importer.block_builder.emit(layers.batch_norm(data, gamma, beta, mean, variance, epsilon))
    return out, None, None


@converter("max_pool2d_with_indices.default", "max_pool3d_with_indices.default")
def max_pool(node: Any, importer: Any) -> Any:
    data, window, stride, padding, dilation, ceil = arguments(node, importer)
    rank = len(window)
    stride, padding, dilation = (spread(v, rank) for v in (stride or window, padding, dilation))
    pooled = layers.pool("max", data, window, stride, padding, padding, dilation, ceil)
    return importer.block_builder.emit(pooled), None


@converter("avg_pool1d.default", "avg_pool2d.default", "avg_pool3d.default")
def avg_pool(node: Any, importer: Any) -> Any:
    data, window, stride, padding, ceil, count_padding, *divisor = arguments(node, importer)
    rank = len(window)
    stride, padding = (spread(v, rank) for v in (stride or window, padding))
    if any(divisor):
        raise NotImplementedError("divisor_override")
    return layers.pool("avg", data, window, stride, padding, padding, [1] * rank, ceil, count_padding)


@converter(
    "adaptive_avg_pool1d.default",
    "_adaptive_avg_pool2d.default",
    "adaptive_avg_pool2d.default",
    "_adaptive_avg_pool3d.default",
)
def adaptive_avg_pool(node: Any, importer: Any) -> Any:
    data, sizes = arguments(node, importer)
    spatial = layers.shape_of(data)[-len(sizes) :]
    if all(n == 1 for n in sizes):
        return relax.op.mean(data, axis=list(range(-len(sizes), 0)), keepdims=True)
    if any(n % m for n, m in zip(spatial, sizes, strict=True)):
        return getattr(relax.op.nn, f"adaptive_avg_pool{len(sizes)}d")(data, list(sizes))
    window = [n // m for n, m in zip(spatial, sizes, strict=True)]
    none = [0] * len(sizes)
    return layers.pool("avg", data, window, window, none, none, [1] * len(sizes))


@converter("adaptive_max_pool1d.default", "adaptive_max_pool2d.default", "adaptive_max_pool3d.default")
def adaptive_max_pool(node: Any, importer: Any) -> Any:
    data, sizes = arguments(node, importer)
    spatial = layers.shape_of(data)[-len(sizes) :]
    if any(n % m for n, m in zip(spatial, sizes, strict=True)):
        raise NotImplementedError(f"windows of different sizes: {list(spatial)} to {list(sizes)}")
    window = [n // m for n, m in zip(spatial, sizes, strict=True)]
    none = [0] * len(sizes)
    pooled = layers.pool("max", data, window, window, none, none, [1] * len(sizes))
    return importer.block_builder.emit(pooled), None


@converter("native_group_norm.default")
def group_norm(node: Any, importer: Any) -> Any:
    data, gamma, beta, _, channels, _, groups, epsilon = arguments(node, importer)
    dtype = layers.dtype_of(data)
    gamma = layers.constant(np.ones(channels, dtype)) if gamma is None else gamma
    beta = layers.constant(np.zeros(channels, dtype)) if beta is None else beta
    spatial = list(range(2, len(layers.shape_of(data))))
    normalised = relax.op.nn.group_norm(data, gamma, beta, groups, channel_axis=1, axes=spatial, epsilon=epsilon)
    return importer.block_builder.emit(normalised), None, None


@converter("addmm.default")
def addmm(node: Any, importer: Any) -> Any:
    bias, left, right, *scales = arguments(node, importer)
    beta, alpha = scales or (1, 1)
    product = relax.op.matmul(left, right)
    if alpha != 1:
        product = relax.op.multiply(product, relax.const(alpha, layers.dtype_of(left)))
    if beta != 1:
        bias = relax.op.multiply(bias, relax.const(beta, layers.dtype_of(left)))
    return relax.op.add(product, bias)


@converter("bmm.default", "mm.default")
def matmul(node: Any, importer: Any) -> Any:
    return relax.op.matmul(*arguments(node, importer))


@converter("amax.default", "amin.default")
def extremum(node: Any, importer: Any) -> Any:
    data, axes, keep = arguments(node, importer)
    op = relax.op.max if node.target.__name__.startswith("amax") else relax.op.min
    return op(data, axis=list(axes) or None, keepdims=keep)


@converter("cat.default")
def concat(node: Any, importer: Any) -> Any:
    parts, axis = arguments(node, importer)
    parts = [part for part in parts if 0 not in layers.shape_of(part)]  # PyTorch lets empty ones of any rank be there
    return parts[0] if len(parts) == 1 else relax.op.concat(parts, axis=axis)


@converter("upsample_nearest1d.vec", "upsample_nearest2d.vec", "upsample_nearest3d.vec")
def upsample_nearest(node: Any, importer: Any) -> Any:
    data, sizes, factors = arguments(node, importer)
    return _upsampled(data, sizes, factors, "nearest", "asymmetric")


@converter("upsample_linear1d.vec", "upsample_bilinear2d.vec", "upsample_trilinear3d.vec")
def upsample_linear(node: Any, importer: Any) -> Any:
    return _interpolated(node, importer, "linear")


@converter("upsample_bicubic2d.vec")
def upsample_cubic(node: Any, importer: Any) -> Any:
    return _interpolated(node, importer, "cubic")


@converter("_upsample_bilinear2d_aa.default", "_upsample_bicubic2d_aa.default")
def upsample_antialiased(node: Any, importer: Any) -> Any:
    raise NotImplementedError("antialiasing")


def _interpolated(node: Any, importer: Any, mode: str) -> Any:
    data, sizes, corners, factors = arguments(node, importer)
    if not corners:
        return _upsampled(data, sizes, factors, mode, "half_pixel")
    if sizes is None:  # corners are aligned to whole sizes, whatever the factors were
        sizes = [int(n * f) for n, f in zip(layers.shape_of(data)[2:], factors, strict=True)]
    return _upsampled(data, sizes, None, mode, "align_corners")


def _upsampled(data: Any, sizes: Any, factors: Any, mode: str, coordinates: str) -> Any:
    shape = layers.shape_of(data)
    if sizes is None:
        sizes = [int(n * f) for n, f in zip(shape[2:], factors, strict=True)]
        scales: Any = [1.0, 1.0, *factors]
    else:
        scales = None
    return resize(data, [*shape[:2], *sizes], scales, mode, coordinates, nearest="floor")


@converter("pixel_shuffle.default")
def pixel_shuffle(node: Any, importer: Any) -> Any:
    data, factor = arguments(node, importer)
    n, c, h, w = layers.shape_of(data)
    split = relax.op.reshape(data, [n, c // factor**2, factor, factor, h, w])
    return relax.op.reshape(
        relax.op.permute_dims(split, [0, 1, 4, 2, 5, 3]), [n, c // factor**2, h * factor, w * factor]
    )


@converter("repeat.default")
def repeat(node: Any, importer: Any) -> Any:
    data, repeats = arguments(node, importer)
    shape = layers.shape_of(data)
    if len(repeats) != len(shape):
        data = importer.block_builder.emit(relax.op.reshape(data, [1] * (len(repeats) - len(shape)) + list(shape)))
    return layers.tile(data, repeats)
