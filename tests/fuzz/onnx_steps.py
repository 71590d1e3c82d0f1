"""The steps that random ONNX models are made of: every operator of CNNs, as often as it shall be drawn."""

from __future__ import annotations

from tests.fuzz import onnx_layers as layers
from tests.fuzz import onnx_moves as moves
from tests.fuzz import onnx_numbers as numbers
from tests.fuzz.onnx_graphs import Step

STEPS: list[Step] = [
    layers.conv,
    layers.conv,
    layers.conv,
    layers.conv,
    layers.conv,
    layers.conv_transpose,
    layers.conv_transpose,
    layers.pool,
    layers.pool,
    layers.global_pool,
    layers.batch_norm,
    layers.batch_norm,
    layers.norm,
    numbers.unary,
    numbers.unary,
    numbers.unary,
    numbers.clip,
    numbers.prelu,
    numbers.binary,
    numbers.binary,
    numbers.binary,
    moves.concat,
    moves.concat,
    moves.split,
    moves.slices,
    moves.pad,
    moves.pad,
    moves.resize,
    numbers.reduce,
    moves.transpose,
    moves.reshape,
    moves.flatten,
    moves.squeeze,
    moves.depth_and_space,
    layers.product,
    layers.product,
    numbers.softmax,
    numbers.where,
    moves.expand,
    numbers.cast,
    moves.gather,
]
