"""Kernels over whole feature maps: activations, global average."""

from __future__ import annotations

from math import prod
from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import flat, function, get, integer, loop, put, register, shared, tensor, var
from lhcc.ir.vector import activate, const

Kernel = Any


def activation(shape: tuple[int, ...], name: str, lanes: int, threads: int) -> Kernel:
    """An activation that no layer could take in, over all elements of a map."""
    size = prod(shape)
    whole = size // lanes
    source, target = tensor("source", list(shape)), tensor("target", list(shape))
    (x, see_x), (y, see_y) = flat(source, "x"), flat(target, "y")
    index = var("index")
    body = [see_x, see_y]
    if whole:
        at = index * integer(lanes)
        body.append(shared(index, whole, threads, [put(y, activate(get(x, at, lanes), name), at, lanes)]))
    if size % lanes:
        rest = var("rest")
        at = integer(whole * lanes) + rest
        body.append(loop(rest, size % lanes, [put(y, activate(get(x, at), name), at)]))
    return function([source, target], body)


def global_average(shape: tuple[int, ...], lanes: int, threads: int) -> Kernel:
    """(N, C/b, H, W, b) -> (N, C/b, 1, 1, b): four running sums hide the latency of the addition."""
    images, blocks, height, width, block = shape
    pixels = height * width
    source, target = tensor("source", list(shape)), tensor("target", [images, blocks, 1, 1, block])
    (x, see_x), (y, see_y) = flat(source, "x"), flat(target, "y")
    unit, step = var("unit"), var("step")
    code = []
    for first in range(0, block, lanes):
        sums = [register(f"sum{part}", f"float32x{lanes}") for part in range(4)]
        at = unit * integer(pixels * block) + integer(first)
        code += [T.AllocBuffer(part) for part in sums] + [put(part, const(0.0, lanes)) for part in sums]
        four = [
            put(part, get(part) + get(x, at + (step * integer(4) + number) * integer(block), lanes))
            for number, part in enumerate(sums)
        ]
        if pixels >= 4:
            code.append(loop(step, pixels // 4, four))
        for number in range(pixels % 4):
            tail = at + integer((pixels // 4 * 4 + number) * block)
            code.append(put(sums[number], get(sums[number]) + get(x, tail, lanes)))
        total = (get(sums[0]) + get(sums[1])) + (get(sums[2]) + get(sums[3]))
        code.append(put(y, total * const(1 / pixels, lanes), unit * integer(block) + integer(first), lanes))
    return function([source, target], [see_x, see_y, shared(unit, images * blocks, threads, code)])
