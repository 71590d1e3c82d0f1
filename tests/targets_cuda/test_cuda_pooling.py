"""Pooling by the convolution before it: right wherever a tile puts the four pixels, apart where they cannot meet."""

from __future__ import annotations

import functools
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lhcc.targets.cuda.pack import Candidate, Problem  # noqa: E402
from tests.targets_cuda.carried import TOLERANCE, relative_error  # noqa: E402
from tests.targets_cuda.emulation import compile_without_gpu, emulated_gpu  # noqa: E402

PRECISIONS = ("fp16", "fp32")
# images, inputs, outputs, rows, columns, kernel; which columns a tile has is drawn among those that pooling can use
TAKEN = [
    (1, 32, 32, 8, 8, 3), (2, 40, 48, 16, 16, 3), (3, 64, 64, 4, 4, 3), (5, 96, 64, 2, 2, 3), (2, 33, 40, 12, 32, 3),
    (2, 32, 32, 9, 17, 3), (3, 32, 64, 7, 19, 5),
]  # fmt: skip


def _layer(inputs: int, outputs: int, kernel: int, **more: Any) -> Any:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **more)
    tiles = torch.rand(-(-outputs // 16), -(-conv.weight.shape[1] // 32), kernel, kernel) < 0.6
    kept = tiles.repeat_interleave(16, 0)[:outputs].repeat_interleave(32, 1)[:, : conv.weight.shape[1]]
    with torch.no_grad():
        conv.weight *= kept
    return conv


@functools.cache
def _taken() -> list[tuple[Any, Any, Any, str]]:
    torch.manual_seed(0)
    usual, rng = Problem.ranked, np.random.default_rng(0)

    def ranked(problem: Problem) -> list[Candidate]:
        pool = [c for c in usual(problem) if c.choice.height % 2 == 0 and c.choice.width in (2, 4, 8, 16)]
        pool = [c for c in pool if c.choice.width != 16 or c.choice.pixels % 2 == 0]
        width = int(rng.choice(sorted({c.choice.width for c in pool})))
        pool = [c for c in pool if c.choice.width == width]
        return [pool[int(rng.integers(len(pool)))]]

    nets = []
    for images, inputs, outputs, rows, columns, kernel in TAKEN:
        for activation in ([nn.ReLU()], []):
            net = nn.Sequential(_layer(inputs, outputs, kernel), *activation, nn.MaxPool2d(2)).eval()
            nets.append((net, torch.randn(images, inputs, rows, columns)))
    calls = [
        (net, f"cuda:arch=sm_90,precision={precision}", {"inputs": (x,)}) for net, x in nets for precision in PRECISIONS
    ]
    with patch.object(Problem, "ranked", ranked):
        executables = compile_without_gpu(*calls)
    with torch.no_grad():
        right = [net.double()(x.double()).numpy() for net, x in nets]
    return [
        (nets[number // 2][1].numpy(), right[number // 2], executable, PRECISIONS[number % 2])
        for number, executable in enumerate(executables)
    ]


@pytest.mark.parametrize("number", range(len(TAKEN) * 4))
def test_the_largest_of_four_is_stored(number: int) -> None:
    x, expected, executable, precision = _taken()[number]
    assert "max_pool2d" not in [layer.op for layer in executable.layers]
    with emulated_gpu():
        got = executable(x)
    schedules = [layer.schedule for layer in executable.program.layers]
    assert relative_error(got, expected) <= TOLERANCE[precision], schedules


def test_tiles_of_every_usable_width_were_drawn() -> None:
    schedules = " ".join(layer.schedule for _, _, executable, _ in _taken() for layer in executable.program.layers)
    assert all(f"x{width} px" in schedules for width in (2, 4, 8, 16))


# images, inputs, outputs, rows, columns, kernel, stride
OVERLAPPING = [
    (1, 3, 40, 56, 56, 7, 2), (2, 32, 32, 28, 28, 3, 1), (1, 20, 16, 55, 56, 3, 2), (1, 30, 17, 55, 28, 3, 1),
]
MANNER = ("cuda:arch=sm_90,precision=fp16", "cuda:arch=sm_75,precision=fp16", "cuda:arch=sm_80")


@functools.cache
def _overlapping() -> list[tuple[Any, Any, Any, str]]:
    torch.manual_seed(2)
    usual, rng = Problem.ranked, np.random.default_rng(1)

    def ranked(problem: Problem) -> list[Candidate]:
        found = [c for c in usual(problem) if 16 * c.choice.pixels * c.choice.across in (128, 256)]
        return [found[int(rng.integers(len(found)))]]

    found, calls = [], []
    for images, inputs, outputs, rows, columns, kernel, stride in OVERLAPPING:
        conv = _layer(inputs, outputs, kernel, stride=stride)
        net = nn.Sequential(conv, *([nn.ReLU()] if inputs > 3 else []), nn.MaxPool2d(3, 2, 1)).eval()
        x = torch.randn(images, inputs, rows, columns)
        calls += [(net, target, {"inputs": (x,)}) for target in MANNER]
        found += [(net, x)] * len(MANNER)
    with patch.object(Problem, "ranked", ranked):
        executables = compile_without_gpu(*calls)
    with torch.no_grad():
        right = [net.double()(x.double()).numpy() for net, x in found]
    return [
        (x.numpy(), right[number], executables[number], MANNER[number % len(MANNER)])
        for number, (_, x) in enumerate(found)
    ]


@pytest.mark.parametrize("number", range(len(OVERLAPPING) * len(MANNER)))
def test_windows_that_overlap_are_taken_in(number: int) -> None:
    x, expected, executable, target = _overlapping()[number]
    assert "max_pool2d" not in [layer.op for layer in executable.layers]
    with emulated_gpu():
        got = executable(x)
    assert relative_error(got, expected) <= TOLERANCE["fp16" if "fp16" in target else "fp32"]


def test_overlapping_windows_are_checked_apart_from_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their numbers, as the processor computes them from the same tables."""
    monkeypatch.setenv("LHCC_VERIFY", "2")
    torch.manual_seed(3)
    net = nn.Sequential(_layer(3, 40, 7, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)).eval()
    compile_without_gpu((net, "cuda:arch=sm_90,precision=fp16", {"inputs": (torch.randn(1, 3, 45, 62),)}))


def test_few_pixels_would_compute_too_much_twice() -> None:
    net, x = nn.Sequential(_layer(32, 32, 3), nn.MaxPool2d(3, 2, 1)).eval(), torch.randn(1, 32, 10, 10)
    (executable,) = compile_without_gpu((net, "cuda:arch=sm_90,precision=fp16", {"inputs": (x,)}))
    assert any("outputs twice" in reason.text for reason in executable.program.reasons)


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = _layer(32, 32, 3)

    def forward(self, x: Any) -> Any:
        return nn.functional.max_pool2d(self.conv(x) + x, 2)


class _TwoUsers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = _layer(32, 32, 3)

    def forward(self, x: Any) -> Any:
        y = self.conv(x)
        return nn.functional.max_pool2d(y, 2) + nn.functional.avg_pool2d(y, 2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.Sequential(_layer(32, 32, 3), nn.MaxPool2d(3, 2)), "not 2 x 2"),
        (lambda: nn.Sequential(_layer(32, 32, 1), nn.MaxPool2d(2)), "one row of pixels"),
        (lambda: nn.Sequential(_layer(32, 32, 3, groups=32), nn.MaxPool2d(2)), "depthwise"),
        (_Residual, "adds a residual"),
        (_TwoUsers, "other users"),
    ],
)
def test_others_stay_apart_and_say_why(make: Any, words: str) -> None:
    torch.manual_seed(1)
    net, x = make().eval(), torch.randn(2, 32, 8, 8)
    (executable,) = compile_without_gpu((net, "cuda:arch=sm_90,precision=fp16", {"inputs": (x,)}))
    assert "max_pool2d" in [layer.op for layer in executable.layers]
    assert any(words in reason.text for reason in executable.program.reasons if reason.pass_name == "take_in_pooling")
    with torch.no_grad():
        expected = net.double()(x.double()).numpy()
    with emulated_gpu():
        got = executable(x.numpy())
    assert relative_error(got, expected) <= TOLERANCE["fp16"]
