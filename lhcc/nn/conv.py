"""Convolutions whose kernels have shapes: `LHConv2d` learns them per block, `HetConv2d` has them by design."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lhcc.errors import ModelError
from lhcc.inspection.shapes import RIGID_SHAPES
from lhcc.nn.steps import free_step, rigid_step

Shapes = Literal["free", "rigid"]


class MaskedConv2d(nn.Conv2d):
    """A convolution whose weight is multiplied by a mask of the same shape; otherwise `torch.nn.Conv2d`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.output_pixels: int | None = None  # of one image, as last seen: the cost of a kept weight

    def mask(self) -> Tensor:
        raise NotImplementedError

    def masked_weight(self) -> Tensor:
        return self.weight * self.mask()

    def forward(self, x: Tensor) -> Tensor:
        y = self._conv_forward(x, self.masked_weight(), self.bias)
        self.output_pixels = int(y.shape[-2] * y.shape[-1])
        return y

    @torch.no_grad()
    def density(self) -> float:
        """Fraction of the weights that the mask keeps."""
        return float((self.mask() != 0).float().mean())


class LHConv2d(MaskedConv2d):
    """Learnable heterogeneous convolution: one kernel shape per `group_in` x `group_out` block of adjacent channels.

    `shapes="free"` learns every tap of a shape, `"rigid"` one of 15 fixed 3 x 3 shapes.  Where a block does not
    divide the channels, the last one is cropped.  With `groups`, blocks run over the stored (out, in / groups) kernels.
    """

    enabled: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *args: Any,
        shapes: Shapes = "free",
        group_in: int = 32,
        group_out: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, *args, **kwargs)
        if group_in < 1 or group_out < 1:
            raise ModelError(f"block of {group_in} x {group_out} channels", "group_in and group_out are at least 1")
        self.shapes, self.group_in, self.group_out = shapes, group_in, group_out
        blocks = (math.ceil(self.out_channels / group_out), math.ceil(self.weight.shape[1] / group_in))
        height, width = self.kernel_size
        if shapes == "free":
            self.effects = nn.Parameter(torch.empty(*blocks, height, width))
            fan_in = height * width * blocks[1]
        elif shapes == "rigid":
            if (height, width) != (3, 3):
                raise ModelError(f"rigid shapes are 3 x 3, the kernel is {height} x {width}", 'use shapes="free"')
            self.effects = nn.Parameter(torch.empty(len(RIGID_SHAPES), *blocks))
            fan_in = len(RIGID_SHAPES) * blocks[1]
            self.register_buffer("rigid_shapes", torch.from_numpy(RIGID_SHAPES.copy()), persistent=False)
        else:
            raise ModelError(f"shapes={shapes!r}", 'shapes are "free" or "rigid"')
        nn.init.trunc_normal_(self.effects, std=math.sqrt(2 / fan_in))
        # Output channels whose mask is in force; a schedule switches them on little by little.
        self.register_buffer("enabled", torch.ones(self.out_channels, dtype=torch.bool))

    def block_shapes(self) -> Tensor:
        """The kernel shape of every block: (output blocks, input blocks, kh, kw)."""
        if self.shapes == "free":
            return free_step(self.effects)
        rigid_shapes = self.get_buffer("rigid_shapes").to(self.effects.dtype)
        return torch.einsum("soi,shw->oihw", rigid_step(self.effects), rigid_shapes)

    def mask(self) -> Tensor:
        full = self.block_shapes().repeat_interleave(self.group_out, 0).repeat_interleave(self.group_in, 1)
        cropped = full[: self.weight.shape[0], : self.weight.shape[1]]
        return torch.where(self.enabled[:, None, None, None], cropped, torch.ones_like(cropped))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, shapes={self.shapes}, group_in={self.group_in}, group_out={self.group_out}"


class HetConv2d(MaskedConv2d):
    """Of every `p` input channels one keeps the whole kernel and the others its centre tap only.

    The position of the whole kernels moves by one with each output channel: every input is seen whole by some output.
    """

    fixed_mask: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int], *args: Any, p: int, **kwargs: Any
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, *args, **kwargs)
        if p < 1:
            raise ModelError(f"p={p}", "p is at least 1")
        self.p = p
        outputs, inputs, height, width = self.weight.shape
        whole = (torch.arange(inputs)[None, :] - torch.arange(outputs)[:, None]) % p == 0
        mask = whole[:, :, None, None].expand(-1, -1, height, width).float()
        mask[:, :, height // 2, width // 2] = 1
        self.register_buffer("fixed_mask", mask, persistent=False)

    def mask(self) -> Tensor:
        return self.fixed_mask.to(self.weight.dtype)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, p={self.p}"
