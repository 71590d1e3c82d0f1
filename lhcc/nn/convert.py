"""Between ordinary and masked convolutions: `to_lhc` swaps them in before training, `fold_masks` out after it."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from lhcc.errors import ModelError
from lhcc.nn.conv import LHConv2d, MaskedConv2d, Shapes

C = TypeVar("C", bound=nn.Conv2d)


def to_lhc(
    model: nn.Module,
    shapes: Shapes = "free",
    group_in: int = 32,
    group_out: int = 16,
    keep_dense: Collection[str] | None = None,
) -> nn.Module:
    """Swaps the convolutions of `model`, in place, for `LHConv2d` that start from the same weights; returns the model.

    `keep_dense` names the convolutions that are left alone: by default the first one, as in the paper.  Convolutions
    with groups are left alone too; rigid shapes exist for 3 x 3 kernels only, so the others get free ones.
    """
    everything = model.named_modules(remove_duplicate=False)
    convolutions = {name: layer for name, layer in everything if type(layer) is nn.Conv2d}
    if not convolutions:
        raise ModelError("the model has no convolution to swap", "give a model with torch.nn.Conv2d layers")
    if keep_dense is None:
        keep_dense = {next(iter(convolutions))}
    unknown = sorted(set(keep_dense) - convolutions.keys())
    if unknown:
        raise ModelError(f"keep_dense names no convolution: {', '.join(unknown)}", f"known: {', '.join(convolutions)}")
    kept = {convolutions[name] for name in keep_dense}
    swapped: dict[nn.Module, nn.Module] = {}
    for layer in convolutions.values():
        if layer not in kept and layer not in swapped and layer.groups == 1:
            fitting: Shapes = shapes if layer.kernel_size == (3, 3) else "free"
            swapped[layer] = _as_lhc(layer, fitting, group_in, group_out)
    return _replaced(model, swapped)


def fold_masks(model: nn.Module) -> nn.Module:
    """A copy of `model` in which masked convolutions are ordinary ones, with the mask multiplied into the weight."""
    folded = copy.deepcopy(model)
    return _replaced(folded, {layer: _folded(layer) for layer in folded.modules() if isinstance(layer, MaskedConv2d)})


def _folded(layer: MaskedConv2d) -> nn.Conv2d:
    plain = _bare(nn.Conv2d, layer)
    with torch.no_grad():
        mask = layer.mask()
        plain.weight.copy_(torch.where(mask == 0, torch.zeros_like(mask), layer.weight * mask))
        _copy_bias(layer, plain)
    return plain.train(layer.training)


def _as_lhc(layer: nn.Conv2d, shapes: Shapes, group_in: int, group_out: int) -> LHConv2d:
    swapped = _bare(LHConv2d, layer, shapes=shapes, group_in=group_in, group_out=group_out)
    with torch.no_grad():
        swapped.weight.copy_(layer.weight)
        _copy_bias(layer, swapped)
    swapped.train(layer.training)
    return swapped


def _bare(kind: type[C], like: nn.Conv2d, **options: Any) -> C:
    """A convolution of another kind with the geometry of `like`."""
    convolution: C = kind(
        like.in_channels,
        like.out_channels,
        like.kernel_size,
        stride=like.stride,
        padding=like.padding,
        dilation=like.dilation,
        groups=like.groups,
        bias=like.bias is not None,
        padding_mode=like.padding_mode,
        device=like.weight.device,
        dtype=like.weight.dtype,
        **options,
    )
    return convolution


def _copy_bias(source: nn.Conv2d, destination: nn.Conv2d) -> None:
    if source.bias is not None and destination.bias is not None:
        destination.bias.copy_(source.bias)


def _replaced(model: nn.Module, others: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """The model with other layers in the places of some; one that stands in several places is still one layer there."""
    for name, layer in list(model.named_modules(remove_duplicate=False)):
        if layer in others and name:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, others[layer])
    return others.get(model, model)
