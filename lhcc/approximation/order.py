"""In which order the vectors of a program hold what the model's hold: an image that is flattened lies channels last."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from lhcc.errors import LhccError, UnsupportedOperator
from lhcc.integer import Builder, Concat, Dense, Flatten, Input

Order = NDArray[np.int64]


def order_of(builder: Builder, tensor: str) -> Order | None:
    """Element i of the program's vector is element order[i] of the model's; None where the two agree."""
    if len(builder.types[tensor].shape) != 1:
        return None
    steps = {step.name: step for step in builder.instructions}

    @cache
    def find(name: str) -> Order:
        step, size = steps[name], builder.types[name].shape[-1]
        if isinstance(step, Flatten):
            rows, columns, channels = builder.types[step.inputs[0]].shape
            order: Order = np.arange(size).reshape(channels, rows, columns).transpose(1, 2, 0).reshape(-1)
            return order
        if isinstance(step, (Input, Dense)):
            return np.arange(size)
        if isinstance(step, Concat):
            return _side_by_side([find(x) for x in step.inputs])
        first, *others = (find(x) for x in step.inputs)  # element by element
        if any(not np.array_equal(first, other) for other in others):
            raise UnsupportedOperator(
                f"'{name}' adds a flattened image to another vector, whose order is another in an integer program"
            )
        return first

    found = find(tensor)
    return None if np.array_equal(found, np.arange(len(found))) else found


def is_the_models(builder: Builder, tensor: str) -> bool:
    """Whether a tensor can be given to others as it is."""
    try:
        return order_of(builder, tensor) is None
    except LhccError:
        return False


def _side_by_side(orders: list[Order]) -> Order:
    starts = np.cumsum([0, *(len(order) for order in orders[:-1])])
    return np.concatenate([order + start for order, start in zip(orders, starts, strict=True)])
