"""Well-known CNNs, written by hand in PyTorch with seeded random weights: what the end-to-end tests compile.

Batch norms get random statistics, so that forgetting one shows; weights are scaled so that deep nets neither vanish nor
explode.  `width` thins a network for tests that are about its structure, not its size.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in evaluation mode, with seeded He weights and random batch-norm statistics."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
                weight = module.weight
                fan_in = weight[0].numel() if not isinstance(module, nn.ConvTranspose2d) else weight.shape[0] * 4
                weight.copy_(torch.randn(weight.shape, generator=draw) * (2 / fan_in) ** 0.5)
                if module.bias is not None:
                    module.bias.copy_(torch.randn(module.bias.shape, generator=draw) * 0.1)
            elif isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.weight.copy_(torch.rand(module.weight.shape, generator=draw) * 0.5 + 0.5)
                module.bias.copy_(torch.randn(module.bias.shape, generator=draw) * 0.2)
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=draw) * 0.3)
                module.running_var.copy_(torch.rand(module.running_var.shape, generator=draw) + 0.5)
    return model.eval()


class ConvBnAct(nn.Sequential):
    """Convolution without bias, batch norm, activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Any = 3,
        stride: int = 1,
        padding: Any = None,
        groups: int = 1,
        act: Callable[[], nn.Module] | None = nn.ReLU,
    ) -> None:
        if padding is None:
            padding = tuple(k // 2 for k in kernel) if isinstance(kernel, tuple) else kernel // 2
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        super().__init__(*layers, *([act()] if act else []))


def lenet5() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.Tanh(),
        nn.Linear(120, 84),
        nn.Tanh(),
        nn.Linear(84, 10),
    )


def alexnet(width: float = 1.0) -> nn.Module:
    c = [int(n * width) for n in (64, 192, 384, 256, 256)]
    hidden = int(4096 * width)
    return nn.Sequential(
        nn.Conv2d(3, c[0], 11, 4, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(c[0], c[1], 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(c[1], c[2], 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(c[2], c[3], 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(c[3], c[4], 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.AdaptiveAvgPool2d(6),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(c[4] * 36, hidden),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 1000),
    )


def vgg(depth: int, size: int, width: float = 1.0) -> nn.Module:
    """VGG-16 or -19; at 32 x 32 the small head of the CIFAR variants."""
    repeats = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}[depth]
    layers: list[nn.Module] = []
    inputs = 3
    for count, outputs in zip(repeats, (64, 128, 256, 512, 512), strict=True):
        for _ in range(count):
            layers += [nn.Conv2d(inputs, int(outputs * width), 3, padding=1), nn.ReLU()]
            inputs = int(outputs * width)
        layers.append(nn.MaxPool2d(2))
    if size == 32:
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs, 10))
    hidden = int(4096 * width)
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(inputs * (size // 32) ** 2, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 1000),
    )


class BasicBlock(nn.Module):
    growth = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.shortcut = ConvBnAct(inputs, width, 1, stride, act=None) if stride > 1 or inputs != width else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class Bottleneck(nn.Module):
    growth = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.reduce, self.conv = ConvBnAct(inputs, width, 1), ConvBnAct(width, width, 3, stride)
        self.expand = ConvBnAct(width, 4 * width, 1, act=None)
        self.shortcut = ConvBnAct(inputs, 4 * width, 1, stride, act=None) if inputs != 4 * width else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(self.conv(self.reduce(x)))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


def resnet(depth: int, width: float = 1.0) -> nn.Module:
    block: Any = Bottleneck if depth >= 50 else BasicBlock
    repeats = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}[depth]
    inputs = int(64 * width)
    layers: list[nn.Module] = [ConvBnAct(3, inputs, 7, 2), nn.MaxPool2d(3, 2, 1)]
    for stage, count in enumerate(repeats):
        outputs = int(64 * width) * 2**stage
        for i in range(count):
            layers.append(block(inputs, outputs, 2 if stage and not i else 1))
            inputs = outputs * block.growth
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000))


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, factor: int) -> None:
        super().__init__()
        hidden = inputs * factor
        self.keep = stride == 1 and inputs == outputs
        first = [ConvBnAct(inputs, hidden, 1, act=nn.ReLU6)] if factor > 1 else []
        self.body = nn.Sequential(
            *first,
            ConvBnAct(hidden, hidden, 3, stride, groups=hidden, act=nn.ReLU6),
            ConvBnAct(hidden, outputs, 1, act=None),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.keep else y


def mobilenet_v2() -> nn.Module:
    layers: list[nn.Module] = [ConvBnAct(3, 32, 3, 2, act=nn.ReLU6)]
    inputs = 32
    plan = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for factor, outputs, count, stride in plan:
        for i in range(count):
            layers.append(InvertedResidual(inputs, outputs, stride if i == 0 else 1, factor))
            inputs = outputs
    return nn.Sequential(
        *layers, ConvBnAct(320, 1280, 1, act=nn.ReLU6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)
    )


class Fire(nn.Module):
    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.one, self.three = nn.Conv2d(squeeze, expand, 1), nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.one(x)), F.relu(self.three(x))], 1)


