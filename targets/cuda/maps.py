"""Kernels over whole feature maps: layout conversion, unfolding, elementwise functions, global average.

A thread works on 8 neighbouring channels of a pixel, or on 8 neighbouring elements, which it loads and stores at once.
"""

from __future__ import annotations

from math import prod
from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import Renamed, flat, get, integer, loop, put, tensor, var
from lhcc.ir.vector import activate
from lhcc.targets.cuda.arch import BLOCK
from lhcc.targets.cuda.tir import Threads, address, both, call, divided, local, unrolled, value, when

Kernel = Any
Pair = tuple[int, int]

WIDTH = 8  # elements per thread
PIECES = BLOCK // WIDTH
THREADS = 128
EIGHT, MOST_APART = 8, 8  # neighbouring pixels that a warp stores at once, and how often a thread does that
NOWHERE = -(1 << 30)  # no column of any map, nor is one that lies some pixels further


class Items:
    """A kernel of one thread per item: a flat grid, whose last block may have idle threads."""

    def __init__(self, count: int) -> None:
        self.threads, self.count = Threads(), count
        self.item = var("item")

    def build(self, parameters: list[Any], views: list[Any], body: list[Any]) -> Kernel:
        index = T.Bind(self.item, self.threads.x * THREADS + self.threads.thread)
        code = [index, when(self.item < integer(self.count), body)] if self.count % THREADS else [index, *body]
        return self.threads.kernel(parameters, [*views, *code], (-(-self.count // THREADS), 1), THREADS)


def to_blocked(shape: tuple[int, ...], element: str, ordered: bool = False) -> Kernel:
    """(N, C, H, W) -> (N, C/BLOCK, H, W, BLOCK); channels that do not exist are written as zeros.  `ordered`: from
    which channel each is read is a table."""
    return unfold(shape, shape[2:], (1, 1), (1, 1), (0, 0), (1, 1), element, ordered)


def unfold(
    shape: tuple[int, ...], out: tuple[int, ...], kernel: Pair, strides: Pair, padding: Pair, dilation: Pair,
    element: str, ordered: bool = False,
) -> Kernel:  # fmt: skip
    """(N, C, H, W) -> (N, C * kh * kw / BLOCK, OH, OW, BLOCK): what a convolution reads, as channels of its outputs."""
    images, channels, height, width = shape
    rows, columns = out
    depth = channels * kernel[0] * kernel[1]
    blocks = -(-depth // BLOCK)
    source, target = tensor("source", list(shape)), tensor("target", [images, blocks, rows, columns, BLOCK], element)
    (x, see_x), (y, see_y), order = flat(source, "x"), flat(target, "y", element), Renamed(channels, ordered)
    # a thread makes the same channels of every eighth pixel of a run: where they lie is found out once
    runs = -(-columns // (MOST_APART * EIGHT))
    apart = -(-columns // (runs * EIGHT))
    items = Items(images * blocks * rows * runs * EIGHT * PIECES)
    image, block, row, run, eighth, piece = divided(items.item, blocks, rows, runs, EIGHT, PIECES)
    first, number, at_y = var("first"), var("number"), var("at_y")
    start, place, values = local("start", WIDTH, "int32"), local("place", WIDTH, "int32"), local("values", WIDTH)
    channel, tap_row, tap_column = divided(block * BLOCK + piece * WIDTH + number, *kernel)
    inside = both(channel < integer(channels), at_y >= integer(0), at_y < integer(height))
    plane = (image * channels + order[channel]) * height
    column = first * strides[1] - padding[1] + tap_column * dilation[1]
    find = [
        T.Bind(at_y, row * strides[0] - padding[0] + tap_row * dilation[0]),
        put(start, integer(NOWHERE), number),
        put(place, integer(0), number),
        when(inside, [put(start, column, number), put(place, (plane + at_y) * width + column, number)]),
    ]
    body = [
        T.AllocBuffer(start),
        T.AllocBuffer(place),
        T.AllocBuffer(values),
        T.Bind(first, run * (apart * EIGHT) + eighth),
        unrolled(number, WIDTH, T.SeqStmt(find)),
    ]
    for step in range(apart):
        number, further = var("number"), step * EIGHT * strides[1]
        seen = T.Cast("uint32", get(start, number) + further) < T.IntImm("uint32", width)
        read = [
            put(values, T.FloatImm("float32", 0.0), number),
            when(seen, [put(values, get(x, get(place, number) + further), number)]),
        ]
        to = (((image * blocks + block) * rows + row) * columns + first + step * EIGHT) * BLOCK + piece * WIDTH
        pixel = [
            unrolled(number, WIDTH, T.SeqStmt(read)),
            call(f"store_channels<{WIDTH}>", address(y, to), address(values)),
        ]
        short = runs * apart * EIGHT > columns
        body += [when(first + step * EIGHT < integer(columns), pixel)] if short else pixel
    return items.build([source, *order.tables, target], [see_x, see_y, *order.views], body)


def from_blocked(shape: tuple[int, ...], element: str, ordered: bool = False) -> Kernel:
    """(N, C/BLOCK, H, W, BLOCK) -> `shape` = (N, C, H, W).  `ordered`: where each channel goes is a table."""
    images, channels, height, width = shape
    blocks, pixels = -(-channels // BLOCK), height * width
    source, target = tensor("source", [images, blocks, height, width, BLOCK], element), tensor("target", list(shape))
    (x, see_x), (y, see_y), place = flat(source, "x", element), flat(target, "y"), Renamed(channels, ordered)
    values, number, channel = local("values", WIDTH), var("number"), var("channel")
    items = Items(images * blocks * PIECES * pixels)
    image, block, piece, pixel = divided(items.item, blocks, PIECES, pixels)
    read = ((image * blocks + block) * pixels + pixel) * BLOCK + piece * WIDTH
    write: list[Any] = [T.Bind(channel, block * BLOCK + piece * WIDTH + number)]
    store = put(y, get(values, number), (image * channels + place[channel]) * pixels + pixel)
    write.append(when(channel < integer(channels), [store]) if channels % BLOCK else store)
    body = [
        T.AllocBuffer(values),
        call(f"load_channels<{WIDTH}>", address(values), address(x, read)),
        unrolled(number, WIDTH, T.SeqStmt(write)),
    ]
    return items.build([source, *place.tables, target], [see_x, see_y, *place.views], body)


def activation(shape: tuple[int, ...], name: str, element: str) -> Kernel:
    """An activation that no layer could take in, over all elements of a map."""
    size = prod(shape)
    width = WIDTH if size % WIDTH == 0 else 1
    source, target = tensor("source", list(shape), element), tensor("target", list(shape), element)
    (x, see_x), (y, see_y) = flat(source, "x", element), flat(target, "y", element)
    values, number, before = local("values", width), var("number"), var("before", "float32")
    items = Items(size // width)
    change = [T.Bind(before, get(values, number)), put(values, activate(before, name), number)]
    body = [
        T.AllocBuffer(values),
        call(f"load_channels<{width}>", address(values), address(x, items.item * width)),
        unrolled(number, width, T.SeqStmt(change)),
        call(f"store_channels<{width}>", address(y, items.item * width), address(values)),
    ]
    return items.build([source, target], [see_x, see_y], body)


FUNCTIONS = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "maximum": T.Max,
    "minimum": T.Min,
}


def elementwise(
    function: str, shapes: list[tuple[int, ...]], dtypes: tuple[str, ...], shape: tuple[int, ...], element: str
) -> Kernel:
    """A function of two blocked maps, either of which may be repeated along any axis."""
    items = Items(prod(shape) // WIDTH)
    *axes, piece = divided(items.item, *shape[1:-1], PIECES)
    target = tensor("target", list(shape), element)
    y, see_y = flat(target, "y", element)
    parameters, views, body, operands = [], [see_y], [], []
    for index, (own, dtype) in enumerate(zip(shapes, dtypes, strict=True)):
        extents = (1,) * (len(shape) - len(own)) + own
        operand = tensor(f"source{index}", list(own), dtype)
        x, see_x = flat(operand, f"x{index}", dtype)
        place: Any = integer(0)
        for axis, extent in zip(axes, extents, strict=False):
            place = place * extent + (axis if extent > 1 else integer(0))
        wide = extents[-1] > 1
        values = local(f"values{index}", WIDTH if wide else 1)
        place = place * extents[-1] + (piece * WIDTH if wide else integer(0))
        body += [
            T.AllocBuffer(values),
            call(f"load_channels<{WIDTH if wide else 1}>", address(values), address(x, place)),
        ]
        parameters.append(operand)
        views.append(see_x)
        operands.append((values, wide))
    results, number = local("results", WIDTH), var("number")
    left, right = (get(values, number if wide else integer(0)) for values, wide in operands)
    body += [
        T.AllocBuffer(results),
        unrolled(number, WIDTH, put(results, FUNCTIONS[function](left, right), number)),
        call(f"store_channels<{WIDTH}>", address(y, items.item * WIDTH), address(results)),
    ]
    return items.build([*parameters, target], views, body)


def global_average(shape: tuple[int, ...], element: str) -> Kernel:
    """The mean over all pixels: a warp per 8 channels, its lanes share the pixels."""
    images, blocks, height, width, _ = shape
    pixels = height * width
    source, target = tensor("source", list(shape), element), tensor("target", [images, blocks, 1, 1, BLOCK], element)
    (x, see_x), (y, see_y) = flat(source, "x", element), flat(target, "y", element)
    sums, values = local("sums", WIDTH), local("values", WIDTH)
    items = Items(images * blocks * PIECES * 32)
    plane, piece, lane = divided(items.item, PIECES, 32)
    turn, pixel, clear, one, scale = var("turn"), var("pixel"), var("clear"), var("one"), var("scale")
    place = (plane * pixels + pixel) * BLOCK + piece * WIDTH
    add = [
        call(f"load_channels<{WIDTH}>", address(values), address(x, place)),
        unrolled(one, WIDTH, put(sums, get(sums, one) + get(values, one), one)),
    ]
    take = [T.Bind(pixel, turn * 32 + lane), when(pixel < integer(pixels), add)]
    mean = value("float32", "sum_lanes", get(sums, scale)) * T.FloatImm("float32", 1.0 / pixels)
    body = [
        T.AllocBuffer(sums),
        T.AllocBuffer(values),
        unrolled(clear, WIDTH, put(sums, T.FloatImm("float32", 0.0), clear)),
        loop(turn, -(-pixels // 32), take),
        unrolled(scale, WIDTH, put(sums, mean, scale)),
        when(
            T.EQ(lane, integer(0)),
            [call(f"store_channels<{WIDTH}>", address(y, plane * BLOCK + piece * WIDTH), address(sums))],
        ),
    ]
    return items.build([source, target], [see_x, see_y], body)
