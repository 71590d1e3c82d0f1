"""Integer layers as literal shifts and additions, without a product of data.

A processor multiplies as fast as it shifts, so this is for study and for cores without a multiplier.  A layer of few
additions is written out as code, a larger one as loops over a list of them; inputs that no weight reads are not loaded
by either.  The lanes of a vector are pixels of one row, so the input is first laid out as planes, one per channel, with
its border.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx as T

from lhcc.integer import Conv, Dense, TensorType
from lhcc.integer.core import Sides
from lhcc.ir.int_steps import apply
from lhcc.ir.tir import Expr, Stmt, flat, function, get, integer, loop, put, shared, tensor, var
from lhcc.targets.cpu.int_shift_code import Additions
from lhcc.targets.cpu.int_shift_layer import Place, ShiftLayer
from lhcc.targets.cpu.int_shift_list import Listed
from lhcc.targets.cpu.int_storage import BLOCK, Map

LANES = 16
AS_CODE = 16_384  # additions before sharing, some 7,000 after it: LLVM takes a millisecond for each of those


def form_of(step: Conv | Dense, x: TensorType) -> Additions | Listed:
    return (Additions if ShiftLayer.of(step).before_sharing <= AS_CODE else Listed).of(step, x)


def planes(place: Map, padding: Sides, threads: int) -> tuple[tuple[int, ...], Any]:
    """The shape of a map as planes with their border, and the kernel that makes them."""
    top, left, bottom, right = padding
    shape = (place.images, place.channels, place.height + top + bottom, place.width + left + right)
    source, target = tensor("source", list(place.shape), "int32"), tensor("target", list(shape), "int32")
    (x, see_x), (y, see_y) = place.see(source, "x"), flat(target, "y", "int32")
    unit, row, column = var("unit"), var("row"), var("column")
    image, channel = T.floordiv(unit, integer(place.channels)), T.floormod(unit, integer(place.channels))
    plane = image * integer(place.blocks) + T.floordiv(channel, integer(place.block))
    pixel = (plane * integer(place.height) + row - integer(top)) * integer(place.width) + column - integer(left)
    inside = T.all(
        row >= integer(top), row < integer(top + place.height),
        column >= integer(left), column < integer(left + place.width),
    )  # fmt: skip
    to = (unit * integer(shape[2]) + row) * integer(shape[3]) + column
    value = T.Cast("int32", get(x, pixel * integer(place.block) + T.floormod(channel, integer(place.block))))
    copy = T.IfThenElse(inside, put(y, value, to), put(y, integer(0), to))
    body = [loop(row, shape[2], [loop(column, shape[3], [copy])])]
    work = shared(unit, place.images * place.channels, threads, body)
    return shape, function([source, target], [see_x, see_y, work])


def additions(
    form: Additions | Listed, shape: tuple[int, ...], target: Map, other: Map | None, steps: tuple[str, ...],
    other_steps: tuple[str, ...], threads: int,
) -> Any:  # fmt: skip
    """(planes[, list], bias, table[, other map]) -> map."""
    source, into = tensor("source", list(shape), "int32"), tensor("target", list(target.shape), "int32")
    bias, table = tensor("bias", [var("bias_size")], "int32"), tensor("table", [var("table_size")], "int32")
    listed, second = (
        tensor("listed", [var("list_size")], "int32"),
        tensor("other", list((other or target).shape), "int32"),
    )
    (x, see_x), (y, see_y), (o, see_o) = (
        flat(source, "x", "int32"), target.see(into, "y"), (other or target).see(second, "o"),
    )  # fmt: skip
    lanes = 1 << min(LANES, target.width).bit_length() - 1
    chunks = -(-target.width // lanes)
    sums = T.decl_buffer((integer(lanes * BLOCK),), "int32", "sums", data_alignment=64)
    unit, start, each = var("unit"), var("start"), var("each")
    image, row = T.floordiv(unit, integer(chunks * target.height)), var("row")
    base, stride = var("base"), form.layer.stride
    padded = integer(target.blocks * BLOCK)

    def finish(block: Expr) -> list[Stmt]:
        at = ((image * integer(target.blocks) + block) * integer(target.height) + row) * integer(target.width)
        channel = block * integer(BLOCK)
        added = None
        if other is not None:
            added = apply(other.load(o, at + start + each), other_steps, BLOCK, table, channel, padded, None)
        value = get(sums, each * integer(BLOCK), BLOCK) + get(bias, channel, BLOCK)
        result = apply(value, steps, BLOCK, table, channel, padded, added)
        return [loop(each, lanes, [target.save(y, at + start + each, result)])]

    code: list[Stmt] = [
        T.AllocBuffer(sums),
        T.Bind(row, T.floormod(T.floordiv(unit, integer(chunks)), integer(target.height))),
        # the last pixels of a row are computed twice where they fill no vector
        T.Bind(start, T.Min(T.floormod(unit, integer(chunks)) * integer(lanes), integer(target.width - lanes))),
        T.Bind(
            base,
            (image * integer(shape[1] * shape[2]) + row * integer(stride[0])) * integer(shape[3])
            + start * integer(stride[1]),
        ),
        *form.code(Place(x, base, shape, lanes, sums), listed, target.blocks, finish),
    ]
    operands = [source, *([listed] if isinstance(form, Listed) else []), bias, table]
    arguments = [*operands, *([second] if other is not None else []), into]
    views = [see_x, see_y, *([see_o] if other is not None else [])]
    return function(arguments, [*views, shared(unit, target.images * target.height * chunks, threads, code)])
