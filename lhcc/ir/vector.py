"""Vector arithmetic in TIR: activations written as polynomials, so that no lane ever calls into libm."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tvm import tirx as T

Expr = Any  # a TIR expression; TVM ships no types for them


def lanes_of(value: Expr) -> int:
    dtype = str(value.ty.dtype)
    return int(dtype.split("x")[1]) if "x" in dtype else 1


def spread(value: Expr, lanes: int) -> Expr:
    return value if lanes == 1 else T.Broadcast(value, lanes)


def const(value: float, lanes: int, dtype: str = "float32") -> Expr:
    return spread(T.IntImm(dtype, int(value)) if dtype.startswith(("int", "uint")) else T.FloatImm(dtype, value), lanes)


def typed(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def exp(x: Expr) -> Expr:
    """e**x to 1e-7 relative: 2**n by exponent bits, times a degree-6 polynomial on [-ln2/2, ln2/2]."""
    lanes = lanes_of(x)
    x = T.Max(T.Min(x, const(88.3762626647949, lanes)), const(-87.33, lanes))
    n = T.floor(x * const(1 / math.log(2), lanes) + const(0.5, lanes))
    # ln 2 in two parts: the first has few bits, so that n * part is exact
    r = x - n * const(0.693359375, lanes) - n * const(-2.12194440e-4, lanes)
    poly = const(1 / 720, lanes)
    for coefficient in (1 / 120, 1 / 24, 1 / 6, 0.5, 1.0, 1.0):
        poly = poly * r + const(coefficient, lanes)
    bits = (T.Cast(typed("int32", lanes), n) + const(127, lanes, "int32")) << const(23, lanes, "int32")
    return poly * T.reinterpret(typed("float32", lanes), bits)


def sigmoid(x: Expr) -> Expr:
    one = const(1.0, lanes_of(x))
    return one / (one + exp(const(0.0, lanes_of(x)) - x))


def tanh(x: Expr) -> Expr:
    """Odd rational form: accurate near 0, where 2 * sigmoid(2x) - 1 would cancel."""
    lanes = lanes_of(x)
    magnitude = T.Max(x, const(0.0, lanes) - x)
    t = exp(magnitude * const(-2.0, lanes))
    large = (const(1.0, lanes) - t) / (const(1.0, lanes) + t)
    square = x * x
    small = magnitude * (
        const(1.0, lanes)
        + square * (const(-1 / 3, lanes) + square * (const(2 / 15, lanes) + square * const(-17 / 315, lanes)))
    )
    value = T.Select(magnitude < const(0.12, lanes), small, large)
    return T.Select(x < const(0.0, lanes), const(0.0, lanes) - value, value)


def erf(x: Expr) -> Expr:
    """erf by Abramowitz and Stegun 7.1.26 near 1.5e-7 absolute, and its Taylor series where that would cancel."""
    lanes = lanes_of(x)
    one = const(1.0, lanes)
    magnitude = T.Max(x, const(0.0, lanes) - x)
    t = one / (one + const(0.3275911, lanes) * magnitude)
    poly = const(1.061405429, lanes)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        poly = poly * t + const(coefficient, lanes)
    large = one - poly * t * exp(const(0.0, lanes) - magnitude * magnitude)
    square = x * x
    # 2/sqrt(pi) * x * (1 - x^2/3 + x^4/10 - x^6/42 + x^8/216 - x^10/1320), signs folded into -square
    minus = const(0.0, lanes) - square
    series = const(1 / 1320, lanes)
    for coefficient in (1 / 216, 1 / 42, 1 / 10, 1 / 3, 1.0):
        series = series * minus + const(coefficient, lanes)
    small = magnitude * const(2 / math.sqrt(math.pi), lanes) * series
    value = T.Select(magnitude < const(0.5, lanes), small, large)
    return T.Select(x < const(0.0, lanes), const(0.0, lanes) - value, value)


def _hard_sigmoid(x: Expr, slope: float, offset: float) -> Expr:
    lanes = lanes_of(x)
    line = x * const(slope, lanes) + const(offset, lanes)
    return T.Max(T.Min(line, const(1.0, lanes)), const(0.0, lanes))


def _relu(x: Expr) -> Expr:
    return T.Max(x, const(0.0, lanes_of(x)))


def _clip(x: Expr, low: float, high: float) -> Expr:
    lanes = lanes_of(x)
    return T.Max(T.Min(x, const(high, lanes)), const(low, lanes))


def _leaky(x: Expr, slope: float) -> Expr:
    lanes = lanes_of(x)
    return T.Select(x > const(0.0, lanes), x, x * const(slope, lanes))


def _gelu(x: Expr) -> Expr:
    lanes = lanes_of(x)
    return x * const(0.5, lanes) * (const(1.0, lanes) + erf(x * const(math.sqrt(0.5), lanes)))


ACTIVATIONS: dict[str, Callable[..., Expr]] = {
    "relu": _relu,
    "clip": _clip,
    "leaky": _leaky,
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "tanh": tanh,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": lambda x: x * _hard_sigmoid(x, 1 / 6, 0.5),
    "gelu": _gelu,
}


def activate(x: Expr, activation: str) -> Expr:
    """`activation` is a name and its numbers: "relu", "clip 0 6", "leaky 0.1"; "" leaves `x` as it is."""
    if not activation:
        return x
    name, *numbers = activation.split()
    return ACTIVATIONS[name](x, *map(float, numbers))


def epilogue(value: Expr, residual: Expr | None, where: str, activation: str) -> Expr:
    """What a layer's sum becomes: `residual` is added "before" or "after" the activation, or there is none."""
    if residual is None:
        return activate(value, activation)
    if where == "before":
        return activate(value + residual, activation)
    return activate(value, activation) + residual
