"""Steps with weights or windows: convolutions, products, pooling, normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz.onnx_graphs import Dice, Growing

Shape = tuple[int, ...]


def _window(dice: Dice, rank: int, pooling: bool = False) -> dict[str, Any]:
    """Kernel, strides, dilations and one of the ways to pad."""
    kernel = [dice.choice([1, 2, 3, 3, 4, 5]) for _ in range(rank)]
    window: dict[str, Any] = {"kernel_shape": kernel}
    if dice.random() < 0.5:
        window["strides"] = [dice.choice([1, 2, 3]) for _ in range(rank)]
    if dice.random() < 0.3 and not pooling:
        window["dilations"] = [dice.choice([1, 2, 3]) for _ in range(rank)]
    how = dice.choice(["none", "pads", "pads", "same", "valid"])
    if how == "pads":
        window["pads"] = [dice.randint(0, k - 1) for k in [*kernel, *kernel]]
    elif how == "same":
        window["auto_pad"] = dice.choice(["SAME_UPPER", "SAME_LOWER"])
        window.pop("dilations", None)  # ONNX Runtime refuses them with this
    elif how == "valid":
        window["auto_pad"] = "VALID"
    return window


def conv(g: Growing, dice: Dice, x: str, shape: Shape) -> str | None:
    if not 3 <= len(shape) <= 5:
        return None
    channels, rank = shape[1], len(shape) - 2
    window = _window(dice, rank)
    groups = dice.choice([1, 1, channels] + [n for n in (2, 4) if channels % n == 0])
    outputs = groups * dice.choice([1, 2, 3, 5, 8]) if groups < 9 else groups
    operands = [x, g.weights(outputs, channels // groups, *window["kernel_shape"])]
    if dice.random() < 0.6:
        operands.append(g.weights(outputs))
    if dice.random() < 0.3:
        del window["kernel_shape"]  # the weights say it
    return str(g.node("Conv", operands, group=groups if groups > 1 or dice.random() < 0.5 else None, **window))


def conv_transpose(g: Growing, dice: Dice, x: str, shape: Shape) -> str | None:
    if not 3 <= len(shape) <= 4:
        return None
    channels, rank = shape[1], len(shape) - 2
    window = _window(dice, rank)
    groups = dice.choice([1, 1, 1, channels] + [n for n in (2,) if channels % n == 0])
    operands = [x, g.weights(channels, dice.choice([1, 2, 3, 5]), *window["kernel_shape"])]
    if dice.random() < 0.5:
        operands.append(g.weights(groups * g.initializers[-1].dims[1]))
    strides = window.get("strides", [1] * rank)
    if dice.random() < 0.4 and "auto_pad" not in window:
        window["output_padding"] = [dice.randint(0, s - 1) for s in strides]
    return str(g.node("ConvTranspose", operands, group=groups, **window))


def pool(g: Growing, dice: Dice, x: str, shape: Shape) -> str | None:
    if not 3 <= len(shape) <= 5:
        return None
    window = _window(dice, len(shape) - 2, pooling=True)
    kind = dice.choice(["MaxPool", "AveragePool", "AveragePool", "LpPool"])
    if kind == "MaxPool" and dice.random() < 0.3:
        window["dilations"] = [dice.choice([1, 2]) for _ in window["kernel_shape"]]
    if kind != "LpPool" and dice.random() < 0.4:
        window["ceil_mode"] = 1
    if kind == "AveragePool" and dice.random() < 0.5:
        window["count_include_pad"] = 1
    return str(g.node(kind, [x], **window))


def global_pool(g: Growing, dice: Dice, x: str, shape: Shape) -> str | None:
    if len(shape) < 3:
        return None
    return str(g.node(dice.choice(["GlobalAveragePool", "GlobalMaxPool"]), [x]))


def batch_norm(g: Growing, dice: Dice, x: str, shape: Shape) -> str | None:
    if len(shape) < 2:
        return None
    channels = shape[1]
    variance = g.constant(g.rng.uniform(0.3, 2, channels).astype(np.float32))
    operands = [x, g.weights(channels), g.weights(channels), g.weights(channels), variance]
    return str(g.node("BatchNormalization", operands, epsilon=dice.choice([None, 1e-3])))


def norm(g: Growing, dice: Dice, x: str, shape: Shape) -> str | None:
    if len(shape) < 3:
        return None
    kind = dice.choice(["InstanceNormalization", "LRN", "LayerNormalization", "LpNormalization"])
    if kind == "InstanceNormalization":
        return str(g.node(kind, [x, g.weights(shape[1]), g.weights(shape[1])]))
    if kind == "LRN":
        return str(g.node(kind, [x], size=dice.choice([1, 3, 5]), alpha=dice.choice([None, 0.01])))
    axis = dice.randrange(-len(shape), len(shape))
    if kind == "LpNormalization":
        return str(g.node(kind, [x], axis=axis, p=dice.choice([1, 2])))
    return str(g.node(kind, [x, g.weights(*shape[axis:])], axis=axis)) if g.opset >= 17 else None


def product(g: Growing, dice: Dice, x: str, shape: Shape) -> str:
    outputs = dice.choice([1, 4, 10, 17])
    if len(shape) != 2 or dice.random() < 0.4:
        weights = g.weights(shape[-1], outputs)
        return str(g.node("MatMul", [x, weights]))
    turned = dice.choice([0, 1])
    operands = [x, g.weights(outputs, shape[1]) if turned else g.weights(shape[1], outputs)]
    if dice.random() < 0.6:
        operands.append(g.weights(*dice.choice([(outputs,), (1, outputs), (1,), (shape[0], outputs)])))
    attributes: dict[str, Any] = {"alpha": dice.choice([None, 0.5]), "beta": dice.choice([None, 2.0])}
    return str(g.node("Gemm", operands, transB=turned or None, **attributes))
