"""Networks whose inputs and outputs are reordered where their layout changes compute what PyTorch does in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import lhcc  # noqa: E402


def scattered(inputs: int, outputs: int, kernel: int, period: int, fixed: int = 0) -> Any:
    """A layer whose outputs read the inputs of equal remainder, and all inputs at tap `fixed`."""
    layer = torch.nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    alike = torch.arange(outputs)[:, None] % period == torch.arange(inputs) % period
    mask = alike[:, :, None].repeat(1, 1, kernel * kernel)
    mask[:, :, fixed] |= fixed > 0
    layer.weight.data *= mask.reshape(layer.weight.shape)
    return layer


class Ends(torch.nn.Module):  # type: ignore[name-defined]
    """Two inputs, a residual from the first, and two outputs, of which one is read on."""

    def __init__(self, channels: int, others: int) -> None:
        super().__init__()
        self.first = scattered(channels, channels, 3, 4)
        self.other = scattered(others, channels, 1, 4)
        self.last = scattered(channels, others, 3, 4, fixed=4)

    def forward(self, x: Any, y: Any) -> tuple[Any, Any]:
        middle = torch.relu(self.first(x) + x)
        return self.last(middle + self.other(y)), middle


def compiled(channels: int, others: int, images: int, side: tuple[int, int], **options: Any) -> tuple[Any, Any, Any]:
    torch.manual_seed(channels)
    model = Ends(channels, others).eval()
    inputs = torch.randn(images, channels, *side), torch.randn(images, others, *side)
    with torch.no_grad():
        expected = [y.numpy() for y in model.double()(*(x.double() for x in inputs))]
    executable = lhcc.compile(model.float(), inputs=inputs, **options)
    return executable, inputs, expected


def conversions(executable: Any) -> list[str]:
    return [layer.op for layer in executable.program.layers if layer.op in ("to_blocked", "from_blocked")]


@pytest.mark.parametrize(
    ("channels", "others", "images", "side", "threads"),
    [(64, 96, 1, (7, 5), 1), (80, 68, 3, (4, 9), 1), (70, 64, 2, (5, 5), 2)],
)
def test_all_ends(channels: int, others: int, images: int, side: tuple[int, int], threads: int) -> None:
    executable, inputs, expected = compiled(channels, others, images, side, threads=threads)
    executable._arena.view(np.float32)[...] = np.nan  # poison: what is not written shows
    for got, right in zip(executable(*inputs), expected, strict=True):
        np.testing.assert_allclose(got.numpy(), right, rtol=1e-4, atol=1e-4 * float(np.abs(right).max()))
    ordered = [reason for reason in executable.program.reasons if reason.text.startswith("channels reordered")]
    assert {reason.layer for reason in ordered} == {"first", "last", "other"}
    assert conversions(executable) == ["to_blocked"] * 2 + ["from_blocked"] * 2, "no more than without an order"
