"""Depthwise convolution and maximum pooling: every thread slides over a few neighbouring outputs of 8 channels."""

from __future__ import annotations

from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import flat, get, integer, put, sequence, tensor, var
from lhcc.ir.vector import const
from lhcc.targets.cuda.arch import BLOCK
from lhcc.targets.cuda.ending import result_of
from lhcc.targets.cuda.maps import PIECES, WIDTH, Items
from lhcc.targets.cuda.spec import WindowSpec
from lhcc.targets.cuda.tir import address, both, call, divided, local, unrolled, value, when

Expr = Any
RUN = 4  # neighbouring outputs of a thread: what their windows share is read once


def window_kernel(spec: WindowSpec) -> Any:
    """(source[, weights, bias][, table][, residual]) -> target; the weights lie by blocks of channels and taps."""
    images, blocks, height, width = spec.image
    rows, columns = spec.result
    run = min(RUN, columns)
    groups = -(-columns // run)
    multiply, element, kind, integers = spec.combine == "multiply", spec.element, spec.sum, spec.integers
    written, added_element = spec.target_element, spec.residual_element
    source = tensor("source", [images, blocks, height, width, BLOCK], element)
    target = tensor("target", [images, blocks, rows, columns, BLOCK], written)
    weights, bias = tensor("weights", [var("weights_size")], kind), tensor("bias", [var("bias_size")], kind)
    residual = tensor("residual", [images, blocks, rows, columns, BLOCK], added_element)
    table = tensor("table", [var("table_size")], "int32")
    views = [flat(source, "x", element), flat(target, "y", written), flat(residual, "r", added_element)]
    (x, _), (y, _), (r, _) = views
    items = Items(images * blocks * rows * groups * PIECES)
    image, block, row, group, piece = divided(items.item, blocks, rows, groups, PIECES)
    plane = image * blocks + block

    sums, values, weight, added = (
        local(n, WIDTH * (run if n == "sums" else 1), kind) for n in ("sums", "values", "weight", "added")
    )
    first, channel = var("first"), var("channel")
    body: list[Any] = [T.AllocBuffer(sums), T.AllocBuffer(values)]
    body += [T.AllocBuffer(weight)] if multiply else []
    body += [T.AllocBuffer(added)] if spec.residual else []
    body += [T.Bind(first, group * run), T.Bind(channel, block * BLOCK + piece * WIDTH)]
    if multiply:
        body += [call(f"load_channels<{WIDTH}>", address(sums, o * WIDTH), address(bias, channel)) for o in range(run)]
    else:
        clear = var("clear")
        least = const(-(1 << 31), 1, kind) if integers else value(kind, "minus_infinity")
        body.append(unrolled(clear, WIDTH * run, put(sums, least, clear)))
    for tap_row in range(spec.kernel[0]):
        at_y = var(f"at_y{tap_row}")
        body.append(T.Bind(at_y, row * spec.strides[0] - spec.padding[0] + tap_row * spec.dilation[0]))
        line: list[Any] = []
        for offset, taps in _reads(spec, run).items():
            at_x, c = var(f"at_x{offset}"), var("c")
            place = ((plane * height + at_y) * width + at_x) * BLOCK + piece * WIDTH
            use: list[Any] = [call(f"load_channels<{WIDTH}>", address(values), address(x, place))]
            for output, tap_column in taps:
                c = var(f"c{output}")
                into = c + output * WIDTH
                if multiply:
                    tap = block * (spec.kernel[0] * spec.kernel[1]) + tap_row * spec.kernel[1] + tap_column
                    use.append(
                        call(f"load_channels<{WIDTH}>", address(weight), address(weights, tap * BLOCK + piece * WIDTH))
                    )
                    result = get(sums, into) + get(values, c) * get(weight, c)
                else:
                    result = T.Max(get(sums, into), get(values, c))
                use.append(unrolled(c, WIDTH, put(sums, result, into)))
            line.append(T.Bind(at_x, first * spec.strides[1] - spec.padding[1] + offset))
            line.append(when(both(at_x >= integer(0), at_x < integer(width)), use))
        body.append(when(both(at_y >= integer(0), at_y < integer(height)), line))
    for output in range(run):
        column, place, c, total = var(f"column{output}"), var(f"place{output}"), var("c"), var("total", kind)
        store: list[Any] = []
        if spec.residual:
            store.append(call(f"load_channels<{WIDTH}>", address(added), address(r, place)))
        plus = get(added, c) if spec.residual else None
        result = result_of(spec, total, plus, table, channel + c, blocks * BLOCK)
        end = [T.Bind(total, get(sums, c + output * WIDTH)), put(sums, result, c + output * WIDTH)]
        if spec.residual or spec.activation or integers:
            store.append(unrolled(c, WIDTH, T.SeqStmt(end)))
        store.append(call(f"store_channels<{WIDTH}>", address(y, place), address(sums, output * WIDTH)))
        body += [
            T.Bind(column, first + output),
            T.Bind(place, ((plane * rows + row) * columns + column) * BLOCK + piece * WIDTH),
            when(column < integer(columns), store) if columns % run else sequence(store),
        ]
    operands = [source, *([weights, bias] if multiply else []), *([table] if integers else []),
                *([residual] if spec.residual else [])]  # fmt: skip
    seen = [view for (_, view), used in zip(views, (True, True, bool(spec.residual)), strict=True) if used]
    return items.build([*operands, target], seen, body)


def _reads(spec: WindowSpec, run: int) -> dict[int, list[tuple[int, int]]]:
    """Which outputs of a run, at which tap column, read the input at each offset from the first output's."""
    reads: dict[int, list[tuple[int, int]]] = {}
    for output in range(run):
        for tap in range(spec.kernel[1]):
            reads.setdefault(output * spec.strides[1] + tap * spec.dilation[1], []).append((output, tap))
    return dict(sorted(reads.items()))
