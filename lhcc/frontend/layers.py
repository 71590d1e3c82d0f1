"""The layers that several frontends share, as Relax expressions in the one form that the passes expect.

One-dimensional convolution and pooling become two-dimensional with height 1, so that targets need one kernel for both.
Windows are always given by explicit begin and end paddings and rounded down: ceil modes are resolved here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import GenericConst

LONG_WINDOW = 32

# A Relax expression, or a numpy array where the value is known.
Value = Any
Ints = Sequence[int]


def constant(values: Any) -> Any:
    """A Relax constant of exactly the array's type: relax.const alone would narrow 64-bit numbers to 32 bits."""
    values = np.asarray(values)
    return relax.const(values, str(values.dtype))


def expr(value: Value) -> Any:
    """The value as a Relax expression."""
    return constant(value) if isinstance(value, (np.ndarray, np.generic)) else value


def known(value: Value) -> np.ndarray[Any, Any] | None:
    """The numbers of a value, when they are known at compile time."""
    if isinstance(value, np.ndarray):
        return value
    return value.value.numpy() if isinstance(value, GenericConst) else None


def shape_of(value: Value) -> tuple[int, ...]:
    return value.shape if isinstance(value, np.ndarray) else tuple(int(n) for n in value.ty.shape.values)


def dtype_of(value: Value) -> str:
    return str(value.dtype if isinstance(value, np.ndarray) else value.ty.dtype)


def reshape(value: Value, shape: Ints) -> Value:
    return value.reshape(shape) if isinstance(value, np.ndarray) else relax.op.reshape(value, list(shape))


def tile(data: Value, repeats: Ints) -> Any:
    """The data repeated along each of its axes."""
    shape = shape_of(data)
    apart = [n for size in shape for n in (1, size)]
    spread = [n for pair in zip(repeats, shape, strict=True) for n in pair]
    joined = [r * n for r, n in zip(repeats, shape, strict=True)]
    return relax.op.reshape(relax.op.broadcast_to(relax.op.reshape(expr(data), apart), spread), joined)


def per_channel(value: Value, rank: int) -> Value:
    """A vector over the channels, shaped to broadcast over (N, C, spatial...)."""
    return reshape(value, [1, -1] + [1] * (rank - 2))


def convolution(
    data: Value,
    weight: Value,
    bias: Value | None,
    strides: Ints,
    before: Ints,
    after: Ints,
    dilation: Ints,
    groups: int,
) -> Any:
    """N-dimensional cross-correlation, data (N, C, spatial...), weight (O, I/groups, spatial...)."""
    ops = {2: relax.op.nn.conv2d, 3: relax.op.nn.conv3d}
    return _convolved(ops, data, weight, bias, strides, before, after, dilation, groups=groups)


def transposed_convolution(
    data: Value,
    weight: Value,
    bias: Value | None,
    strides: Ints,
    before: Ints,
    after: Ints,
    dilation: Ints,
    groups: int,
    extra: Ints,
) -> Any:
    """The gradient of a convolution; weight is (I, O/groups, spatial...), `extra` rows are added at the end."""
    ops = {2: relax.op.nn.conv2d_transpose, 3: relax.op.nn.conv3d_transpose}
    extra = [0, *extra] if len(strides) == 1 else list(extra)
    return _convolved(ops, data, weight, bias, strides, before, after, dilation, groups=groups, output_padding=extra)


def _convolved(
    ops: Mapping[int, Any],
    data: Value,
    weight: Value,
    bias: Value | None,
    strides: Ints,
    before: Ints,
    after: Ints,
    dilation: Ints,
    **more: Any,
) -> Any:
    """`ops` by the number of spatial dimensions."""
    flat = len(strides) == 1
    if flat:
        data, weight = _with_height(data), _with_height(weight)
        strides, before, after, dilation = (1, *strides), (0, *before), (0, *after), (1, *dilation)
    padding = [*before, *after]
    op = ops[len(strides)]
    out = op(expr(data), expr(weight), strides=list(strides), padding=padding, dilation=list(dilation), **more)
    if bias is not None:
        out = relax.op.add(out, expr(per_channel(bias, len(strides) + 2)))
    return relax.op.squeeze(out, [2]) if flat else out


def _with_height(value: Value) -> Value:
    *head, width = shape_of(value)
    return reshape(value, [*head, 1, width])


