"""The layers that several frontends share, as Relax expressions in the one form that the passes expect.

One-dimensional convolution and pooling become two-dimensional with height 1, so that targets need one kernel for both.
Windows are always given by explicit begin and end paddings and rounded down: ceil modes are resolved here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import GenericConst

# A Relax expression, or a numpy array where the value is known.
Value = Any
Ints = Sequence[int]


def expr(value: Value) -> Any:
    """The value as a Relax expression."""
    return relax.const(np.asarray(value)) if isinstance(value, (np.ndarray, np.generic)) else value


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


def per_channel(value: Value, rank: int) -> Value:
    """A vector over the channels, shaped to broadcast over (N, C, spatial...)."""
    return reshape(value, [1, -1] + [1] * (rank - 2))


def convolution(
    data: Value, weight: Value, bias: Value | None, strides: Ints, before: Ints, after: Ints, dilation: Ints, groups: int
) -> Any:
    """N-dimensional cross-correlation, data (N, C, spatial...), weight (O, I/groups, spatial...)."""
    rank = len(strides)
    if rank == 1:
        return _flattened(convolution, data, weight, bias, strides, before, after, dilation, groups)
    data, weight = expr(data), expr(weight)
    op = {2: relax.op.nn.conv2d, 3: relax.op.nn.conv3d}[rank]
    out = op(
        data, weight, strides=list(strides), padding=[*before, *after], dilation=list(dilation), groups=groups,
        out_dtype=dtype_of(data),
    )
    return out if bias is None else relax.op.add(out, expr(per_channel(bias, rank + 2)))


def transposed_convolution(
    data: Value, weight: Value, bias: Value | None, strides: Ints, before: Ints, after: Ints, dilation: Ints,
    groups: int, extra: Ints,
) -> Any:
    """The gradient of a convolution; weight is (I, O/groups, spatial...), `extra` rows are added at the end."""
    rank = len(strides)
    if rank == 1:
        return _flattened(transposed_convolution, data, weight, bias, strides, before, after, dilation, groups, extra)
    data, weight = expr(data), expr(weight)
    op = {2: relax.op.nn.conv2d_transpose, 3: relax.op.nn.conv3d_transpose}[rank]
    out = op(
        data, weight, strides=list(strides), padding=[*before, *after], output_padding=list(extra),
        dilation=list(dilation), groups=groups, out_dtype=dtype_of(data),
    )
    return out if bias is None else relax.op.add(out, expr(per_channel(bias, rank + 2)))


def _flattened(function: Any, data: Value, weight: Value, bias: Value | None, *windows: Any) -> Any:
    """A convolution over one dimension, as one over two of which the first has size 1."""
    *head, width = shape_of(data)
    neutral = (1, 0, 0, 1, None, 0)  # stride, before, after, dilation, groups, extra
    wide = [w if n is None else (n, *w) for w, n in zip(windows, neutral, strict=False)]
    *heads, taps = shape_of(weight)
    flat = function(reshape(data, [*head, 1, width]), reshape(weight, [*heads, 1, taps]), bias, *wide)
    return relax.op.squeeze(flat, [2])


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
        wide = relax.op.add(expr(variance), relax.const(epsilon, dtype_of(variance)))
        scale = relax.op.divide(expr(gamma), relax.op.sqrt(wide))
        shift = relax.op.subtract(expr(beta), relax.op.multiply(expr(mean), scale))
    return relax.op.add(
        relax.op.multiply(expr(data), expr(per_channel(scale, rank))), expr(per_channel(shift, rank))
    )


def pooled_length(size: int, window: int, stride: int, before: int, after: int, dilation: int, ceil: bool) -> int:
    """Number of windows along one axis; with ceil, a last window may stick out, but must begin inside."""
    room = size + before + after - (dilation * (window - 1) + 1)
    count = (math.ceil(room / stride) if ceil else room // stride) + 1
    if ceil and (count - 1) * stride >= size + before:
        count -= 1
    return count


def pool(
    kind: str, data: Value, window: Ints, strides: Ints, before: Ints, after: Ints, dilation: Ints,
    ceil: bool = False, count_padding: bool = False,
) -> Any:
    """Maximum or average ("max", "avg") over windows of the spatial axes.

    `count_padding`: the divisor counts the padding asked for, but never what ceil mode adds beyond it.
    """
    rank = len(window)
    spatial = shape_of(data)[2:]
    if rank == 1:
        lifted = reshape(data, [*shape_of(data)[:2], 1, spatial[0]])
        flat = pool(kind, lifted, (1, *window), (1, *strides), (0, *before), (0, *after), (1, *dilation),
                    ceil, count_padding)
        return relax.op.squeeze(flat, [2])
    data = expr(data)
    axes = list(zip(spatial, window, strides, before, after, dilation, strict=True))
    counts = [pooled_length(n, k, s, b, a, d, ceil) for n, k, s, b, a, d in axes]
    # What the windows really reach, beyond the input: more than `after` in ceil mode, less when a stride leaves a rest.
    reach = [
        max((c - 1) * s + d * (k - 1) + 1 - b - n, 0)
        for c, (n, k, s, b, _, d) in zip(counts, axes, strict=True)
    ]
    op = getattr(relax.op.nn, f"{kind}_pool{rank}d")
    geometry: dict[str, Any] = dict(
        pool_size=list(window), strides=list(strides), padding=[*before, *reach], dilation=list(dilation)
    )
    if kind == "max":
        return op(data, **geometry)
    if not count_padding:
        return op(data, **geometry, count_include_pad=False)
    out = op(data, **geometry, count_include_pad=True)
    counted = [
        [sum(i * s + j * d < b + n + a for j in range(k)) for i in range(c)]
        for c, (n, k, s, b, a, d) in zip(counts, axes, strict=True)
    ]
    share = np.ones((), np.float64)
    for numbers, k in zip(counted, window, strict=True):
        share = np.multiply.outer(share, np.asarray(numbers) / k)
    if (share == 1).all():
        return out
    return relax.op.multiply(out, relax.const((1 / share)[None, None].astype(dtype_of(data))))
