"""Kernels over whole feature maps: layout conversion, activations, global average."""

from __future__ import annotations

from math import prod
from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import Renamed, flat, function, get, integer, loop, put, register, sequence, shared, tensor, var
from lhcc.ir.vector import activate, const

Kernel = Any


def to_blocked(shape: tuple[int, ...], block: int, threads: int, ordered: bool = False) -> Kernel:
    """(N, C, H, W) -> (N, C/block, H, W, block); channels that do not exist are written as zeros.  `ordered`: from
    which channel each is read is a table."""
    images, channels, height, width = shape
    blocks, pixels = -(-channels // block), height * width
    source, target = tensor("source", list(shape)), tensor("target", [images, blocks, height, width, block])
    (x, see_x), (y, see_y), order = flat(source, "x"), flat(target, "y"), Renamed(channels, ordered)
    unit, lane, pixel, plane = var("unit"), var("lane"), var("pixel"), var("plane")
    image, channel = T.floordiv(unit, integer(blocks)), T.floormod(unit, integer(blocks)) * block + lane
    into = unit * integer(pixels * block) + pixel * block + lane
    find = T.Bind(plane, image * integer(channels) + order[channel])
    fill = sequence([find, loop(pixel, pixels, [put(y, get(x, plane * integer(pixels) + pixel), into)])])
    if channels % block:
        blank = loop(pixel, pixels, [put(y, T.FloatImm("float32", 0.0), into)])
        fill = T.IfThenElse(channel < integer(channels), fill, blank)
    body = shared(unit, images * blocks, threads, [loop(lane, block, [fill])])
    return function([source, *order.tables, target], [see_x, see_y, *order.views, body])


def from_blocked(shape: tuple[int, ...], block: int, threads: int, ordered: bool = False) -> Kernel:
    """(N, C/block, H, W, block) -> `shape` = (N, C, H, W).  `ordered`: where each channel goes is a table."""
    images, channels, height, width = shape
    blocks, pixels = -(-channels // block), height * width
    source, target = tensor("source", [images, blocks, height, width, block]), tensor("target", list(shape))
    (x, see_x), (y, see_y), place = flat(source, "x"), flat(target, "y"), Renamed(channels, ordered)
    unit, pixel, plane = var("unit"), var("pixel"), var("plane")
    image, channel = T.floordiv(unit, integer(channels)), T.floormod(unit, integer(channels))
    read = image * integer(blocks) + T.floordiv(channel, integer(block))
    value = get(x, read * integer(pixels * block) + pixel * block + T.floormod(channel, integer(block)))
    find = T.Bind(plane, image * integer(channels) + place[channel])
    copy = loop(pixel, pixels, [put(y, value, plane * integer(pixels) + pixel)])
    body = shared(unit, images * channels, threads, [find, copy])
    return function([source, *place.tables, target], [see_x, see_y, *place.views, body])


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
