"""What activations hold on calibration data, and the fractional bits that suit them."""

from __future__ import annotations

import math
from collections.abc import Container

import numpy as np
from numpy.typing import NDArray

from lhcc.approximation import calibrate as calibration
from lhcc.approximation.graph import Graph

Seen = dict[str, NDArray[np.float64]]
_SAMPLE = 200_000  # values of a tensor, evenly spread


def observe(graph: Graph, constants: Container[str], data: calibration.Calibration | None) -> Seen:
    """A sample of what every tensor of the float model holds; the input is called ""."""
    if data is None or any(node.op_type == "Quant" for node in graph.nodes):
        return {}  # Quant nodes say their ranges themselves, and no ONNX runtime knows them
    names = [name for node in graph.nodes for name in node.output if name and name not in constants]
    names = [name for name in names if name not in graph.outputs]
    x = data.few()
    model = graph.finished(names)
    source = calibration.input_of(model)
    run, batches = calibration.session(model), calibration.batches(source, x)
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in graph.outputs + names}
    for batch in batches:  # no more than one batch of all maps is held at a time
        for name, value in zip(parts, run({source.name: batch}), strict=True):
            parts[name].append(sample(value, _SAMPLE // len(batches)))
    entry = np.append(sample(x, _SAMPLE), x.min())  # whether the input is signed must not depend on the sample
    return {name: np.concatenate(values) for name, values in parts.items()} | {"": entry}


def sample(values: NDArray[np.float32], most: int) -> NDArray[np.float64]:
    return values.ravel()[:: max(values.size // max(most, 1), 1)].astype(np.float64)


def best_fraction(values: NDArray[np.float64], low: int, high: int) -> int:
    """The fractional bits with the least squared error, clipping included."""
    largest = float(np.abs(values).max(initial=0))
    if largest == 0:
        return 0
    most = math.floor(math.log2(max(high, 1) / largest)) + 2

    def loss(f: int) -> float:
        unit = 2.0**-f
        return float(((np.clip(np.floor(values / unit + 0.5), low, high) * unit - values) ** 2).sum())

    return min(range(most, most - 5, -1), key=loss)
