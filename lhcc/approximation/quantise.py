"""A dyadic, QDQ, QLinear or QONNX model as an integer program; calibration data picks the activations' bits.

What activations hold is found in `ranges`, how they are rounded in `rounding`; `lowering` walks the nodes, and `nodes`
says what becomes of each.
"""

from __future__ import annotations

from typing import Any

from lhcc.approximation import calibrate as calibration
from lhcc.approximation import lowering
from lhcc.approximation.approximate import Approximated
from lhcc.approximation.as_onnx import to_onnx
from lhcc.approximation.graph import Graph
from lhcc.approximation.lowering import Reach
from lhcc.approximation.state import State
from lhcc.errors import InputError
from lhcc.integer import Program

__all__ = ["Reach", "quantise", "reach"]

_QUANTISERS = ("QuantizeLinear", "QLinearConv", "Quant")


def quantise(
    model: Any,
    calibrate: Any = None,
    *,
    inputs: Any = None,
    bits: int = 8,
    accumulator_bits: int = 32,
    activation_error: float = 1 / 64,
    ranges: str = "synthetic",
) -> Program:
    """The integer program of a model whose weights are integers times a scale per filter.

    Activations get `bits` bits and a power of two as their scale, unless the model carries quantisers of its own.
    Without calibration data, ranges come from random images, smooth and rough ones (`ranges="synthetic"`), and values
    beyond them are clipped.  With `ranges="interval"` they come from interval arithmetic: nothing is ever clipped, but
    worst cases multiply from layer to layer, so that a deep network is left with few bits or none.
    """
    if ranges not in ("synthetic", "interval"):
        raise InputError(f"ranges are 'synthetic' or 'interval', not '{ranges}'")
    proto = model.exact_activations if isinstance(model, Approximated) else to_onnx(model, inputs)
    graph = Graph(proto)
    if calibrate is None and isinstance(model, Approximated):
        calibrate = model.calibration
    data = calibration.read_calibration(calibrate, proto)
    told = any(node.op_type in _QUANTISERS for node in graph.nodes)
    if data is None and not told and ranges == "synthetic":
        data = calibration.synthetic(proto)
    program = lowering.program(State(graph, data, bits, activation_error), calibration.input_of(proto))
    program.check_width(accumulator_bits)
    return program


def reach(graph: Graph, source: Any) -> Reach:
    """How far an integer program that begins at the tensor which `source` declares would get."""
    return lowering.reach(State(graph, None, 8, 1 / 64), source)
