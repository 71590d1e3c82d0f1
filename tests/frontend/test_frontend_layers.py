"""Pooling geometry against PyTorch's rules, and the shapes that convolutions over one dimension go through."""

from __future__ import annotations

import itertools

import pytest

from lhcc.frontend.layers import pooled_length

torch = pytest.importorskip("torch")


def test_number_of_windows() -> None:
    for size, window, stride, padding, dilation, ceil in itertools.product(
        (4, 5, 7), (1, 2, 3), (1, 2, 3), (0, 1), (1, 2), (False, True)
    ):
        if padding > window // 2 or dilation * (window - 1) >= size + 2 * padding:
            continue
        wanted = torch.nn.MaxPool1d(window, stride, padding, dilation, ceil_mode=ceil)(torch.zeros(1, 1, size)).shape[2]
        assert pooled_length(size, window, stride, padding, padding, dilation, ceil) == wanted


def test_maxima_over_long_windows() -> None:
    import lhcc

    model = torch.nn.MaxPool2d((2, 40), (1, 7), (1, 20), (1, 2))
    x = torch.randn(2, 3, 5, 90, generator=torch.Generator().manual_seed(0))
    assert (lhcc.compile(model, inputs=x)(x.numpy()) == model(x).numpy()).all()
