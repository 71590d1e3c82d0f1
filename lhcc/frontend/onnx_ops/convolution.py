"""Conv, ConvTranspose, BatchNormalization, Gemm, MatMul: what carries the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import relax

from lhcc.frontend import layers
from lhcc.frontend.onnx_ops.registry import Node, converter


def paddings(
    node: Node, spatial: Sequence[int], window: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Begin and end paddings, from `pads` or from `auto_pad`."""
    rank, mode = len(window), node.attr("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        pads = list(node.attr("pads", [0] * (2 * rank)))
        return pads[:rank], pads[rank:]
    if mode == "VALID":
        return [0] * rank, [0] * rank
    total = [
        max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        for n, k, s, d in zip(spatial, window, strides, dilation, strict=True)
    ]
    return _halves(total, mode)


def _halves(total: Sequence[int], mode: str) -> tuple[list[int], list[int]]:
    """SAME_UPPER puts the odd element at the end, SAME_LOWER at the beginning."""
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return (small, large) if mode == "SAME_UPPER" else (large, small)


@converter("Conv")
def conv(node: Node) -> Any:
    window = node.shape(1)[2:]
    rank = len(window)
    if not 1 <= rank <= 3:
        raise NotImplementedError(f"convolution over {rank} dimensions")
    strides, dilation = node.attr("strides", [1] * rank), node.attr("dilations", [1] * rank)
    before, after = paddings(node, node.shape()[2:], window, strides, dilation)
    data = node.value(0)
    if min(*before, *after) < 0:  # a negative padding crops
        data, before, after = _cropped(node, before, after)
    return layers.convolution(
        data, node.value(1), node.optional(2), strides, before, after, dilation, node.attr("group", 1)
    )


def _cropped(node: Node, before: list[int], after: list[int]) -> tuple[Any, list[int], list[int]]:
    spatial, rank = node.shape()[2:], len(before)
    data = relax.op.strided_slice(
        node.expr(0),
        list(range(2, rank + 2)),
        [max(-b, 0) for b in before],
        [n - max(-a, 0) for n, a in zip(spatial, after, strict=True)],
        [1] * rank,
    )
    return node.emit(data), [max(b, 0) for b in before], [max(a, 0) for a in after]


@converter("ConvTranspose")
def conv_transpose(node: Node) -> Any:
    window, spatial = node.shape(1)[2:], node.shape()[2:]
    rank = len(window)
    if not 1 <= rank <= 3:
        raise NotImplementedError(f"transposed convolution over {rank} dimensions")
    strides, dilation = node.attr("strides", [1] * rank), node.attr("dilations", [1] * rank)
    extra = list(node.attr("output_padding", [0] * rank))
    natural = [
        s * (n - 1) + d * (k - 1) + 1 + e
        for n, k, s, d, e in zip(spatial, window, strides, dilation, extra, strict=True)
    ]
    mode, wanted = node.attr("auto_pad", "NOTSET"), node.attr("output_shape")
    if wanted is None and mode in ("SAME_UPPER", "SAME_LOWER"):
        # Padding cannot make a small kernel's result larger: ONNX's shape inference leaves it as it is, and so do we.
        wanted = [min(n * s, most) for n, s, most in zip(spatial, strides, natural, strict=True)]
    if wanted is not None:
        total = [n - w for n, w in zip(natural, wanted[-rank:], strict=True)]
        # A result larger than the natural one: rows are added at the end, as output_padding does.
        extra = [e + max(-t, 0) for e, t in zip(extra, total, strict=True)]
        before, after = _halves([max(t, 0) for t in total], "SAME_UPPER" if mode == "SAME_UPPER" else "SAME_LOWER")
    else:
        before, after = paddings(node, spatial, window, strides, dilation)
    return layers.transposed_convolution(
        node.value(0), node.value(1), node.optional(2), strides, before, after, dilation, node.attr("group", 1), extra
    )


@converter("BatchNormalization")
def batch_normalization(node: Node) -> Any:
    training = node.attr("training_mode", 0) or (node.opset < 7 and not node.attr("is_test", 0))
    if training or any(node.outputs[1:]):
        raise NotImplementedError("batch normalisation in training mode")
    data, gamma, beta, mean, variance = node.inputs
    return layers.batch_norm(data, gamma, beta, mean, variance, node.attr("epsilon", 1e-5))


@converter("Gemm")
def gemm(node: Node) -> Any:
    alpha, beta = node.attr("alpha", 1.0), node.attr("beta", 1.0)
    left = _transposed(node.value(0), node) if node.attr("transA", 0) else node.value(0)
    right = _transposed(node.value(1), node) if node.attr("transB", 0) else node.value(1)
    out = relax.op.matmul(layers.expr(left), layers.expr(right))
    bias = node.optional(2)
    if alpha != 1:
        out = relax.op.multiply(out, relax.const(alpha, node.dtype()))
    if bias is None or beta == 0:
        return out
    if beta != 1:
        factor = relax.const(beta, node.dtype())
        bias = bias * bias.dtype.type(beta) if isinstance(bias, np.ndarray) else relax.op.multiply(bias, factor)
    return relax.op.add(out, layers.expr(bias))


def _transposed(value: Any, node: Node) -> Any:
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value.T)
    return node.emit(relax.op.permute_dims(value, [1, 0]))


@converter("MatMul")
def matmul(node: Node) -> Any:
    return relax.op.matmul(node.expr(0), node.expr(1))
