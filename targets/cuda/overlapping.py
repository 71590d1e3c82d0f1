"""Maximum pooling of 3 x 3 outputs, two apart, by the convolution that makes them: windows overlap, and so do tiles.

A tile of outputs goes to shared memory, when all products of the thread block are formed, and its windows are read from
there.  Tiles share a row and a column, which both compute; outputs outside the map are less than any number.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import get, integer, loop, put, sequence, var
from lhcc.targets.cuda.arch import BLOCK, size_of
from lhcc.targets.cuda.ending import ELEMENT, result_of
from lhcc.targets.cuda.frame import Frame
from lhcc.targets.cuda.plan import OUTS, result_pixel
from lhcc.targets.cuda.tir import address, both, call, divided, local, unrolled, value, when

Expr = Any
Stmt = Any
WIDTH = 8  # channels that a thread pools
MEETINGS = 2


def finish(frame: Frame) -> list[Stmt]:
    spec, meet = frame.spec, call("__syncthreads")
    ends = zip((frame.row0, frame.column0), spec.tile[1:], spec.result[2:], strict=True)
    inner = both(*(both(at >= integer(0), at + size <= integer(extent)) for at, size, extent in ends))
    put_down = T.IfThenElse(inner, sequence(_put_down(frame, False)), sequence(_put_down(frame, True)))
    return [call("wait_copies<0>"), meet, when(frame.own, [put_down]), meet, *_pool(frame)]


def _put_down(frame: Frame, at_border: bool) -> list[Stmt]:
    """What the warp holds, as elements of the map: pixel after pixel, the channels of all its output blocks."""
    spec, width, part, c = frame.spec, 2 * frame.count, var("part"), var("c")
    total, results = var("total", frame.arithmetic.sum), local("results", width, frame.arithmetic.sum)
    position = frame.position(T.floordiv(part, integer(2)), T.floordiv(frame.lane, integer(4)) + part % 2 * 8)
    result = result_of(spec, total, None, frame.table, integer(0), 0)
    if at_border:
        _, y, x = divided(position, *spec.tile[1:])
        row, column, (height, columns) = frame.row0 + y, frame.column0 + x, spec.result[2:]
        inside = both(row >= integer(0), row < integer(height), column >= integer(0), column < integer(columns))
        result = T.Select(inside, result, value("float32", "minus_infinity"))
    channel = (frame.warp_column * spec.lanes + frame.quarter) * size_of(spec.target_element)
    place = frame.memory + position * result_pixel(spec) + channel
    one = [T.Bind(total, get(frame.sums, frame.sum_of(part, c))), put(results, result, c)]
    stored = call(f"put_channels<{width}, {ELEMENT[spec.target_element]}>", place, address(results))
    each = [unrolled(c, width, T.SeqStmt(one)), when(position < integer(spec.tile_pixels), [stored])]
    return [T.AllocBuffer(results), unrolled(part, 2 * spec.pixels, T.SeqStmt(each))]


def _pool(frame: Frame) -> list[Stmt]:
    """Every thread that multiplied takes windows of eight channels in turn."""
    spec, size, element = frame.spec, size_of(frame.spec.target_element), ELEMENT[frame.spec.target_element]
    images, blocks, height, columns = spec.result
    height, columns = -(-height // 2), -(-columns // 2)
    down, across, pieces = spec.tile[1] // 2, spec.tile[2] // 2, spec.lanes // WIDTH
    items, count = spec.tile[0] * down * across * spec.warps[1] * pieces, WIDTH * size // 4
    turn, item, out, place = var("turn"), var("item"), var("out_here"), var("place")
    image, y, x, group, piece = divided(item, down, across, spec.warps[1], pieces)
    number = frame.image0 + image
    row, column = (T.floordiv(at + 1, integer(2)) for at in (frame.row0, frame.column0))
    row, column = row + y, column + x
    first = ((image * spec.tile[1] + y * 2) * spec.tile[2] + x * 2) * result_pixel(spec)
    words, largest = local("words", count, "int32"), local("largest", count, "int32")
    code: list[Stmt] = [T.Bind(place, frame.memory + first + (group * spec.lanes + piece * WIDTH) * size)]
    for tap in range(9):
        at, into = place + (tap // 3 * spec.tile[2] + tap % 3) * result_pixel(spec), words if tap else largest
        code += [call("get_shared16", address(into, 4 * part), at + 16 * part) for part in range(count // 4)]
        code += [call(f"max_words<{count}, {element}>", address(largest), address(words))] if tap else []
    plane = number * blocks + T.floordiv(out, integer(BLOCK // spec.lanes))
    channel = T.floormod(out, integer(BLOCK // spec.lanes)) * spec.lanes + piece * WIDTH
    target = ((plane * height + row) * columns + column) * BLOCK + channel
    code.append(call(f"store_words<{count}>", address(frame.y, target), address(largest)))
    inside = both(out >= integer(0), number < integer(images), row < integer(height), column < integer(columns))
    every = [
        T.Bind(item, turn * spec.multipliers + frame.threads.thread),
        T.Bind(out, frame.at(group + OUTS)),
        when(inside, code),
    ]
    if items % spec.multipliers:
        every = [every[0], when(item < integer(items), every[1:])]
    return [*map(T.AllocBuffer, (words, largest)), loop(turn, -(-items // spec.multipliers), every)]
