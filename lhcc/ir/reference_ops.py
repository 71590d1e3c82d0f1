"""The operators that the passes read or write, in numpy: Relax's by call, the dialect's by attributes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.ir.activations import activate
from lhcc.ir.graph import dtype_of, plain, shape_of

Array = NDArray[Any]


# ---- windows: every tap is one strided view of the padded image
def _windows(x: Array, out: Any, kernel: Any, strides: Any, padding: Any, dilation: Any, fill: float) -> list[Array]:
    """Per tap (row by row) the elements that it meets, as an array of the output's height and width."""
    reach = [(out[i] - 1) * strides[i] + (kernel[i] - 1) * dilation[i] + 1 for i in range(2)]
    after = [max(0, reach[i] - x.shape[2 + i] - padding[i]) for i in range(2)]
    padded = np.pad(x, ((0, 0), (0, 0), (padding[0], after[0]), (padding[1], after[1])), constant_values=fill)
    views = []
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            top, left = row * dilation[0], column * dilation[1]
            bottom, right = top + (out[0] - 1) * strides[0] + 1, left + (out[1] - 1) * strides[1] + 1
            views.append(padded[:, :, top : bottom : strides[0], left : right : strides[1]])
    return views


def convolve(x: Array, weight: Array, out: Any, strides: Any, padding: Any, dilation: Any, groups: int) -> Array:
    """Weight (O, I/groups, kh, kw); `out` is the height and width of the result."""
    windows = _windows(x, out, weight.shape[2:], strides, padding, dilation, 0.0)
    taps = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    result = np.zeros((x.shape[0], groups, taps.shape[1], *out))
    for tap, window in enumerate(windows):
        split = window.reshape(x.shape[0], groups, -1, *out)
        result += np.einsum("goi,ngihw->ngohw", taps[..., tap], split, optimize=True)
    return result.reshape(x.shape[0], -1, *out)


