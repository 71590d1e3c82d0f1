"""The computation of a packed layer as plain loops for this processor: its numbers are checked apart from the threads.

Everything that the packer made is read as the GPU reads it: the tables, stage by stage, the weights in fragment order.
What is left out is who computes what when.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import flat, function, get, integer, loop, put, tensor, var
from lhcc.ir.vector import const
from lhcc.targets.cuda.arch import BLOCK, STEP
from lhcc.targets.cuda.ending import result_of
from lhcc.targets.cuda.fragments import tile_words
from lhcc.targets.cuda.patch import Patch
from lhcc.targets.cuda.plan import OUTS, TILE_END, record_of
from lhcc.targets.cuda.planar import PIXEL
from lhcc.targets.cuda.spec import ConvSpec, WindowSpec
from lhcc.targets.cuda.tir import both, divided, when

Expr = Any
Stmt = Any


def plain_kernel(spec: str) -> Any:
    """What `packed_kernel` computes."""
    return _conv(ConvSpec.from_json(spec)) if '"lanes"' in spec else _window(WindowSpec.from_json(spec))


def _map(name: str, element: str, axes: int = 5) -> tuple[Expr, Expr, Stmt]:
    operand = tensor(name, [var(f"{name}_{axis}") for axis in range(axes)], element)
    return operand, *flat(operand, name[0], element)


def _conv(spec: ConvSpec) -> Any:
    arithmetic, patch = spec.arithmetic, Patch(spec)
    source, x, see_x = _map("source", *(("float32", 4) if spec.planes else (arithmetic.element,)))
    target, y, see_y = _map("target", spec.target_element)
    residual, r, see_r = _map("residual", spec.residual_element)
    weights, plan, table = (tensor(name, [var(f"{name}_size")], "int32") for name in ("weights", "plan", "table"))
    w, see_w = flat(weights, "w", arithmetic.weight)
    bias = tensor("bias", [var("bias_size")], arithmetic.sum)
    sums = T.decl_buffer((spec.lanes,), arithmetic.sum, "sums", data_alignment=64)

    group, tile, inner, column, split, stage = map(var, ("group", "tile", "inner", "column", "split", "stage"))
    entry, depth, lane = var("entry"), var("depth"), var("lane")
    (_, blocks, height, width), (images, out_blocks, rows, columns) = spec.image, spec.result

    def told(number: Expr) -> Expr:
        return get(plan, group * record.size + number)

    image, row, at_column = var("image"), var("row"), var("at_column")  # of the output, in a phase
    record = record_of(spec)
    phase_row, phase_column, stage_count = (told(integer(field)) for field in range(OUTS))
    tile_image, tile_row, tile_column = divided(tile, *spec.tiles[1:])
    inner_image, inner_row, inner_column = divided(inner, *spec.tile[1:])
    out, end_row, end_column = var("out"), row * spec.step[0] + phase_row, at_column * spec.step[1] + phase_column
    height_of, width_of = rows, columns  # of the outputs, pooled or not
    rows, columns = ((n + spec.overlap) // spec.merged for n in (rows, columns))

    # one weight tile times one pixel
    warp = column * spec.warps[2] + split
    bound = stage * (record.warps + 1) + warp + record.bounds_at
    place, block = var("place"), var("block")
    tap_row, rest = T.floordiv(place, integer(patch.row)), T.floormod(place, integer(patch.row))
    in_row = row * spec.stride[0] + spec.origin[0] + patch.staged(tap_row, 0)
    tap_column = patch.staged(T.floordiv(rest, integer(patch.pixel)), 1) * spec.gap[1]
    in_column = at_column * spec.stride[1] + spec.origin[1] + tap_column
    seen = both(in_row >= integer(0), in_row < integer(height))
    if spec.planes:
        beside, number = divided(depth, PIXEL)
        channel, aside = divided(number, spec.gap[1])
        in_column = in_column + beside * spec.gap[1] + aside
        seen = both(seen, channel < integer(spec.planes))
        at = ((image * spec.planes + channel) * height + in_row) * width + in_column
    else:
        at = (((image * blocks + block) * height + in_row) * width + in_column) * BLOCK + depth
    seen, read = both(seen, in_column >= integer(0), in_column < integer(width)), get(x, at)
    kept = get(w, _weight(spec, entry, depth, lane))
    product = T.Cast(arithmetic.sum, read) * T.Cast(arithmetic.sum, kept)
    add = loop(lane, spec.lanes, [put(sums, get(sums, lane) + product, lane)])
    words = tile_words(spec.lanes, arithmetic)
    end = entry * (words + TILE_END) + words
    body = [
        T.Bind(place, T.floormod(get(weights, end), integer(patch.size))),
        T.Bind(block, get(weights, end + 1)),
        loop(depth, BLOCK, [when(seen, [add])]),
    ]
    begin, count = told(bound), told(bound + 1) - told(bound)
    entries = T.For(entry, begin, count, T.stmt.ForKind.SERIAL, T.SeqStmt(body))

    channel = out * spec.lanes + lane
    plane = image * out_blocks + T.floordiv(channel, integer(BLOCK))
    # where windows overlap, an output between two of them is in both
    down, across = var("down"), var("across")
    to_row, to_column = (
        T.floordiv(end + by, integer(spec.merged)) for end, by in ((end_row, down), (end_column, across))
    )
    to = ((plane * rows + to_row) * columns + to_column) * BLOCK + T.floormod(channel, integer(BLOCK))
    plus = T.Cast(arithmetic.sum, get(r, to)) if spec.residual else None
    total = get(sums, lane) + get(bias, channel)
    result = result_of(spec, total, plus, table, channel, out_blocks * BLOCK)
    largest = T.Max(result, T.Cast(arithmetic.sum, get(y, to))) if spec.pooled else result
    inside = both(
        out >= integer(0), image < integer(images), end_row >= integer(0), end_row < integer(height_of),
        end_column >= integer(0), end_column < integer(width_of),
    )  # fmt: skip
    stored = when(
        both(to_row < integer(rows), to_column < integer(columns)),
        [loop(lane, spec.lanes, [put(y, T.Cast(spec.target_element, largest), to)])],
    )
    every_window = loop(down, spec.overlap + 1, [loop(across, spec.overlap + 1, [stored])])
    pixels = [
        T.Bind(image, tile_image * spec.tile[0] + inner_image),
        T.Bind(row, tile_row * (spec.tile[1] - spec.overlap) - spec.overlap + inner_row),
        T.Bind(at_column, tile_column * (spec.tile[2] - spec.overlap) - spec.overlap + inner_column),
        T.Bind(out, told(column + OUTS)),
        when(
            inside,
            [
                loop(lane, spec.lanes, [put(sums, const(0, 1, arithmetic.sum), lane)]),
                loop(split, spec.warps[2], [loop(stage, stage_count, [entries])]),
                every_window,
            ],
        ),
    ]
    tiles = spec.tiles[0] * spec.tiles[1] * spec.tiles[2]
    every = loop(tile, tiles, [loop(inner, spec.tile_pixels, [loop(column, spec.warps[1], pixels)])])
    operands = [
        source,
        weights,
        bias,
        plan,
        *([table] if spec.integers else []),
        *([residual] if spec.residual else []),
    ]
    views = [see_x, see_y, see_w, *([see_r] if spec.residual else [])]
    least, size = var("least"), images * out_blocks * rows * columns * BLOCK
    clear = [loop(least, size, [put(y, T.min_value(spec.target_element), least)])] if spec.pooled else []
    return function([*operands, target], [*views, T.AllocBuffer(sums), *clear, loop(group, spec.groups, [every])])


def _weight(spec: ConvSpec, entry: Expr, depth: Expr, channel: Expr) -> Expr:
    """Where the weight of a channel lies, in elements: the order of `fragments.pack`, written down once more."""
    arithmetic, count = spec.arithmetic, spec.lanes // 8
    quarter, two = divided(channel, 2 * count)
    j, i = divided(two, 2)  # the instruction, and which of its two outputs of this lane
    step, k = divided(depth, STEP // arithmetic.size)
    each = 4 // arithmetic.size
    first = entry * (tile_words(spec.lanes, arithmetic) + TILE_END)
    if not arithmetic.preload:
        return first + (((step * 4 + quarter) * count + j) * 8 + k) * 2 + i
    word, part = divided(k, each)
    half, q = divided(word, 4)
    lane = (2 * quarter + i) * 4 + q
    vector, place = divided((step * count + j) * 2 + half, 4)
    return (first + vector * 128 + lane * 4 + place) * each + part


def _window(spec: WindowSpec) -> Any:
    images, blocks, height, width = spec.image
    rows, columns = spec.result
    source, x, see_x = _map("source", spec.element)
    target, y, see_y = _map("target", spec.target_element)
    residual, r, see_r = _map("residual", spec.residual_element)
    weights, bias = (tensor(name, [var(f"{name}_size")], spec.sum) for name in ("weights", "bias"))
    table = tensor("table", [var("table_size")], "int32")
    total = T.decl_buffer((1,), spec.sum, "total", data_alignment=64)
    item, tap = var("item"), var("tap")
    plane, row, column, lane = divided(item, rows, columns, BLOCK)
    channel = T.floormod(plane, integer(blocks)) * BLOCK + lane
    tap_row, tap_column = divided(tap, spec.kernel[1])
    at_y = row * spec.strides[0] - spec.padding[0] + tap_row * spec.dilation[0]
    at_x = column * spec.strides[1] - spec.padding[1] + tap_column * spec.dilation[1]
    seen = both(at_y >= integer(0), at_y < integer(height), at_x >= integer(0), at_x < integer(width))
    read = T.Cast(spec.sum, get(x, ((plane * height + at_y) * width + at_x) * BLOCK + lane))
    multiply, taps = spec.combine == "multiply", spec.kernel[0] * spec.kernel[1]
    if multiply:
        weight = get(weights, (T.floordiv(channel, integer(BLOCK)) * taps + tap) * BLOCK + lane)
        start, step = get(bias, channel), get(total) + read * weight
    else:
        start, step = const(-(1 << 31) if spec.integers else float("-inf"), 1, spec.sum), T.Max(get(total), read)
    plus = T.Cast(spec.sum, get(r, item)) if spec.residual else None
    result = result_of(spec, get(total), plus, table, channel, blocks * BLOCK)
    body = [
        put(total, start),
        loop(tap, taps, [when(seen, [put(total, step)])]),
        put(y, T.Cast(spec.target_element, result), item),
    ]
    operands = [source, *([weights, bias] if multiply else []), *([table] if spec.integers else [])]
    operands += [residual] if spec.residual else []
    views = [see_x, see_y, *([see_r] if spec.residual else []), T.AllocBuffer(total)]
    return function([*operands, target], [*views, loop(item, images * blocks * rows * columns * BLOCK, body)])
