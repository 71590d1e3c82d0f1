"""Biases that take back what rounded weights have shifted, layer by layer, on calibration data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.approximation.calibrate import Calibration
from lhcc.approximation.forward import Forward, moments
from lhcc.approximation.graph import Graph, Layer


def round_bias(bias: NDArray[Any], bits: int) -> NDArray[np.float64]:
    """Biases as integers of `bits` bits, sign included, on one power of two per layer."""
    largest = float(np.abs(bias).max(initial=0))
    if largest == 0:
        return np.zeros(bias.shape)
    unit = 2.0 ** (int(np.frexp(largest)[1]) - (bits - 1))
    return np.clip(np.rint(bias / unit), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * unit


def correct(
    before: Graph, after: Graph, layers: Sequence[Layer], data: Calibration, bias_bits: int, rescale: bool
) -> list[tuple[str, str]]:
    """Layer by layer, gives every channel the mean it had before; with `rescale`, the deviation too.

    So the batch norms that were folded into the weights are re-estimated. Returns the layers left alone, and why.
    """
    wanted, seen = Forward(before, data.few()), Forward(after, data.few())
    exact = {node.output[0]: node for node in before.nodes}
    left: list[tuple[str, str]] = []
    for layer in layers:
        if layer.op == "MatMul":
            left.append((layer.name, "a MatMul has no bias to correct"))
            continue
        original = exact[layer.node.output[0]]
        bias = after.bias_of(layer)
        wanted.before(original)
        seen.before(layer.node)
        axis = 1 if layer.op.startswith("Conv") else -1
        was_mean, was_deviation = moments(wanted.output(original, keep=True), axis)
        mean, deviation = moments(seen.output(layer.node), axis)
        value = after.constants[bias].astype(np.float64)
        if rescale:
            gain = np.where(deviation > 0, was_deviation / np.maximum(deviation, 1e-30), 1.0).clip(0.5, 2.0)
            after.set_filters(layer, after.filters(layer) * gain[:, None, None])
            mean = (mean - value) * gain + value
        after.set_array(bias, round_bias(value + was_mean - mean, bias_bits))
    return left
