"""Borders of ONNX windows."""

from __future__ import annotations

from typing import Any

from lhcc.approximation.graph import attribute


def padding_of(
    node: Any, kernel: Any, strides: Any, dilations: Any, shape: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of a window that passes over an image of `shape` (rows, columns, ...)."""
    auto = attribute(node, "auto_pad", b"NOTSET").decode()
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            for size, k, s, d in zip(shape[:2], kernel, strides, dilations, strict=False)
        ]
        first = [t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in total]
        return first[0], first[1], total[0] - first[0], total[1] - first[1]
    pads = attribute(node, "pads", [0, 0, 0, 0])
    return pads[0], pads[1], pads[2], pads[3]
