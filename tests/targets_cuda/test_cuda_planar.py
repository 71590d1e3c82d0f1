"""Convolutions that read a few channels as they are: right in every geometry, and no others are taken for such."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lhcc.targets.cuda.planar import BESIDE, PIXEL, reads_planar, regrouped  # noqa: E402
from tests.targets_cuda.carried import TOLERANCE, relative_error  # noqa: E402
from tests.targets_cuda.emulation import compile_without_gpu, emulated_gpu  # noqa: E402

# images, inputs, outputs, rows, columns; kernel, stride, padding, groups
CASES: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 40, 21, 18), {"kernel_size": 7, "stride": 2, "padding": 3}),
    ((3, 3, 64, 16, 16), {"kernel_size": 3, "padding": 1}),
    ((2, 1, 20, 13, 11), {"kernel_size": 5, "padding": 2}),
    ((2, 2, 33, 9, 37), {"kernel_size": (1, 9), "stride": (2, 4), "padding": (0, 3)}),
    ((1, 4, 16, 9, 9), {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 2}),
    ((1, 8, 16, 9, 9), {"kernel_size": 3, "dilation": (2, 1)}),
    ((5, 3, 16, 4, 4), {"kernel_size": 1}),
]
TARGETS = {"cuda:arch=sm_90,precision=fp16": "fp16", "cuda:arch=sm_75,precision=fp16": "fp16",
           "cuda:arch=sm_86,precision=bf16": "bf16"}  # fmt: skip


@functools.cache
def _compiled() -> list[tuple[np.ndarray, np.ndarray, Any, str]]:
    torch.manual_seed(0)
    nets, calls = [], []
    for (images, inputs, outputs, rows, columns), geometry in CASES:
        net = nn.Sequential(nn.Conv2d(inputs, outputs, **geometry), nn.ReLU()).eval()
        nets.append((net, torch.randn(images, inputs, rows, columns)))
        calls += [(net, target, {"inputs": (nets[-1][1],)}) for target in TARGETS]
    executables = compile_without_gpu(*calls)
    with torch.no_grad():
        right = [net.double()(x.double()).numpy() for net, x in nets]
    every = ((number, precision) for number in range(len(CASES)) for precision in TARGETS.values())
    return [
        (nets[number][1].numpy(), right[number], executable, precision)
        for executable, (number, precision) in zip(executables, every, strict=True)
    ]


@pytest.mark.parametrize("number", range(len(CASES) * len(TARGETS)))
def test_the_map_is_read_as_it_is(number: int) -> None:
    x, expected, executable, precision = _compiled()[number]
    assert [layer.op for layer in executable.layers] == ["conv2d", "from_blocked"]
    with emulated_gpu():
        got = executable(x)
    assert relative_error(got, expected) <= TOLERANCE[precision]


def test_numbers_are_checked_apart_from_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LHCC_VERIFY", "2")
    torch.manual_seed(1)
    (images, inputs, outputs, rows, columns), geometry = CASES[0]
    net = nn.Conv2d(inputs, outputs, **geometry).eval()
    x = torch.randn(images, inputs, rows, columns)
    compile_without_gpu((net, "cuda:arch=sm_90,precision=fp16", {"inputs": (x,)}))


@pytest.mark.parametrize(("channels", "columns", "across"), [(3, 7, 2), (3, 3, 1), (1, 11, 1), (2, 9, 4), (8, 2, 1)])
def test_weights_stand_where_pixels_do(channels: int, columns: int, across: int) -> None:
    rng = np.random.default_rng(0)
    weight, row = rng.standard_normal((5, channels, 2, columns)), rng.standard_normal((channels, 64))
    grouped = regrouped(weight, across)
    assert grouped.shape[:3] == (5, BESIDE * PIXEL, 2)
    for tap in range(2):
        wanted = np.einsum("ock,ck->o", weight[:, :, tap], row[:, :columns])
        found = np.zeros(5)
        for place in range(grouped.shape[3]):
            pixels = np.zeros((BESIDE, PIXEL))
            for beside in range(BESIDE):
                start = (place * BESIDE + beside) * across
                pixels[beside, : channels * across] = row[:, start : start + across].reshape(-1)
            found += grouped[:, :, tap, place] @ pixels.reshape(-1)
        np.testing.assert_allclose(found, wanted)


def test_others_are_not_read_so() -> None:
    usual: dict[str, Any] = {"strides": (2, 2), "dilation": (1, 1), "transposed": False}
    assert reads_planar(3, usual, "float16") and reads_planar(4, usual, "bfloat16")
    assert not reads_planar(5, usual, "float16")
    assert not reads_planar(3, usual, "float32")
    assert not reads_planar(3, usual | {"dilation": (1, 2)}, "float16")
    assert not reads_planar(3, usual | {"transposed": True}, "float16")
