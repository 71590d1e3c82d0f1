"""Step functions with a straight-through gradient: hard 0/1 decisions forwards, useful slopes backwards."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

FAR_SLOPE = 0.1  # of an effect that is far from changing its decision


class _FreeStep(Function):
    @staticmethod
    def forward(ctx: Any, effects: Tensor) -> Tensor:
        ctx.save_for_backward(effects)
        return (effects > 0).to(effects.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (effects,) = ctx.saved_tensors
        return torch.where(effects.abs() < 1, gradients[0], FAR_SLOPE * gradients[0])


class _RigidStep(Function):
    @staticmethod
    def forward(ctx: Any, effects: Tensor) -> Tensor:
        ctx.save_for_backward(effects)
        return (effects >= effects.amax(dim=0, keepdim=True)).to(effects.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (effects,) = ctx.saved_tensors
        distance = (effects - effects.mean(dim=0, keepdim=True)).abs()
        return torch.where(distance < 1, gradients[0], FAR_SLOPE * gradients[0])


def free_step(effects: Tensor) -> Tensor:
    """1 where an effect is positive, else 0.  Slope 1 where |effect| < 1, else 0.1."""
    result: Tensor = _FreeStep.apply(effects)
    return result


def rigid_step(effects: Tensor) -> Tensor:
    """1 at the largest effect along the first axis (at every one of them in a tie), else 0.

    Slope 1 where the effect is nearer than 1 to the mean along the first axis, else 0.1.
    """
    result: Tensor = _RigidStep.apply(effects)
    return result
