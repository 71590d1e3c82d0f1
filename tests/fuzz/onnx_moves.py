"""Steps that move numbers and compute none, or few: joining, cutting, padding, resizing, reshaping."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz.onnx_graphs import Dice, Growing

Shape = tuple[int, ...]


def concat(g: Growing, dice: Dice, x: str, shape: Shape) -> str | None:
    axis = dice.randrange(-len(shape), len(shape))
    fitting = [
        name
        for name, other in g.values
        if len(other) == len(shape)
        and all(a == b for i, (a, b) in enumerate(zip(shape, other, strict=True)) if i != axis % len(shape))
    ]
    return str(g.node("Concat", [x, *dice.choices(fitting, k=dice.randint(1, 2))], axis=axis))


def split(g: Growing, dice: Dice, x: str, shape: Shape) -> list[str] | None:
    axis = dice.randrange(-len(shape), len(shape))
    size = shape[axis]
    if size < 2:
        return None
    first = dice.randint(1, size - 1)
    if g.opset < 13:
        return list(g.node("Split", [x], outputs=2, axis=axis, split=[first, size - first]))
    return list(g.node("Split", [x, g.constant(np.array([first, size - first]))], outputs=2, axis=axis))


def slices(g: Growing, dice: Dice, x: str, shape: Shape) -> str:
    axes = sorted(dice.sample(range(len(shape)), dice.randint(1, len(shape))))
    starts, ends, steps = [], [], []
    for axis in axes:
        step = dice.choice([1, 1, 2, -1, -2])
        a, b = sorted(dice.sample(range(shape[axis] + 1), 2))
        if step > 0:
            starts.append(a - shape[axis] if a < shape[axis] and dice.random() < 0.3 else a)
            ends.append(dice.choice([b, 2**31 - 1]))
        else:
            starts.append(dice.choice([b - 1, -1]))
            ends.append(a - 1 - shape[axis] if a > 0 else dice.choice([-(2**31), -shape[axis] - 1]))
        steps.append(step)
    given = [a - len(shape) if dice.random() < 0.3 else a for a in axes]
    return str(g.node("Slice", [x, *(g.constant(np.array(v, np.int64)) for v in (starts, ends, given, steps))]))


def pad(g: Growing, dice: Dice, x: str, shape: Shape) -> str:
    mode = dice.choice(["constant", "constant", "reflect", "edge", "wrap" if g.opset >= 19 else "edge"])
    low = -1 if mode == "constant" else 0
    amounts = [dice.randint(low, min(2, max(0, n - 1))) if dice.random() < 0.5 else 0 for n in (*shape, *shape)]
    operands = [x, g.constant(np.array(amounts, np.int64))]
    if mode == "constant" and dice.random() < 0.5:
        operands.append(g.constant(np.float32(dice.choice([0.0, 0.7, -3.0]))))
    return str(g.node("Pad", operands, mode=mode))


def resize(g: Growing, dice: Dice, x: str, shape: Shape) -> str | None:
    if len(shape) not in (3, 4):
        return None
    mode = dice.choice(["nearest", "linear", "cubic"])
    if mode == "cubic" and len(shape) != 4:
        return None
    where = ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": dice.choice(where)}
    if mode == "nearest":
        attributes["nearest_mode"] = dice.choice([None, "floor", "ceil", "round_prefer_ceil"])
    if mode == "cubic":
        attributes["cubic_coeff_a"] = dice.choice([None, -0.5])
    scales = [1.0, 1.0, *(dice.choice([0.5, 1.0, 1.5, 2.0, 3.0]) for _ in shape[2:])]
    if dice.random() < 0.5:
        sizes = [int(n * s) for n, s in zip(shape, scales, strict=True)]
        return str(g.node("Resize", [x, "", "", g.constant(np.array(sizes, np.int64))], **attributes))
    return str(g.node("Resize", [x, "", g.constant(np.array(scales, np.float32))], **attributes))


def transpose(g: Growing, dice: Dice, x: str, shape: Shape) -> str:
    order = list(range(len(shape)))
    dice.shuffle(order)
    return str(g.node("Transpose", [x], perm=order if dice.random() < 0.8 else None))


def reshape(g: Growing, dice: Dice, x: str, shape: Shape) -> str:
    """Two neighbours joined, or one axis split."""
    new = list(shape)
    at = dice.randrange(len(new))
    if dice.random() < 0.5 and at + 1 < len(new):
        new[at : at + 2] = [new[at] * new[at + 1]]
    else:
        factor = next((f for f in (2, 3) if new[at] % f == 0), 1)
        new[at : at + 1] = [factor, new[at] // factor]
    for i, n in enumerate(new):
        if i < len(shape) and n == shape[i] and dice.random() < 0.3:
            new[i] = 0
    if dice.random() < 0.4:
        new[dice.randrange(len(new))] = -1
    return str(g.node("Reshape", [x, g.constant(np.array(new, np.int64))]))


def flatten(g: Growing, dice: Dice, x: str, shape: Shape) -> str:
    return str(g.node("Flatten", [x], axis=dice.choice([None, *range(-len(shape), len(shape) + 1)])))


def squeeze(g: Growing, dice: Dice, x: str, shape: Shape) -> str:
    kind = dice.choice(["Squeeze", "Unsqueeze"])
    ones = [i for i, n in enumerate(shape) if n == 1]
    axes = ones[:1] if kind == "Squeeze" else [dice.randint(-len(shape) - 1, len(shape))]
    if kind == "Squeeze" and not axes:
        kind, axes = "Unsqueeze", [0]
    if g.opset >= 13:
        return str(g.node(kind, [x, g.constant(np.array(axes, np.int64))]))
    return str(g.node(kind, [x], axes=axes))


def depth_and_space(g: Growing, dice: Dice, x: str, shape: Shape) -> str | None:
    if len(shape) != 4:
        return None
    if shape[1] % 4 == 0 and dice.random() < 0.6:
        return str(g.node("DepthToSpace", [x], blocksize=2, mode=dice.choice([None, "DCR", "CRD"])))
    return str(g.node("SpaceToDepth", [x], blocksize=2)) if shape[2] % 2 == shape[3] % 2 == 0 else None


def expand(g: Growing, dice: Dice, x: str, shape: Shape) -> str:
    if dice.random() < 0.5:
        wanted = [n if n > 1 else dice.choice([1, 2, 3]) for n in shape]
        return str(g.node("Expand", [x, g.constant(np.array(wanted, np.int64))]))
    repeats = [dice.choice([1, 1, 2]) for _ in shape]
    return str(g.node("Tile", [x, g.constant(np.array(repeats, np.int64))]))


def gather(g: Growing, dice: Dice, x: str, shape: Shape) -> str:
    axis = dice.randrange(-len(shape), len(shape))
    indices = g.rng.integers(-shape[axis], shape[axis], dice.choice([(), (1,), (3,), (2, 2)]))
    return str(g.node("Gather", [x, g.constant(np.asarray(indices, np.int64))], axis=axis))
