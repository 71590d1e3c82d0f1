"""The nodes of a dyadic, QDQ, QLinear or QONNX model become instructions of an integer program, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lhcc.approximation.nodes import HANDLERS, grid_of
from lhcc.approximation.order import is_the_models, order_of
from lhcc.approximation.state import State
from lhcc.errors import LhccError, UnsupportedOperator
from lhcc.integer import Input, Program


@dataclass(frozen=True)
class Reach:
    """What of a graph an integer program can hold; nodes and tensors by name, a node's being its first output."""

    nodes: set[str]
    tensors: set[str]
    """those that it can give as results"""
    refused: dict[str, str]
    """for every other node, why"""


def program(state: State, source: Any) -> Program:
    """The whole graph, whose input is `source`."""
    nodes = [node for node in state.graph.nodes if node.output[0] not in state.known]
    unknown = sorted({node.op_type for node in nodes} - set(HANDLERS))
    if unknown:
        raise UnsupportedOperator(
            f"the integer program has no {', '.join(unknown)}", "compile for the CPU in fp32 instead"
        )
    _input(state, source)
    for node in nodes:
        if node.output[0] not in state.done:
            HANDLERS[node.op_type](state, node)
    for name in state.graph.outputs:
        if order_of(state.builder, state.at[name]) is not None:
            raise UnsupportedOperator(
                f"output '{name}' is a flattened image, which lies channels last in an integer program",
                "end the model before it is flattened, or compile for the CPU in fp32",
            )
    return state.builder.build(*(state.at[name] for name in state.graph.outputs))


def reach(state: State, source: Any) -> Reach:
    """How far a program that begins at the tensor which `source` declares would get."""
    held, refused = set[str](), dict[str, str]()
    _input(state, source)
    for node in state.graph.nodes:
        result = node.output[0]
        if result in state.known:
            continue
        inside = held.union(state.at, state.graph.constants, state.known)
        missing = [name for name in node.input if name and name not in inside]
        if result in state.done:
            held.add(result)
        elif node.op_type not in HANDLERS:
            refused[result] = f"{node.op_type} has no integer form"
        elif missing:
            refused[result] = f"it reads '{missing[0]}', which is outside"
        else:
            try:
                HANDLERS[node.op_type](state, node)
                held.add(result)
            except LhccError as error:
                refused[result] = error.message
            except (KeyError, IndexError, TypeError, ValueError) as error:
                refused[result] = f"{node.op_type} of this form has no integer form ({error})"
    return Reach(held, {name for name, x in state.at.items() if is_the_models(state.builder, x)}, refused)


def _input(state: State, source: Any) -> None:
    """The program's input: on the grid of the quantiser that reads it, else on one that holds what the data shows."""
    shape = [d.dim_value for d in source.type.tensor_type.shape.dim][1:]
    order = (shape[1], shape[2], shape[0]) if len(shape) == 3 else tuple(shape)
    reader = next((n for n in state.graph.nodes if source.name in n.input), None)
    if reader is not None and reader.op_type in ("QuantizeLinear", "Quant"):
        grid = grid_of(state, reader)
        low, high = np.asarray(grid.low, dtype=np.int64), np.asarray(grid.high, dtype=np.int64)
        step = Input(source.name, (), order, grid.scale.reshape(()), low, high)
        state.at[source.name] = state.at[reader.output[0]] = state.builder.append(step)
        state.done.add(reader.output[0])
        return
    values, bits = state.rounding.seen.get(""), state.bits
    signed = values is None or bool((values < 0).any())
    ends = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    fraction = state.rounding.fraction("", *ends)
    fraction = bits - 1 if fraction is None else fraction
    state.at[source.name] = state.builder.input(source.name, order, bits, fraction, signed)
