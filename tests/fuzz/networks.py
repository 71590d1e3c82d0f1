"""Random small CNNs: a list of steps drawn from a seed, and the PyTorch module that performs them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: dict[str, Any] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardswish": F.hardswish,
    "gelu": F.gelu,
    "leaky": lambda x: F.leaky_relu(x, 0.1),
}


@dataclass(frozen=True)
class Step:
    """One thing that a network does to its tensor, e.g. Step("conv", {"kernel": (3, 3), ...})."""

    kind: str
    how: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(f'{k}={v}' for k, v in self.how.items())})"


@dataclass(frozen=True)
class Network:
    """An input shape, what is done to it, and the seed of the weights."""

    shape: tuple[int, int, int, int]
    steps: tuple[Step, ...]
    seed: int

    def __str__(self) -> str:
        return f"input {'x'.join(map(str, self.shape))}: " + ", ".join(map(str, self.steps))

    def without(self, i: int) -> Network:
        return Network(self.shape, self.steps[:i] + self.steps[i + 1 :], self.seed)


def draw(seed: int) -> Network:
    """The network of a seed."""
    dice = random.Random(seed)
    shape = (
        dice.choice([1, 1, 2, 3, 4]),
        dice.choice([1, 2, 3, 5, 8, 13, 16, 24, 33]),
        dice.randint(5, 24),
        dice.randint(5, 24),
    )
    return Network(shape, tuple(_step(dice) for _ in range(dice.randint(1, 7))), seed)


def _step(dice: random.Random) -> Step:
    kind = dice.choices(
        [
            "conv",
            "depthwise",
            "transposed",
            "norm",
            "act",
            "max_pool",
            "avg_pool",
            "residual",
            "concat",
            "resize",
            "pad",
            "gate",
            "split",
            "head",
        ],
        [10, 3, 3, 3, 5, 2, 2, 3, 3, 1, 1, 1, 1, 1],
    )[0]
    channels = dice.choice([1, 3, 4, 7, 8, 16, 17, 20, 32, 40])
    if kind in ("conv", "depthwise"):
        kernel = dice.choice([(1, 1), (2, 2), (3, 3), (3, 3), (5, 5), (1, 7), (7, 1), (3, 2), (7, 7)])
        how: dict[str, Any] = {
            "kernel": kernel,
            "stride": dice.choice([(1, 1), (1, 1), (2, 2), (1, 2), (3, 3)]),
            "padding": tuple(dice.choice([0, k // 2, k // 2, k - 1]) for k in kernel),
            "dilation": dice.choice([(1, 1), (1, 1), (1, 1), (2, 2), (1, 2)]),
            "bias": dice.random() < 0.6,
            "density": dice.choice([1.0, 1.0, 0.5, 0.2, 0.0]),
        }
        if kind == "conv":
            how |= {"channels": channels, "groups": dice.choice([1, 1, 1, 2, 4])}
        else:
            how |= {"multiple": dice.choice([1, 1, 2])}
        return Step(kind, how)
    if kind == "transposed":
        stride = dice.choice([(1, 1), (2, 2), (2, 1), (3, 3)])
        kernel = dice.choice([(1, 1), (2, 2), (3, 3), (4, 4), (3, 5)])
        return Step(
            kind,
            {
                "channels": channels,
                "kernel": kernel,
                "stride": stride,
                "groups": dice.choice([1, 1, 2]),
                "padding": tuple(dice.randint(0, k // 2) for k in kernel),
                "extra": tuple(dice.randint(0, s - 1) for s in stride),
                "dilation": dice.choice([(1, 1), (1, 1), (2, 2)]),
                "bias": dice.random() < 0.6,
            },
        )
    if kind == "act":
        return Step(kind, {"name": dice.choice(list(ACTIVATIONS))})
    if kind in ("max_pool", "avg_pool"):
        kernel = dice.choice([(2, 2), (3, 3), (3, 2), (5, 5)])
        how = {
            "kernel": kernel,
            "stride": dice.choice([(1, 1), (2, 2), (2, 3)]),
            "ceil": dice.random() < 0.4,
            "padding": tuple(dice.randint(0, k // 2) for k in kernel),
        }
        return Step(kind, how | ({"counting": dice.random() < 0.5} if kind == "avg_pool" else {}))
    if kind == "residual":
        return Step(
            kind,
            {"kernel": dice.choice([1, 3]), "norm": dice.random() < 0.5, "act": dice.choice([None, "relu", "silu"])},
        )
    if kind == "concat":
        return Step(kind, {"channels": [dice.choice([1, 4, 7, 8, 16]) for _ in range(dice.randint(2, 3))]})
    if kind == "resize":
        return Step(kind, {"mode": dice.choice(["nearest", "bilinear"]), "size": dice.choice([2, 2, 3, (11, 14)])})
    if kind == "pad":
        return Step(kind, {"widths": [dice.randint(0, 2) for _ in range(4)]})
    if kind == "head":
        return Step(kind, {"channels": channels})
    return Step(kind)


class Model(nn.Module):
    """Performs the steps of a network; a step that does not fit the tensor that it meets is left out."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        torch.manual_seed(network.seed)
        self.parts = nn.ModuleList()
        self.done: list[Step] = []
        x = torch.randn(network.shape)
        for step in network.steps:
            part = _part(step, x)
            if part is None:
                continue
            with torch.no_grad():
                try:
                    y = part.eval()(x)
                except RuntimeError:  # e.g. a window larger than the image
                    continue
            if 0 in y.shape or y.numel() > 300_000:
                continue
            # Random weights and many additions: keep the numbers of every layer near one.
            for parameter in part.parameters():
                if parameter.dim() > 1 and float(y.std()) > 3:
                    parameter.data /= float(y.std()) / 2
            with torch.no_grad():
                x = part(x)
            self.parts.append(part)
            self.done.append(step)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x * 1.0 if not len(self.parts) else x


