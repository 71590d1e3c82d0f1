"""How much of a masked network is kept, as a number and as a loss term that drives it to a target."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lhcc.errors import ModelError
from lhcc.nn.conv import LHConv2d, MaskedConv2d

DENSITY_SHARE, COST_SHARE = 0.99, 0.01  # of the two parts of the loss term


def masked_layers(model: nn.Module) -> list[tuple[str, MaskedConv2d]]:
    """Every convolution with a mask, and its name in the model."""
    return [(name, layer) for name, layer in model.named_modules() if isinstance(layer, MaskedConv2d)]


def network_density(model: nn.Module) -> float:
    """Kept weights over all weights, of all masked convolutions together."""
    layers = [layer for _, layer in masked_layers(model)]
    if not layers:
        return 1.0
    total = sum(layer.weight.numel() for layer in layers)
    kept = sum(layer.density() * layer.weight.numel() for layer in layers)
    return float(kept / total)


def density_loss(model: nn.Module, target: float) -> Tensor:
    """0.99 * |target - kept / all weights| + 0.01 * kept / all multiply-adds, over the `LHConv2d` layers.

    The target is one for the whole network, so a single layer is free to become empty or to stay dense.
    Call it after a forward pass, which is what tells the layers the size of their outputs.
    """
    if not 0 < target < 1:
        raise ModelError(f"density target {target}", "a target lies between 0 and 1, for instance 0.1")
    kept: list[Tensor] = []
    kept_macs: list[Tensor] = []
    total = total_macs = 0
    for name, layer in masked_layers(model):
        if not isinstance(layer, LHConv2d):
            continue
        if layer.output_pixels is None:
            raise ModelError(f"layer '{name}' has not run yet", "call density_loss after model(x)")
        mask = layer.mask()
        kept.append(mask.sum())
        kept_macs.append(kept[-1] * layer.output_pixels)
        total += mask.numel()
        total_macs += mask.numel() * layer.output_pixels
    if not kept:
        raise ModelError("the model has no LHConv2d", "swap its convolutions with lhcc.nn.to_lhc(model)")
    off_target = (target - torch.stack(kept).sum() / total).abs()
    return DENSITY_SHARE * off_target + COST_SHARE * torch.stack(kept_macs).sum() / total_macs
