"""Instructions as netlists: constant matrices become additions of shifted inputs, activations clips and selects."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lhcc.encodings.adders import AdderGraph, signed_digits
from lhcc.integer import Clip, Instruction, Piecewise, Requantise
from lhcc.targets.fpga.netlist import Netlist, Term, limited

Bounds = tuple[int | None, int | None]
Multiply = Callable[[Netlist, Sequence[int], np.ndarray, Sequence[int]], list[int]]
"""(netlist, inputs, matrix (inputs, outputs), bias) -> one node per output"""


def multiple(a: int, factor: int) -> list[Term]:
    """a * factor by signed digits."""
    return [Term(a, shift, -1 if negative else 1) for shift, negative in signed_digits(factor)]


def constant_matrix(net: Netlist, inputs: Sequence[int], matrix: np.ndarray, bias: Sequence[int]) -> list[int]:
    """Nodes for bias[o] + sum over i of matrix[i, o] * inputs[i], one tree of adders per output, nothing shared."""
    results = []
    for column, constant in zip(matrix.T.tolist(), bias, strict=True):
        terms = [term for x, w in zip(inputs, column, strict=True) for term in multiple(x, w)]
        if constant:
            terms.append(Term(net.const(int(constant))))
        results.append(net.value(net.total(terms)))
    return results


def shared_matrix(seconds: float) -> Multiply:
    """`constant_matrix` with common subexpressions shared over all outputs, searched for so many seconds."""

    def multiply(net: Netlist, inputs: Sequence[int], matrix: np.ndarray, bias: Sequence[int]) -> list[int]:
        from lhcc.encodings.adders import solve

        if not matrix.any():
            return constant_matrix(net, inputs, matrix, bias)
        products = graph_terms(net, inputs, solve(matrix, seconds=seconds, peers=False))
        results = []
        for product, constant in zip(products, bias, strict=True):
            empty = net.nodes[product.node].kind == "const"
            parts = ([] if empty else [product]) + ([Term(net.const(int(constant)))] if constant else [])
            results.append(net.value(net.total(parts)))
        return results

    return multiply


def graph_terms(net: Netlist, inputs: Sequence[int], graph: AdderGraph) -> list[Term]:
    """The outputs of an adder graph over these inputs."""
    terms = [Term(x) for x in inputs]
    for op in graph.operations:
        left, right = terms[op.left], terms[op.right]
        sign = -right.sign if op.subtract else right.sign
        first = Term(left.node, left.shift + op.left_shift, left.sign)
        terms.append(net.sum(first, Term(right.node, right.shift + op.right_shift, sign)))
    outputs = list[Term]()
    for out in graph.outputs:
        t = terms[out.node] if out.node >= 0 else Term(net.const(0))
        outputs.append(Term(t.node, t.shift + out.shift, -t.sign if out.negative else t.sign))
    return outputs


def scale_up(net: Netlist, a: int, factor: int, plus: int = 0) -> int:
    """a * factor + plus by signed digits."""
    terms = multiple(a, factor)
    if plus or not terms:
        terms.append(Term(net.const(plus)))
    return net.value(net.total(terms))


def rounding(steps: Sequence[Instruction], channels: int) -> list[int]:
    """Per channel the half that the first requantisation adds, so that a layer's bias can carry it for nothing."""
    for step in steps:
        if isinstance(step, Requantise) and (step.multiplier == 1).all():
            return [1 << s - 1 if s > 0 else 0 for s in np.broadcast_to(step.shift, (channels,)).tolist()]
        if not isinstance(step, Clip):
            break
    return [0] * channels


def activation(
    net: Netlist, values: Sequence[int], steps: Sequence[Instruction], carried: Sequence[int] | None = None
) -> list[int]:
    """The elementwise instructions that follow a layer, one node per channel.

    Clips move behind the shift of a requantisation (neither ever falls, so the order is free): they see fewer bits
    there.  `carried` is the `rounding` of the steps where the values already contain it."""
    halves = carried or [0] * len(values)
    return [_channel(net, a, channel, len(values), steps, halves[channel]) for channel, a in enumerate(values)]


def _channel(net: Netlist, a: int, channel: int, channels: int, steps: Sequence[Instruction], carried: int) -> int:
    bounds: Bounds = (None, None)
    for step in steps:
        if isinstance(step, Clip):
            bounds = meet(bounds, (step.low, step.high))
        elif isinstance(step, Requantise):
            shift = int(np.broadcast_to(step.shift, (channels,))[channel])
            multiplier = int(np.broadcast_to(step.multiplier, (channels,))[channel])
            half = 1 << shift - 1 if shift > 0 else 0
            a = net.shift(scale_up(net, a, multiplier << max(-shift, 0), half - carried), max(shift, 0))
            carried = 0
            low, high = (None if b is None else requantised(b, shift, multiplier) for b in bounds)
            bounds = meet((low, high), (step.low, step.high))
        elif isinstance(step, Piecewise):
            a, bounds = _piecewise(net, net.clip(a, *bounds), step), (None, None)
        else:
            raise AssertionError(type(step).__name__)
    return net.clip(a, *bounds)


def requantised(value: int, shift: int, multiplier: int) -> int:
    product = value * multiplier
    return product << -shift if shift <= 0 else (product + (1 << shift - 1)) >> shift


def meet(first: Bounds, then: Bounds) -> Bounds:
    """Two clips, one after the other, as one."""
    low = then[0] if first[0] is None else limited(first[0], *then)
    high = then[1] if first[1] is None else limited(first[1], *then)
    return low, high


def _piecewise(net: Netlist, a: int, step: Piecewise) -> int:
    """From the last segment down: each breakpoint selects between what lies above it and what lies below."""
    node, breakpoints = net.nodes[a], step.breakpoints.tolist()
    result: int | None = None
    for k in range(len(breakpoints), -1, -1):
        start = node.low if k == 0 else max(breakpoints[k - 1], node.low)
        stop = node.high if k == len(breakpoints) else min(breakpoints[k] - 1, node.high)
        if start > stop:
            continue
        # a is limited to the segment first, so that no width grows beyond what the segment needs
        value = scale_up(net, net.clip(a, start, stop), int(step.slopes[k]), int(step.offsets[k]))
        if result is None:
            result, boundary = value, start
        else:
            result, boundary = net.select(net.reaches(a, boundary), result, value), start
    assert result is not None
    return result