class _Apply(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


class _Branches(nn.Module):
    """Several modules on one tensor, and how their results are joined."""

    def __init__(self, parts: list[nn.Module], join: Any) -> None:
        super().__init__()
        self.parts, self.join = nn.ModuleList(parts), join

    def forward(self, x: Tensor) -> Any:
        return self.join(x, [part(x) for part in self.parts])


def _sparse(conv: nn.Conv2d, density: float) -> nn.Conv2d:
    """Zeros in whole blocks of 4 outputs x 2 inputs per tap, as structured pruning leaves them."""
    if density < 1:
        out, inner, *taps = conv.weight.shape
        keep = torch.rand(-(-out // 4), -(-inner // 2), *taps) < density
        mask = keep.repeat_interleave(4, 0)[:out].repeat_interleave(2, 1)[:, :inner]
        conv.weight.data *= mask
    return conv


def _norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    for value, low in ((norm.weight, 0.5), (norm.bias, -0.5), (norm.running_mean, -0.5), (norm.running_var, 0.5)):
        assert value is not None
        value.data.uniform_(low, low + 1)
    return norm


def _part(step: Step, x: Tensor) -> nn.Module | None:
    """The module for a step, None when it cannot be applied to x."""
    how = step.how
    if x.dim() != 4:
        return _Apply(ACTIVATIONS[how["name"]]) if step.kind == "act" else None
    c = x.shape[1]
    if step.kind == "conv":
        groups = how["groups"] if c % how["groups"] == 0 else 1
        out = -(-how["channels"] // groups) * groups
        conv = nn.Conv2d(c, out, how["kernel"], how["stride"], how["padding"], how["dilation"], groups, how["bias"])
        return _sparse(conv, how["density"])
    if step.kind == "depthwise":
        out = c * how["multiple"]
        return nn.Conv2d(c, out, how["kernel"], how["stride"], how["padding"], how["dilation"], c, how["bias"])
    if step.kind == "transposed":
        groups = how["groups"] if c % how["groups"] == 0 else 1
        return nn.ConvTranspose2d(
            c,
            -(-how["channels"] // groups) * groups,
            how["kernel"],
            how["stride"],
            how["padding"],
            how["extra"],
            groups,
            how["bias"],
            how["dilation"],
        )
    if step.kind == "norm":
        return _norm(c)
    if step.kind == "act":
        return _Apply(ACTIVATIONS[how["name"]])
    if step.kind == "max_pool":
        return nn.MaxPool2d(how["kernel"], how["stride"], how["padding"], ceil_mode=how["ceil"])
    if step.kind == "avg_pool":
        return nn.AvgPool2d(how["kernel"], how["stride"], how["padding"], how["ceil"], how["counting"])
    if step.kind == "residual":
        conv = nn.Conv2d(c, c, how["kernel"], padding=how["kernel"] // 2)
        body = nn.Sequential(conv, _norm(c)) if how["norm"] else nn.Sequential(conv)
        act = ACTIVATIONS.get(how["act"], lambda y: y)
        return _Branches([body], lambda x, parts: act(x + parts[0]))
    if step.kind == "concat":
        return _Branches([nn.Conv2d(c, n, 1) for n in how["channels"]], lambda x, parts: torch.cat([x, *parts], 1))
    if step.kind == "resize":
        size = how["size"]
        target = {"size": size} if isinstance(size, tuple) else {"scale_factor": size}
        return _Apply(lambda x: F.interpolate(x, mode=how["mode"], **target))
    if step.kind == "pad":
        return _Apply(lambda x: F.pad(x, how["widths"]))
    if step.kind == "gate":
        return _Branches([nn.Conv2d(c, c, 1)], lambda x, parts: x * torch.sigmoid(F.adaptive_avg_pool2d(parts[0], 1)))
    if step.kind == "split":
        if c < 2:
            return None
        return _Apply(lambda x: torch.cat(torch.split(x, [x.shape[1] // 2, x.shape[1] - x.shape[1] // 2], 1)[::-1], 1))
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, how["channels"]))
