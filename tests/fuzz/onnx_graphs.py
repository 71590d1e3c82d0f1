"""Random small ONNX models: a graph that grows by one step at a time, each drawn from its own seed.

Steps draw freely; what ONNX's own shape inference refuses is left out, so that every model is a valid one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dice = random.Random
OPSETS = (11, 12, 13, 14, 15, 17, 18, 19, 20, 21)


@dataclass
class Growing:
    """The graph so far; `values` are the names that a step may read, with their shapes."""

    opset: int
    rng: np.random.Generator
    values: list[tuple[str, tuple[int, ...]]]
    nodes: list[Any] = field(default_factory=list)
    initializers: list[Any] = field(default_factory=list)
    count: int = 0

    def constant(self, values: Any) -> str:
        self.count += 1
        name = f"c{self.count}"
        self.initializers.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def weights(self, *shape: int) -> str:
        fan = max(1, int(np.prod(shape[1:])))
        return self.constant((self.rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32))

    def node(self, kind: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> Any:
        """Appends a node; the name of its output, or the names of several."""
        given = {name: value for name, value in attributes.items() if value is not None}
        names = []
        for _ in range(outputs):
            self.count += 1
            names.append(f"v{self.count}")
        self.nodes.append(helper.make_node(kind, inputs, names, name=f"{kind}_{names[0]}", **given))
        return names[0] if outputs == 1 else names

    def model(self, outputs: dict[str, tuple[int, ...] | None]) -> onnx.ModelProto:
        """The graph with these outputs and their shapes."""
        (x, shape), *_ = self.values
        graph = helper.make_graph(
            self.nodes,
            "fuzz",
            [helper.make_tensor_value_info(x, TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
            self.initializers,
        )
        # the version of the file format that every runtime of these days reads
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


Step = Callable[[Growing, Dice, str, tuple[int, ...]], "str | list[str] | None"]


def grow(request: str) -> onnx.ModelProto:
    """ "17" is the model of seed 17; "17:2,4" is that model without its steps 2 and 4."""
    from tests.fuzz.onnx_steps import STEPS

    seed, _, dropped = request.partition(":")
    left_out = set(map(int, filter(None, dropped.split(","))))
    dice = Dice(int(seed))
    shape = (
        dice.choice([1, 1, 1, 2, 3]),
        dice.choice([1, 2, 3, 4, 6, 8, 16, 17]),
        dice.randint(4, 13),
        dice.randint(4, 13),
    )
    growing = Growing(dice.choice(OPSETS), np.random.default_rng(int(seed)), [("x", shape)])
    for number in range(steps_of(int(seed))):
        if number not in left_out:
            _take(growing, Dice(f"{seed}-{number}"), STEPS)
    outputs = dict(growing.values[-1:])
    if len(growing.values) > 3 and dice.random() < 0.4:
        outputs |= [dice.choice(growing.values[1:-1])]
    return growing.model(dict(outputs))


def steps_of(seed: int) -> int:
    return Dice(-seed - 1).randint(1, 7)


def _take(growing: Growing, dice: Dice, steps: list[Step]) -> None:
    """One step that fits; what was added by those that do not is taken back."""
    for _ in range(20):
        nodes, initializers, count = len(growing.nodes), len(growing.initializers), growing.count
        name, shape = growing.values[-1 if dice.random() < 0.8 else dice.randrange(len(growing.values))]
        made = dice.choice(steps)(growing, dice, name, shape)
        names = [made] if isinstance(made, str) else made or []
        shapes = _shapes(growing, names) if names else None
        if shapes is not None and all(0 < np.prod(s) <= 40_000 for s in shapes):
            growing.values += zip(names, shapes, strict=True)
            return
        del growing.nodes[nodes:], growing.initializers[initializers:]
        growing.count = count


def _shapes(growing: Growing, names: list[str]) -> list[tuple[int, ...]] | None:
    """The shapes of the outputs, where ONNX's checker and shape inference find no fault."""
    infer, check = onnx.shape_inference.infer_shapes, onnx.checker.check_model
    try:
        inferred = infer(growing.model(dict.fromkeys(names)), check_type=True, strict_mode=True, data_prop=True)
        found = {value.name: value.type.tensor_type for value in inferred.graph.output}
        dims = {name: found[name].shape.dim for name in names}
        if not all(dim.HasField("dim_value") for extents in dims.values() for dim in extents):
            return None
        shapes = {name: tuple(dim.dim_value for dim in extents) for name, extents in dims.items()}
        check(growing.model({**shapes}))
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return None
    return list(shapes.values())


def shape_of(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def spelled(model: onnx.ModelProto) -> str:
    """The model in a few lines."""
    head = f"opset {model.opset_import[0].version}, input {list(shape_of(model.graph.input[0]))}"
    constants = {t.name: t for t in model.graph.initializer}

    def operand(name: str) -> str:
        if name not in constants:
            return name
        array = numpy_helper.to_array(constants[name])
        return str(array.tolist()) if array.size <= 8 else f"{array.dtype}{list(array.shape)}"

    lines = [head]
    for node in model.graph.node:
        attributes = ", ".join(f"{a.name}={helper.get_attribute_value(a)}" for a in node.attribute)
        lines.append(f"{', '.join(node.output)} = {node.op_type}({', '.join(map(operand, node.input))}; {attributes})")
    return "\n  ".join([*lines, f"outputs {', '.join(value.name for value in model.graph.output)}"])