def batch_norm(data: Value, gamma: Value, beta: Value, mean: Value, variance: Value, epsilon: float) -> Any:
    """Inference: data * scale + shift, computed in float64 when the statistics are known."""
    rank, dtype = len(shape_of(data)), dtype_of(data)
    statistics = [known(v) for v in (gamma, beta, mean, variance)]
    if all(s is not None for s in statistics):
        g, b, m, v = (np.asarray(s, np.float64) for s in statistics)
        scale = g / np.sqrt(v + epsilon)
        shift = b - m * scale
        scale, shift = scale.astype(dtype), shift.astype(dtype)
    else:
        wide = dtype_of(variance)
        g, b, m, v = (expr(per_channel(value, rank)) for value in (gamma, beta, mean, variance))
        scale = relax.op.divide(g, relax.op.sqrt(relax.op.add(v, relax.const(epsilon, wide))))
        return relax.op.add(relax.op.multiply(relax.op.subtract(expr(data), m), scale), b)
    return relax.op.add(relax.op.multiply(expr(data), expr(per_channel(scale, rank))), expr(per_channel(shift, rank)))


def pooled_length(size: int, window: int, stride: int, before: int, after: int, dilation: int, ceil: bool) -> int:
    """Number of windows along one axis; with ceil, a last window may stick out, but must begin inside."""
    room = size + before + after - (dilation * (window - 1) + 1)
    count = (math.ceil(room / stride) if ceil else room // stride) + 1
    if ceil and (count - 1) * stride >= size + before:
        count -= 1
    return count


def pool(
    kind: str,
    data: Value,
    window: Ints,
    strides: Ints,
    before: Ints,
    after: Ints,
    dilation: Ints,
    ceil: bool = False,
    count_padding: bool = False,
) -> Any:
    """Maximum or average ("max", "avg") over windows of the spatial axes.

    `count_padding`: the divisor counts the padding asked for, but never what ceil mode adds beyond it.
    """
    shape, dtype, flat = shape_of(data), dtype_of(data), len(window) == 1
    alone = [0] if len(shape) == len(window) + 1 else []  # one image, without an axis of images
    if flat or alone:
        shape = (*[1] * len(alone), *shape[:-1], *[1] * flat, shape[-1])
        data = reshape(data, shape)
    if flat:
        window, strides, dilation = (1, *window), (1, *strides), (1, *dilation)
        before, after = (0, *before), (0, *after)
    spatial, extra = shape[2:], [*alone, *[2] * flat]
    axes = list(zip(spatial, window, strides, before, after, dilation, strict=True))
    counts = [pooled_length(n, k, s, b, a, d, ceil) for n, k, s, b, a, d in axes]
    # What the windows really reach, beyond the input: more than `after` in ceil mode, less when a stride leaves a rest.
    reach = [max((c - 1) * s + d * (k - 1) + 1 - b - n, 0) for c, (n, k, s, b, _, d) in zip(counts, axes, strict=True)]
    if kind == "max" and max(window) > LONG_WINDOW:
        out = _max_by_index(expr(data), axes, counts)
        return relax.op.squeeze(out, extra) if extra else out
    op = getattr(relax.op.nn, f"{kind}_pool{len(window)}d")
    geometry: dict[str, Any] = dict(
        pool_size=list(window), strides=list(strides), padding=[*before, *reach], dilation=list(dilation)
    )
    if kind == "max":
        out = op(expr(data), **geometry)
    else:
        out = op(expr(data), **geometry, count_include_pad=count_padding)
        share = _counted_share(axes, counts) if count_padding else np.ones(1)
        if (share != 1).any():
            out = relax.op.multiply(out, constant((1 / share)[None, None].astype(dtype)))
    return relax.op.squeeze(out, extra) if extra else out


def _max_by_index(data: Any, axes: Sequence[tuple[int, ...]], counts: Ints) -> Any:
    """Maxima axis by axis, over gathered windows: targets write short windows out tap by tap, these are too long."""
    for axis, (count, (n, k, s, b, _, d)) in enumerate(zip(counts, axes, strict=True), 2):
        taps = np.arange(count)[:, None] * s + np.arange(k) * d - b
        inside = (taps >= 0) & (taps < n)
        first = np.take_along_axis(taps, inside.argmax(axis=1)[:, None], axis=1)
        index = np.clip(np.where(inside, taps, first), 0, n - 1)  # a tap outside repeats one inside
        data = relax.op.max(relax.op.take(data, constant(index), axis=axis), axis=axis + 1)
    return data


def _counted_share(axes: Sequence[tuple[int, ...]], counts: Ints) -> np.ndarray[Any, Any]:
    """Per window, the part of its taps that falls on the input or on the padding asked for."""
    share = np.ones((), np.float64)
    for count, (n, k, s, b, a, d) in zip(counts, axes, strict=True):
        inside = [sum(i * s + j * d < b + n + a for j in range(k)) / k for i in range(count)]
        share = np.multiply.outer(share, np.asarray(inside))
    return share
