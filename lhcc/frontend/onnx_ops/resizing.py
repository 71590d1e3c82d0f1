"""Resize and Upsample: from their many ways of giving a size to the one of lhcc.frontend.resize."""

from __future__ import annotations

from typing import Any

import numpy as np

from lhcc.frontend.onnx_ops.registry import Node, converter
from lhcc.frontend.resize import resize


@converter("Resize")
def onnx_resize(node: Node) -> Any:
    if node.opset < 11:  # operands (data, scales), and always asymmetric
        return _upsampled(node, node.constant(1))
    shape = node.shape()
    axes = [a % len(shape) for a in node.attr("axes", range(len(shape)))]
    roi, given_scales, given_sizes = (node.constant(i) for i in (1, 2, 3))
    scales, sizes = [1.0] * len(shape), list(shape)
    exact = None
    if given_scales is not None and given_scales.size:
        for axis, scale in zip(axes, given_scales, strict=True):
            scales[axis] = float(scale)
            sizes[axis] = int(np.floor(shape[axis] * float(scale)))
        exact = scales
    elif given_sizes is not None:
        wanted = [int(n) for n in given_sizes]
        policy = node.attr("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            ratios = [n / shape[axis] for n, axis in zip(wanted, axes, strict=True)]
            scale = min(ratios) if policy == "not_larger" else max(ratios)
            wanted = [int(np.floor(shape[axis] * scale + 0.5)) for axis in axes]
            exact = scales
            for axis in axes:
                exact[axis] = scale
        for axis, size in zip(axes, wanted, strict=True):
            sizes[axis] = size
    else:
        raise NotImplementedError("neither scales nor sizes")
    ranges = None
    if roi is not None and roi.size:
        ranges = [0.0] * len(shape) + [1.0] * len(shape)
        for i, axis in enumerate(axes):
            ranges[axis], ranges[axis + len(shape)] = float(roi[i]), float(roi[i + len(axes)])
    return resize(
        node.expr(0),
        sizes,
        exact,
        node.attr("mode", "nearest"),
        node.attr("coordinate_transformation_mode", "half_pixel"),
        node.attr("nearest_mode", "round_prefer_floor"),
        ranges,
        node.attr("cubic_coeff_a", -0.75),
        bool(node.attr("exclude_outside", 0)),
        node.attr("extrapolation_value", 0.0),
        bool(node.attr("antialias", 0)),
    )


@converter("Upsample")
def upsample(node: Node) -> Any:
    return _upsampled(node, np.asarray(node.attr("scales")) if node.opset < 9 else node.constant(1))


def _upsampled(node: Node, scales: Any) -> Any:
    sizes = [int(np.floor(n * float(s))) for n, s in zip(node.shape(), scales, strict=True)]
    mode = node.attr("mode", "nearest")
    return resize(node.expr(0), sizes, [float(s) for s in scales], mode, "asymmetric", "floor")
