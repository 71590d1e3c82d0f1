"""Where a convolution's output pixels read: axes, register tiles of pixels, and which taps are inside the image.

Nothing is ever read outside the input, so no activation carries a border of zeros: a tile at the edge leaves out the
products whose input would be padding.  A transposed convolution is the same thing with one *line* per output phase.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """Equally spaced outputs of one axis: output `first + i * step` reads input `i * stride + deltas[tap]`."""

    first: int
    step: int
    count: int
    stride: int
    deltas: tuple[int | None, ...]  # None: this tap never meets these outputs
    size: int  # extent of the input axis

    def clip(self, start: int, count: int, tap: int) -> tuple[int, int]:
        """The half-open part of outputs start .. start+count (relative to start) whose input is inside the image."""
        delta = self.deltas[tap]
        if delta is None:
            return 0, 0
        low = max(0, -(-(-delta - start * self.stride) // self.stride))
        high = min(count, (self.size - 1 - delta - start * self.stride) // self.stride + 1)
        return (low, high) if low < high else (0, 0)


def conv_lines(size: int, out: int, kernel: int, stride: int, pad: int, dilation: int) -> list[Line]:
    return [Line(0, 1, out, stride, tuple(tap * dilation - pad for tap in range(kernel)), size)]


def transposed_lines(size: int, out: int, kernel: int, stride: int, pad: int, dilation: int) -> list[Line]:
    lines = []
    for phase in range(min(stride, out)):
        shifts = [phase + pad - tap * dilation for tap in range(kernel)]
        deltas = tuple(shift // stride if shift % stride == 0 else None for shift in shifts)
        lines.append(Line(phase, stride, -(-(out - phase) // stride), 1, deltas, size))
    return lines


# rows low..high, then columns low..high, relative to the tile; where the taps of a kernel row are merged into one step,
# a pair of columns for each of them
Rect = tuple[int, ...]


def area(rect: Rect | None) -> int:
    """Pixels of the rectangle, summed over merged taps."""
    return 0 if rect is None else (rect[1] - rect[0]) * sum(b - a for a, b in zip(rect[2::2], rect[3::2], strict=True))


@dataclass(frozen=True)
class Tile:
    """A block of output pixels computed in registers; `rects[tap]` are its pixels for which the tap is in the image.
    With merged taps there is one rectangle per kernel row."""

    row: Line
    column: Line
    y: int
    x: int
    height: int
    width: int
    rects: tuple[Rect | None, ...]


def splits(pixels: int, vectors: int, depth: int, accumulators: int) -> int:
    """Independent partial sums per pixel, so that a tile of few pixels still hides the latency of the multiply-add."""
    count = 1
    while pixels * vectors * count * 2 <= min(16, accumulators) and depth % (2 * count) == 0:
        count *= 2
    return count
