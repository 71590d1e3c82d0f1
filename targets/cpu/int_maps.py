"""Integer kernels over whole maps: from the user's numbers to integers and back, and steps that no sum took in."""

from __future__ import annotations

from math import frexp
from typing import Any

from tvm import tirx as T

from lhcc.ir.int_steps import apply, times
from lhcc.ir.tir import Expr, Stmt, flat, function, get, integer, loop, put, shared, tensor, var
from lhcc.ir.vector import const, typed
from lhcc.targets.cpu.int_storage import BLOCK, Map

PIXELS = 8  # quantised at a time


def quantise(shape: tuple[int, ...], place: Map, scale: float, low: int, high: int, threads: int) -> Any:
    """floor(x / scale + 1/2) in float64, clipped; channels that do not exist become zero.  Some pixels at a time."""
    source, target = tensor("source", list(shape)), tensor("target", list(place.shape), "int32")
    (x, see_x), (y, see_y) = flat(source, "x"), place.see(target, "y")
    count = min(PIXELS, place.pixels)
    steps = -(-place.pixels // count)
    rows = T.decl_buffer((integer(place.block * count),), "int32", "rows", data_alignment=64)
    unit, lane, each, start = var("unit"), var("lane"), var("each"), var("start")
    block = T.floordiv(unit, integer(steps))  # of an image
    image = T.floordiv(block, integer(place.blocks))
    channel = T.floormod(block, integer(place.blocks)) * integer(place.block) + lane
    at = (image * integer(place.channels) + channel) * integer(place.pixels) + start
    exact = frexp(scale)[0] == 0.5  # then the reciprocal is exact too, and a product is faster than a quotient
    real = T.Cast(typed("float64", count), get(x, at, count))
    factor = const(1 / scale if exact else scale, count, "float64")
    scaled = real * factor if exact else real / factor
    nearest = T.floor(scaled + const(0.5, count, "float64"))
    clipped = T.Max(T.Min(nearest, const(high, count, "float64")), const(low, count, "float64"))
    values = put(rows, T.Cast(typed("int32", count), clipped), lane * integer(count), count)
    nothing = put(rows, const(0, count, "int32"), lane * integer(count), count)
    one = T.Cast(place.element, get(rows, lane * integer(count) + each))
    to = (block * integer(place.pixels) + start + each) * integer(place.block) + lane
    body = [
        T.AllocBuffer(rows),
        # the last pixels are quantised twice where they fill no vector
        T.Bind(start, T.Min(T.floormod(unit, integer(steps)) * integer(count), integer(place.pixels - count))),
        loop(lane, place.block, [T.IfThenElse(channel < integer(place.channels), values, nothing)]),
        loop(each, count, [loop(lane, place.block, [put(y, one, to)])]),
    ]
    return function([source, target], [see_x, see_y, shared(unit, place.images * place.blocks * steps, threads, body)])


def take(shape: tuple[int, ...], place: Map, element: str, low: int, high: int, threads: int) -> Any:
    """Planar integers to a map, clipped to the interval; channels that do not exist become zero."""
    source, target = tensor("source", list(shape), element), tensor("target", list(place.shape), "int32")
    (x, see_x), (y, see_y) = flat(source, "x", element), place.see(target, "y")
    unit, lane, pixel = var("unit"), var("lane"), var("pixel")
    image, block = T.floordiv(unit, integer(place.blocks)), T.floormod(unit, integer(place.blocks))
    channel = block * integer(place.block) + lane
    value = T.Cast("int32", get(x, (image * integer(place.channels) + channel) * integer(place.pixels) + pixel))
    clipped = T.Max(T.Min(value, integer(high)), integer(low))
    to = (unit * integer(place.pixels) + pixel) * integer(place.block) + lane
    copy = T.IfThenElse(
        channel < integer(place.channels),
        put(y, T.Cast(place.element, clipped), to),
        put(y, const(0, 1, place.element), to),
    )
    body = [loop(lane, place.block, [loop(pixel, place.pixels, [copy])])]
    return function([source, target], [see_x, see_y, shared(unit, place.images * place.blocks, threads, body)])


def give(place: Map, shape: tuple[int, ...], element: str, threads: int) -> Any:
    """A map to planar integers."""
    source, target = tensor("source", list(place.shape), "int32"), tensor("target", list(shape), element)
    (x, see_x), (y, see_y) = place.see(source, "x"), flat(target, "y", element)
    unit, pixel = var("unit"), var("pixel")
    image, channel = T.floordiv(unit, integer(place.channels)), T.floormod(unit, integer(place.channels))
    plane = image * integer(place.blocks) + T.floordiv(channel, integer(place.block))
    at = (plane * integer(place.pixels) + pixel) * integer(place.block) + T.floormod(channel, integer(place.block))
    copy = put(y, T.Cast(element, get(x, at)), unit * integer(place.pixels) + pixel)
    body = shared(unit, place.images * place.channels, threads, [loop(pixel, place.pixels, [copy])])
    return function([source, target], [see_x, see_y, body])


def dequantise(place: Map, shape: tuple[int, ...], threads: int) -> Any:
    """(map, scale per channel in float64) -> float32, planar: what the integers stand for."""
    source, target = tensor("source", list(place.shape), "int32"), tensor("target", list(shape))
    scale = tensor("scale", [integer(place.channels)], "float64")
    (x, see_x), (y, see_y) = place.see(source, "x"), flat(target, "y")
    row = T.decl_buffer((integer(BLOCK),), "int32", "row", data_alignment=64)
    unit, lane, pixel = var("unit"), var("lane"), var("pixel")
    image = T.floordiv(unit, integer(place.blocks))
    channel = T.floormod(unit, integer(place.blocks)) * integer(BLOCK) + lane
    at = (image * integer(place.channels) + channel) * integer(place.pixels) + pixel
    real = T.Cast("float32", T.Cast("float64", get(row, lane)) * get(scale, channel))
    one = T.IfThenElse(channel < integer(place.channels), put(y, real, at), None)
    code = [
        T.AllocBuffer(row),
        put(row, place.load(x, unit * integer(place.pixels) + pixel), integer(0), BLOCK),
        loop(lane, BLOCK, [one]),
    ]
    body = shared(unit, place.images * place.blocks, threads, [loop(pixel, place.pixels, code)])
    return function([source, scale, target], [see_x, see_y, body])


def steps(source: Map, other: Map | None, target: Map, names: tuple[str, ...], threads: int) -> Any:
    """(map, table[, other map]) -> map: clips, requantisations and an addition, element by element."""
    first = tensor("source", list(source.shape), "int32")
    second = tensor("other", list((other or source).shape), "int32")
    into, table = tensor("target", list(target.shape), "int32"), tensor("table", [var("table_size")], "int32")
    (x, see_x), (y, see_y) = source.see(first, "x"), target.see(into, "y")
    o, see_o = (other or source).see(second, "o")
    unit, pixel = var("unit"), var("pixel")
    position = unit * integer(source.pixels) + pixel
    channel = T.floormod(unit, integer(source.blocks)) * integer(BLOCK)
    added = other.load(o, position) if other is not None else None
    padded = integer(source.blocks * BLOCK)
    result = apply(source.load(x, position), names, BLOCK, table, channel, padded, added)
    body = [loop(pixel, source.pixels, [target.save(y, position, result)])]
    arguments = [first, table, *([second] if other is not None else []), into]
    views = [see_x, see_y, *([see_o] if other is not None else [])]
    return function(arguments, [*views, shared(unit, source.images * source.blocks, threads, body)])


def piecewise(source: Map, target: Map, segments: int, slopes: tuple[int, ...] | None, threads: int) -> Any:
    """(map, breakpoints then slopes then offsets) -> map: the segment is found by counting breakpoints passed.
    Where `slopes` are told, they are known to the code, which then has no product."""
    first, into = tensor("source", list(source.shape), "int32"), tensor("target", list(target.shape), "int32")
    table = tensor("table", [integer(3 * segments - 1)], "int32")
    (x, see_x), (y, see_y) = source.see(first, "x"), target.see(into, "y")
    unit, pixel = var("unit"), var("pixel")
    position = unit * integer(source.pixels) + pixel
    value = source.load(x, position)

    def spread(number: int) -> Expr:
        return T.Broadcast(get(table, integer(number)), BLOCK)

    def line(k: int) -> Expr:
        risen = spread(segments - 1 + k) * value if slopes is None else times(value, slopes[k], BLOCK)
        return risen + spread(2 * segments - 1 + k)

    result = line(0)
    for k in range(segments - 1):
        result = T.Select(value >= spread(k), line(k + 1), result)
    body = [loop(pixel, source.pixels, [target.save(y, position, result)])]
    work = shared(unit, source.images * source.blocks, threads, body)
    return function([first, table, into], [see_x, see_y, work])


def gather(sources: list[Map], target: Map, flatten: bool, threads: int) -> Any:
    """Maps side by side by channels, or one map as a vector, row by row, pixel by pixel, channel by channel."""
    tensors = [tensor(f"source{n}", list(source.shape), "int32") for n, source in enumerate(sources)]
    into = tensor("target", list(target.shape), "int32")
    pairs = zip(tensors, sources, strict=True)
    views = [s.see(t, f"x{n}") for n, (t, s) in enumerate(pairs)]
    y, see_y = target.see(into, "y")
    image, channel, pixel = var("image"), var("channel"), var("pixel")

    def element(place: Map, channel: Expr, pixel: Expr) -> Expr:
        block, lane = T.floordiv(channel, integer(BLOCK)), T.floormod(channel, integer(BLOCK))
        return ((image * integer(place.blocks) + block) * integer(place.pixels) + pixel) * integer(BLOCK) + lane

    code: list[Stmt] = []
    first = 0
    for source, (x, _) in zip(sources, views, strict=True):
        if flatten:
            to = element(target, pixel * integer(source.channels) + channel, integer(0))
        else:
            to = element(target, channel + integer(first), pixel)
        copy = put(y, T.Cast(target.element, get(x, element(source, channel, pixel))), to)
        code.append(loop(pixel, source.pixels, [loop(channel, source.channels, [copy])]))
        first += source.channels
    body = shared(image, target.images, threads, code)
    return function([*tensors, into], [*[see for _, see in views], see_y, body])
