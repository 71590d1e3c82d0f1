"""The two stages of training kernel shapes: coarse, which learns and switches them on, and fine, with them fixed."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from lhcc.errors import ModelError
from lhcc.nn.conv import LHConv2d
from lhcc.nn.density import COST_SHARE, DENSITY_SHARE, density_loss

Stage = Literal["coarse", "fine"]


def freeze_shapes(model: nn.Module) -> None:
    """Fixes every kernel shape as it is now and puts all masks in force."""
    for layer in _learning_layers(model):
        layer.effects.requires_grad_(False)
        layer.effects.grad = None  # or an optimizer would move them once more
        layer.enabled.fill_(True)


class ShapeSchedule:
    """Follows the epochs: add `penalty()` to the loss of every batch, call `step(mean task loss)` after every epoch.

    The first epoch trains without masks and without a penalty.  Over `warmup` epochs the masks are then switched on,
    per output channel and with a probability that rises to 1, while the penalty rises linearly to `peak` times the
    task loss of the first epoch (the authors' code uses 20 epochs and 4).  After `coarse_epochs` the shapes are frozen.
    """

    def __init__(
        self,
        model: nn.Module,
        target: float,
        coarse_epochs: int = 100,
        warmup: int = 20,
        peak: float = 4.0,
        seed: int = 0,
    ) -> None:
        if not 0 < target < 1:
            raise ModelError(f"density target {target}", "a target lies between 0 and 1, for instance 0.1")
        if not 1 <= warmup <= coarse_epochs:
            raise ModelError(f"warm-up of {warmup} in {coarse_epochs} coarse epochs", "1 <= warmup <= coarse_epochs")
        self.model, self.target = model, target
        self.coarse_epochs, self.warmup, self.peak = coarse_epochs, warmup, peak
        self.epoch = 0
        self.first_task_loss: float | None = None
        self._random = torch.Generator().manual_seed(seed)
        self._enable_masks()

    @property
    def stage(self) -> Stage:
        return "coarse" if self.epoch < self.coarse_epochs else "fine"

    @property
    def progress(self) -> float:
        """Of the warm-up: 0 in the first epoch, 1 from epoch `warmup` on."""
        return min(self.epoch / self.warmup, 1.0)

    @property
    def weight(self) -> float:
        """Factor of the density loss in this epoch."""
        if self.first_task_loss is None or self.stage == "fine":
            return 0.0
        largest = COST_SHARE + DENSITY_SHARE * max(1 - self.target, self.target)  # value of the density loss, at most
        return self.peak * self.progress * self.first_task_loss / largest

    def penalty(self) -> Tensor:
        """The term to add to the task loss of a batch, after its forward pass."""
        if self.weight == 0:
            return torch.zeros(())
        return self.weight * density_loss(self.model, self.target)

    def step(self, task_loss: float) -> None:
        """Ends an epoch, whose mean task loss (without penalty) was `task_loss`, and prepares the next one."""
        if self.first_task_loss is None:
            self.first_task_loss = float(task_loss)
        self.epoch += 1
        if self.stage == "fine":
            freeze_shapes(self.model)
        else:
            self._enable_masks()

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on after an interruption, beside the state of the model."""
        return {"epoch": self.epoch, "first_task_loss": self.first_task_loss, "random": self._random.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.first_task_loss = state["epoch"], state["first_task_loss"]
        self._random.set_state(state["random"])
        if self.stage == "fine":
            freeze_shapes(self.model)

    def _enable_masks(self) -> None:
        if self.epoch > self.warmup:
            return
        for layer in _learning_layers(self.model):
            drawn = torch.rand(layer.enabled.shape, generator=self._random)  # in [0, 1): all are on at progress 1
            layer.enabled.copy_(drawn < self.progress)


def _learning_layers(model: nn.Module) -> list[LHConv2d]:
    return [layer for layer in model.modules() if isinstance(layer, LHConv2d)]
