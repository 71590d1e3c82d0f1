"""Steps on numbers one by one, or on all along an axis: activations, arithmetic, sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz.onnx_graphs import Dice, Growing

Shape = tuple[int, ...]


UNARY = [
    "Relu", "LeakyRelu", "Elu", "Selu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Softplus", "Softsign", "Exp",
    "Neg", "Abs", "Erf", "Sin", "Cos", "Atan", "Identity", "Dropout", "Celu", "Mish", "Gelu", "ThresholdedRelu",
]  # fmt: skip
SINCE = {"HardSwish": 14, "Celu": 12, "Mish": 18, "Gelu": 20}


def unary(g: Growing, dice: Dice, x: str, shape: Shape) -> str | None:
    kind = dice.choice(UNARY)
    if g.opset < SINCE.get(kind, 1):
        return None
    attributes: dict[str, Any] = {}
    if kind in ("LeakyRelu", "Elu", "HardSigmoid", "ThresholdedRelu") and dice.random() < 0.6:
        attributes["alpha"] = dice.choice([0.01, 0.2, 0.5])
    if kind == "Gelu":
        attributes["approximate"] = dice.choice([None, "tanh"])
    return str(g.node(kind, [x], **attributes))


def clip(g: Growing, dice: Dice, x: str, shape: Shape) -> str:
    low = g.constant(np.float32(-0.4)) if dice.random() < 0.7 else ""
    high = g.constant(np.float32(0.9)) if dice.random() < 0.7 else ""
    return str(g.node("Clip", [x, low, high][: 3 if high else 2 if low else 1]))


def prelu(g: Growing, dice: Dice, x: str, shape: Shape) -> str | None:
    if len(shape) < 3:
        return None
    slope = (shape[1], *[1] * (len(shape) - 2)) if dice.random() < 0.7 else (1,)
    return str(g.node("PRelu", [x, g.weights(*slope)]))


def binary(g: Growing, dice: Dice, x: str, shape: Shape) -> str:
    """With a map of the same shape, or with a constant of any shape that broadcasts."""
    kind = dice.choice(["Add", "Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Pow"])
    same = [name for name, other in g.values if other == shape and name != x]
    if same and dice.random() < 0.6 and kind not in ("Div", "Pow"):
        operands = [x, dice.choice(same)]
    else:
        rank = dice.randint(0, len(shape))
        extents = [n if dice.random() < 0.6 else 1 for n in shape[len(shape) - rank :]]
        values = g.rng.uniform(0.5, 2.0, extents).astype(np.float32)
        if kind == "Pow":
            x, values = str(g.node("Abs", [x])), np.float32(dice.choice([0.5, 1.0, 2.0, 3.0]))
        operands = [x, g.constant(values)]
    if kind not in ("Div", "Pow") and dice.random() < 0.4:
        operands.reverse()
    return str(g.node(kind, operands))


def reduce(g: Growing, dice: Dice, x: str, shape: Shape) -> str:
    kind = dice.choice(["Mean", "Sum", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp"])
    axes = sorted(dice.sample(range(-len(shape), 0), dice.randint(1, max(1, len(shape) - 1))))
    keep = dice.choice([None, 0, 1])
    if g.opset >= (13 if kind == "Sum" else 18):
        return str(g.node(f"Reduce{kind}", [x, g.constant(np.array(axes, np.int64))], keepdims=keep))
    return str(g.node(f"Reduce{kind}", [x], axes=axes, keepdims=keep))


def softmax(g: Growing, dice: Dice, x: str, shape: Shape) -> str:
    axis = dice.choice([None, *range(-len(shape), len(shape))])
    return str(g.node(dice.choice(["Softmax", "LogSoftmax"]), [x], axis=axis))


def where(g: Growing, dice: Dice, x: str, shape: Shape) -> str:
    zero = g.constant(np.float32(0))
    mask = g.node(dice.choice(["Greater", "Less"]), [x, zero])
    if dice.random() < 0.3:
        mask = g.node("Not", [mask])
    return str(g.node("Where", [mask, x, g.constant(np.float32(0.25))]))


def cast(g: Growing, dice: Dice, x: str, shape: Shape) -> str:
    """By way of integers that a shape holds: what exporters write around reshapes."""
    extents = g.node("Shape", [x])
    size = g.node("Gather", [extents, g.constant(np.array([dice.randrange(len(shape))], np.int64))], axis=0)
    return str(g.node("Div", [x, g.node("Cast", [size], to=1)]))