def squeezenet() -> nn.Module:
    """SqueezeNet 1.1, whose poolings round up."""
    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, 2),
        nn.ReLU(),
        pool,
        Fire(64, 16, 64),
        Fire(128, 16, 64),
        pool,
        Fire(128, 32, 128),
        Fire(256, 32, 128),
        pool,
        Fire(256, 48, 192),
        Fire(384, 48, 192),
        Fire(384, 64, 256),
        Fire(512, 64, 256),
        nn.Conv2d(512, 1000, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


class InceptionBlock(nn.Module):
    """1x7 and 7x1 convolutions, two average poolings that differ in whether padding counts, one concat."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.one = ConvBnAct(inputs, width, 1)
        self.seven = nn.Sequential(
            ConvBnAct(inputs, width, 1), ConvBnAct(width, width, (1, 7)), ConvBnAct(width, width, (7, 1))
        )
        self.counting = nn.Sequential(nn.AvgPool2d(3, 1, 1), ConvBnAct(inputs, width, 1))
        self.not_counting = nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False), ConvBnAct(inputs, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.seven(x), self.counting(x), self.not_counting(x)], 1)


def inception() -> nn.Module:
    return nn.Sequential(
        ConvBnAct(3, 20, 3, 2, 0),
        InceptionBlock(20, 12),
        nn.MaxPool2d(3, 2),
        InceptionBlock(48, 20),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(80, 10),
    )


class MBConv(nn.Module):
    """EfficientNet's block: expand, depthwise, squeeze and excite, project."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, factor: int) -> None:
        super().__init__()
        hidden, squeezed = inputs * factor, max(1, inputs // 4)
        self.keep = stride == 1 and inputs == outputs
        self.expand = ConvBnAct(inputs, hidden, 1, act=nn.SiLU) if factor > 1 else nn.Identity()
        self.depthwise = ConvBnAct(hidden, hidden, kernel, stride, groups=hidden, act=nn.SiLU)
        self.squeeze, self.excite = nn.Conv2d(hidden, squeezed, 1), nn.Conv2d(squeezed, hidden, 1)
        self.project = ConvBnAct(hidden, outputs, 1, act=None)

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.expand(x))
        gate = torch.sigmoid(self.excite(F.silu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        y = self.project(y * gate)
        return x + y if self.keep else y


def efficientnet_b0() -> nn.Module:
    layers: list[nn.Module] = [ConvBnAct(3, 32, 3, 2, act=nn.SiLU)]
    inputs = 32
    plan = (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 40, 2, 2, 5),
        (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    )
    for factor, outputs, count, stride, kernel in plan:
        for i in range(count):
            layers.append(MBConv(inputs, outputs, kernel, stride if i == 0 else 1, factor))
            inputs = outputs
    return nn.Sequential(
        *layers, ConvBnAct(320, 1280, 1, act=nn.SiLU), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)
    )


class UNet(nn.Module):
    """Two levels down; up by a transposed convolution and by bilinear resizing; skips by concat."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        w = width
        self.enter = nn.Sequential(ConvBnAct(3, w), ConvBnAct(w, w))
        self.down1, self.down2 = ConvBnAct(w, 2 * w, 3), ConvBnAct(2 * w, 4 * w, 3)
        self.up2 = nn.ConvTranspose2d(4 * w, 2 * w, 2, 2)
        self.join2, self.join1 = ConvBnAct(4 * w, 2 * w), ConvBnAct(3 * w, w)
        self.leave = nn.Conv2d(w, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.enter(x)
        b = self.down1(F.max_pool2d(a, 2))
        c = self.down2(F.max_pool2d(b, 2))
        b = self.join2(torch.cat([self.up2(c), b], 1))
        b = F.interpolate(b, scale_factor=2, mode="bilinear", align_corners=False)
        return self.leave(self.join1(torch.cat([b, a], 1)))


class YoloHead(nn.Module):
    """A detection head: split and concat inside a block, nearest resizing between scales, sigmoid on slices."""

    def __init__(self, width: int = 16, classes: int = 4) -> None:
        super().__init__()
        w = width
        self.stem, self.down = ConvBnAct(3, w, 3, 2, act=nn.SiLU), ConvBnAct(w, 2 * w, 3, 2, act=nn.SiLU)
        self.inner = ConvBnAct(w, w, act=nn.SiLU)
        self.join = ConvBnAct(4 * w, w, 1, act=nn.SiLU)
        self.fine, self.coarse = nn.Conv2d(w, 5 + classes, 1), nn.Conv2d(3 * w, 5 + classes, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = self.stem(x)
        kept, worked = torch.split(self.down(a), self.inner[0].in_channels, 1)
        b = torch.cat([kept, worked, self.inner(worked)], 1)
        up = F.interpolate(b, scale_factor=2, mode="nearest")
        return self.boxes(self.fine(self.join(torch.cat([up, a], 1)))), self.boxes(self.coarse(b))

    @staticmethod
    def boxes(y: Tensor) -> Tensor:
        place, size, score = torch.sigmoid(y[:, :2]) * 2 - 0.5, (torch.sigmoid(y[:, 2:4]) * 2) ** 2, y[:, 4:]
        return torch.cat([place, size, torch.sigmoid(score)], 1).flatten(2).transpose(1, 2)


@dataclass(frozen=True)
class Entry:
    """A network of the zoo: how to make it, the shape of its input without the batch, whether it takes long."""

    make: Callable[[], nn.Module]
    shape: tuple[int, int, int]
    slow: bool = False

    def model(self) -> nn.Module:
        return randomised(self.make())


ZOO: dict[str, Entry] = {
    "lenet5": Entry(lenet5, (1, 28, 28)),
    "alexnet-quarter": Entry(lambda: alexnet(0.25), (3, 224, 224)),
    "alexnet": Entry(alexnet, (3, 224, 224), slow=True),
    "vgg16-32": Entry(lambda: vgg(16, 32), (3, 32, 32)),
    "vgg19-32": Entry(lambda: vgg(19, 32, 0.5), (3, 32, 32)),
    "vgg19-32-full": Entry(lambda: vgg(19, 32), (3, 32, 32), slow=True),
    "vgg16-224": Entry(lambda: vgg(16, 224), (3, 224, 224), slow=True),
    "vgg19-224": Entry(lambda: vgg(19, 224), (3, 224, 224), slow=True),
    "resnet18-64": Entry(lambda: resnet(18, 0.5), (3, 64, 64)),
    "resnet18": Entry(lambda: resnet(18), (3, 224, 224), slow=True),
    "resnet34": Entry(lambda: resnet(34), (3, 224, 224), slow=True),
    "resnet50-64": Entry(lambda: resnet(50, 0.25), (3, 64, 64)),
    "resnet50": Entry(lambda: resnet(50), (3, 224, 224), slow=True),
    "mobilenet_v2-64": Entry(mobilenet_v2, (3, 64, 64)),
    "mobilenet_v2": Entry(mobilenet_v2, (3, 224, 224), slow=True),
    "squeezenet-80": Entry(squeezenet, (3, 80, 80)),
    "squeezenet": Entry(squeezenet, (3, 224, 224), slow=True),
    "inception": Entry(inception, (3, 37, 37)),
    "efficientnet_b0-64": Entry(efficientnet_b0, (3, 64, 64)),
    "efficientnet_b0": Entry(efficientnet_b0, (3, 224, 224), slow=True),
    "unet": Entry(UNet, (3, 48, 64)),
    "yolo_head": Entry(YoloHead, (3, 64, 96)),
}


def to_onnx(model: nn.Module, example: Tensor, dynamic_batch: bool = False) -> Any:
    """The model as torch.onnx.export writes it, as a ModelProto."""
    import onnx

    file = io.BytesIO()
    shapes = ({0: torch.export.Dim("batch")},) if dynamic_batch else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(model, (example,), dynamo=True, dynamic_shapes=shapes, verbose=False)
        assert program is not None
        program.save(file)
    return onnx.load_from_string(file.getvalue())
