"""Activation functions in numpy, by the names that the dialect gives them: "relu", "clip 0 6", "leaky 0.1"."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def _sigmoid(x: Array) -> Array:
    """Exponentials of negative numbers only: nothing overflows."""
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, small) / (1.0 + small))


def _hard_sigmoid(x: Array, slope: float, offset: float) -> Array:
    return np.clip(slope * x + offset, 0.0, 1.0)


def _gelu(x: Array) -> Array:
    erf = np.frompyfunc(math.erf, 1, 1)
    return 0.5 * x * (1.0 + np.asarray(erf(x / math.sqrt(2.0)), x.dtype))


ACTIVATIONS: dict[str, Callable[..., Array]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "clip": lambda x, low, high: np.maximum(np.minimum(x, high), low),
    "leaky": lambda x, slope: np.where(x > 0, x, slope * x),
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "tanh": np.tanh,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": lambda x: x * _hard_sigmoid(x, 1 / 6, 0.5),
    "gelu": _gelu,
}


def activate(x: Array, activation: str) -> Array:
    """`activation` is a name and its numbers; "" leaves `x` as it is."""
    if not activation:
        return x
    name, *numbers = activation.split()
    return ACTIVATIONS[name](x, *map(float, numbers))