def convolve_transposed(
    x: Array, weight: Array, out: Any, strides: Any, padding: Any, dilation: Any, groups: int
) -> Array:
    """Weight (O, I/groups, kh, kw): every input pixel adds its weighted taps to the outputs that it reaches."""
    images, _, height, width = x.shape
    outputs, per_group, kh, kw = weight.shape
    tall = max((height - 1) * strides[0] + (kh - 1) * dilation[0] + 1, padding[0] + out[0])
    wide = max((width - 1) * strides[1] + (kw - 1) * dilation[1] + 1, padding[1] + out[1])
    result = np.zeros((images, groups, outputs // groups, tall, wide))
    split = x.reshape(images, groups, per_group, height, width)
    taps = weight.reshape(groups, outputs // groups, per_group, kh, kw)
    for row in range(kh):
        for column in range(kw):
            top, left = row * dilation[0], column * dilation[1]
            bottom, right = top + (height - 1) * strides[0] + 1, left + (width - 1) * strides[1] + 1
            added = np.einsum("goi,ngihw->ngohw", taps[..., row, column], split, optimize=True)
            result[..., top : bottom : strides[0], left : right : strides[1]] += added
    whole = result.reshape(images, outputs, tall, wide)
    return whole[:, :, padding[0] : padding[0] + out[0], padding[1] : padding[1] + out[1]]


def max_pool(x: Array, out: Any, window: Any, strides: Any, padding: Any, dilation: Any) -> Array:
    least = -math.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    return np.asarray(np.max(_windows(x, out, window, strides, padding, dilation, least), axis=0))


def average_pool(
    x: Array, out: Any, window: Any, strides: Any, padding: Any, dilation: Any, count_padding: bool
) -> Array:
    """The mean of what each window meets; with `count_padding` the declared padding counts as zeros."""
    total = np.sum(_windows(x, out, window, strides, padding, dilation, 0.0), axis=0)
    inside = np.ones(x.shape)
    if count_padding:
        (top, left, bottom, right) = padding
        inside = np.pad(inside, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=1.0)
        padding = (0, 0)
    return np.asarray(total / np.sum(_windows(inside, out, window, strides, padding, dilation, 0.0), axis=0))


# ---- Relax: (call, operands) -> result; None: this form is left to TVM
def _elementwise(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda call, *operands: function(*operands)


def _divide(call: Any, left: Array, right: Array) -> Array | None:
    return left / right if left.dtype.kind == "f" else None


def _reshape(call: Any, x: Array) -> Array:
    return x.reshape(shape_of(call))


def _transpose(call: Any, x: Array) -> Array:
    return np.transpose(x, plain(call.attrs.axes))


def _concat(call: Any, fields: tuple[Array, ...]) -> Array | None:
    axis = plain(call.attrs.axis)
    return None if axis is None else np.concatenate(fields, axis)


def _astype(call: Any, x: Array) -> Array:
    dtype = dtype_of(call)
    return x.astype(np.float64 if "float" in dtype else dtype)


def _softmax(call: Any, x: Array) -> Array:
    axis = int(call.attrs.axis)
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def _mean(call: Any, x: Array) -> Array:
    axes = plain(call.attrs.axis)
    return np.asarray(np.mean(x, axis=axes, keepdims=bool(call.attrs.keepdims)))


def _clip(call: Any, x: Array) -> Array:
    low, high = (float(getattr(arg, "value", arg)) for arg in call.args[1:3])
    return activate(x, f"clip {low!r} {high!r}") if x.dtype.kind == "f" else np.clip(x, low, high).astype(x.dtype)


def _geometry(call: Any) -> tuple[Any, Any, Any, Any]:
    attrs = call.attrs
    return shape_of(call)[2:], plain(attrs.strides), plain(attrs.padding), plain(attrs.dilation)


def _conv2d(call: Any, x: Array, weight: Array) -> Array | None:
    if (call.attrs.data_layout, call.attrs.kernel_layout) != ("NCHW", "OIHW"):
        return None
    return convolve(x, weight, *_geometry(call), int(call.attrs.groups))


def _conv2d_transpose(call: Any, x: Array, weight: Array) -> Array | None:
    if (call.attrs.data_layout, call.attrs.kernel_layout) != ("NCHW", "IOHW"):
        return None
    groups = int(call.attrs.groups)
    parts = [part.swapaxes(0, 1) for part in np.split(weight, groups)]
    return convolve_transposed(x, np.concatenate(parts), *_geometry(call), groups)


def _max_pool2d(call: Any, x: Array) -> Array | None:
    if call.attrs.layout != "NCHW":
        return None
    out, strides, padding, dilation = _geometry(call)
    return max_pool(x, out, plain(call.attrs.pool_size), strides, padding, dilation)


def _avg_pool2d(call: Any, x: Array) -> Array | None:
    if call.attrs.layout != "NCHW":
        return None
    out, strides, padding, dilation = _geometry(call)
    counted = bool(call.attrs.count_include_pad)
    return average_pool(x, out, plain(call.attrs.pool_size), strides, padding, dilation, counted)


def _adaptive_avg_pool2d(call: Any, x: Array) -> Array | None:
    if call.attrs.layout != "NCHW" or shape_of(call)[2:] != (1, 1):
        return None
    return np.asarray(x.mean(axis=(2, 3), keepdims=True))


RELAX: dict[str, Callable[..., Any]] = {
    "relax.add": _elementwise(np.add),
    "relax.subtract": _elementwise(np.subtract),
    "relax.multiply": _elementwise(np.multiply),
    "relax.divide": _divide,
    "relax.maximum": _elementwise(np.maximum),
    "relax.minimum": _elementwise(np.minimum),
    "relax.negative": _elementwise(np.negative),
    "relax.abs": _elementwise(np.abs),
    "relax.exp": _elementwise(np.exp),
    "relax.sqrt": _elementwise(np.sqrt),
    "relax.rsqrt": _elementwise(lambda x: 1.0 / np.sqrt(x)),
    "relax.matmul": _elementwise(np.matmul),
    "relax.nn.relu": _elementwise(lambda x: np.maximum(x, 0)),
    "relax.nn.leakyrelu": lambda call, x: activate(x, f"leaky {float(call.attrs.alpha)!r}"),
    "relax.nn.silu": _elementwise(lambda x: activate(x, "silu")),
    "relax.nn.gelu": _elementwise(lambda x: activate(x, "gelu")),
    "relax.sigmoid": _elementwise(lambda x: activate(x, "sigmoid")),
    "relax.tanh": _elementwise(np.tanh),
    "relax.clip": _clip,
    "relax.reshape": _reshape,
    "relax.flatten": _reshape,
    "relax.squeeze": _reshape,
    "relax.expand_dims": _reshape,
    "relax.broadcast_to": lambda call, x: np.broadcast_to(x, shape_of(call)),
    "relax.permute_dims": _transpose,
    "relax.concat": _concat,
    "relax.astype": _astype,
    "relax.mean": _mean,
    "relax.nn.softmax": _softmax,
    "relax.nn.conv2d": _conv2d,
    "relax.nn.conv2d_transpose": _conv2d_transpose,
    "relax.nn.max_pool2d": _max_pool2d,
    "relax.nn.avg_pool2d": _avg_pool2d,
    "relax.nn.adaptive_avg_pool2d": _adaptive_avg_pool2d,
}


# ---- the dialect: (attributes, operands) -> result
def to_blocked(x: Array, block: int, fill: float) -> Array:
    images, channels, height, width = x.shape
    padded = np.pad(x, ((0, 0), (0, -channels % block), (0, 0), (0, 0)), constant_values=fill)
    return np.asarray(padded.reshape(images, -1, block, height, width).transpose(0, 1, 3, 4, 2))


def from_blocked(x: Array, channels: int) -> Array:
    images, blocks, height, width, block = x.shape
    return np.asarray(x.transpose(0, 1, 4, 2, 3).reshape(images, blocks * block, height, width)[:, :channels])


def _reordered(x: Array, order: Array | None = None) -> Array:
    return x if order is None else x[:, order]


def _logical(x: Array, attrs: dict[str, Any]) -> Array:
    return from_blocked(x, attrs["image"][1]) if x.ndim == 5 else x


def _laid_out(result: Array, attrs: dict[str, Any]) -> Array:
    return to_blocked(result, attrs["block"], math.nan) if len(attrs["shape"]) == 5 else result


def _epilogue(result: Array, attrs: dict[str, Any], residual: tuple[Array, ...]) -> Array:
    if attrs["residual"] == "before":
        return activate(result + residual[0], attrs["activation"])
    result = activate(result, attrs["activation"])
    return result + residual[0] if attrs["residual"] == "after" else result


def _layer(attrs: dict[str, Any], x: Array, weight: Array, bias: Array, *residual: Array) -> Array:
    logical = attrs.get("logical", attrs["shape"])
    function = convolve_transposed if attrs["transposed"] else convolve
    geometry = (logical[2:], attrs["strides"], attrs["padding"], attrs["dilation"], attrs["groups"])
    result = function(_logical(x, attrs), weight, *geometry) + bias[:, None, None]
    added = tuple(from_blocked(r, logical[1]) if r.ndim == 5 else r for r in residual)
    return _laid_out(_epilogue(result, attrs, added), attrs)


def _dense(attrs: dict[str, Any], x: Array, weight: Array, bias: Array, *residual: Array) -> Array:
    return _epilogue(x @ weight.T + bias, attrs, residual)


def _pool(attrs: dict[str, Any], x: Array) -> Array:
    out = attrs.get("logical", attrs["shape"])[2:]
    geometry = (attrs["window"], attrs["strides"], attrs["padding"], attrs["dilation"])
    return _laid_out(max_pool(_logical(x, attrs), out, *geometry), attrs)


def _unfold(attrs: dict[str, Any], x: Array) -> Array:
    out = attrs["shape"][2:4]
    taps = _windows(x, out, attrs["kernel"], attrs["strides"], attrs["padding"], attrs["dilation"], 0.0)
    result = np.stack(taps, axis=2).reshape(x.shape[0], -1, *out)
    return to_blocked(result, attrs["block"], 0.0) if len(attrs["shape"]) == 5 else result


DIALECT: dict[str, Callable[..., Array]] = {
    "lhcc.conv2d": _layer,
    "lhcc.dense": _dense,
    "lhcc.pool2d": _pool,
    "lhcc.activation": lambda attrs, x: activate(x, attrs["activation"]),
    "lhcc.global_average": lambda attrs, x: np.asarray(x.mean(axis=(2, 3), keepdims=True)),
    "lhcc.unfold": _unfold,
    "lhcc.elementwise": lambda attrs, x, y: np.asarray(getattr(np, attrs["function"])(x, y)),
    "lhcc.reorder": lambda attrs, x, order: _reordered(x, order),
    "lhcc.to_blocked": lambda attrs, x, *order: to_blocked(_reordered(x, *order), attrs["shape"][-1], 0.0),
    "lhcc.from_blocked": lambda attrs, x, *place: _reordered(
        from_blocked(x, attrs["shape"][1]), *map(np.argsort, place)
    ),
}
