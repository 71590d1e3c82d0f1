"""The two networks of this example: a VGG-like chain and a ResNet-like one with residual joins, for 8x8 grey images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


class Block(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = convolution(inputs, outputs, stride=stride)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class DigitsVgg(nn.Module):
    """Seven 3x3 convolutions in three resolutions, global average pooling, one dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(Block(1, 32), Block(32, 32))
        self.stage2 = nn.Sequential(Block(32, 64), Block(64, 64))
        self.stage3 = nn.Sequential(Block(64, 96), Block(96, 96), Block(96, 96))
        self.head = nn.Linear(96, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.stage1(x), 2)
        x = F.max_pool2d(self.stage2(x), 2)
        x = self.stage3(x)
        return self.head(x.mean(dim=(2, 3)))


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = Block(inputs, outputs, stride)
        self.second = convolution(outputs, outputs)
        self.norm = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Sequential(convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.second(self.first(x))) + self.shortcut(x))


class DigitsResNet(nn.Module):
    """A stem and four residual blocks, two of which halve the resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Block(1, 32)
        self.block1 = Residual(32, 32)
        self.block2 = Residual(32, 64, stride=2)
        self.block3 = Residual(64, 64)
        self.block4 = Residual(64, 96, stride=2)
        self.head = nn.Linear(96, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block4(self.block3(self.block2(self.block1(self.stem(x)))))
        return self.head(x.mean(dim=(2, 3)))


NETWORKS: dict[str, type[nn.Module]] = {"vgg": DigitsVgg, "resnet": DigitsResNet}
EXAMPLE_INPUT = torch.zeros(1, 1, 8, 8)
