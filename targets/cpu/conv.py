"""The convolution kernel: one generator of TIR for every convolution and matrix product, dense ones included.

Per register tile of output pixels: accumulators start from the bias, run over the kept weight tiles of the output
block (a list of input positions), then take the residual and the activation and are stored once.  The innermost code
is one vector of weights times one broadcast input per pixel.
"""

from __future__ import annotations

from math import inf
from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import EFFORT, flat, function, get, integer, loop, opaque, put, register, sequence, tensor, var
from lhcc.ir.vector import const, epilogue
from lhcc.targets.cpu.ahead import LINE_WEIGHTS
from lhcc.targets.cpu.asking import Asking
from lhcc.targets.cpu.geometry import Rect
from lhcc.targets.cpu.plan import TILE_FIELDS, ConvSpec, Shape
from lhcc.targets.cpu.units import each_unit, from_to

Expr = Any
Stmt = Any
Sums = list[list[list[Expr]]]  # registers by pixel, vector and partial sum


class ConvKernel:
    """Builds the PrimFunc of one ConvSpec.  A subclass computes with other numbers."""

    element = "float32"

    def __init__(self, spec: ConvSpec, source_rank: int, target_rank: int) -> None:
        self.spec = spec
        # extents stay open, so that layers of other channel counts share the code
        element = self.element
        self.source = tensor("source", [var(f"source_{axis}") for axis in range(source_rank)], element)
        self.target = tensor("target", [var(f"target_{axis}") for axis in range(target_rank)], element)
        self.residual = tensor("residual", [var(f"residual_{axis}") for axis in range(target_rank)], element)
        self.x, see_x = flat(self.source, "x", element)
        self.y, see_y = flat(self.target, "y", element)
        self.r, see_r = flat(self.residual, "r", element)
        self.views = [see_x, see_y] + ([see_r] if spec.residual else [])
        self.weights = tensor("weights", [var("weights_size")], element)
        self.bias = tensor("bias", [var("bias_size")], element)
        self.plan = tensor("plan", [var("plan_size")], "int32")
        self.asking = Asking(spec, self._prefetch)

    def build(self) -> Any:
        spec = self.spec
        thread, first, last = var("thread"), var("first"), var("last")
        body = [
            T.Bind(first, self.at(integer(spec.bounds_at) + thread)),
            T.Bind(last, self.at(integer(spec.bounds_at + 1) + thread)),
            each_unit(first, last, self.at(integer(0)), self.at(integer(4)), self.at(integer(5)), self._unit),
        ]
        if spec.threads > 1:
            whole: list[Stmt] = [loop(thread, spec.threads, body, parallel=True)]
        else:
            whole = [T.Bind(thread, integer(0)), *body]
        weights = [self.weights, self.bias] if spec.combine == "multiply" else []
        arguments = [self.source, *weights, self.plan]
        arguments += self.extra_arguments()
        return function([*arguments, self.target], [*self.views, *whole]).with_attr(EFFORT, spec.effort)

    def extra_arguments(self) -> list[Expr]:
        return [self.residual] if self.spec.residual else []

    def at(self, position: Expr) -> Expr:
        return get(self.plan, position)

    # ---- the arithmetic
    def least(self) -> Expr:
        return const(-inf, self.spec.lanes)

    def product(self, total: Expr, value: Expr, weight: Expr) -> Expr:
        return total + value * weight

    def plus(self, left: Expr, right: Expr) -> Expr:
        """Two partial sums made one."""
        return left + right

    def load_lanes(self, x: Expr, position: Expr) -> Expr:
        """Neighbouring channels of one pixel."""
        return get(x, position, self.spec.lanes)

    def _unit(self, out: Expr, place: Expr, number: Expr) -> list[Stmt]:
        """One register tile, the `number`-th of its group, of one block of outputs: find its tables, then run the code
        of its shape."""
        spec, row = self.spec, var("row")
        self.out = out
        starts = self.at(integer(3)) + out * integer(spec.taps + 1)
        split = self.asking.find_share(number, self.at(starts), self.at(starts + integer(spec.taps)))
        tile, image = place, integer(0)
        if spec.batch > 1:
            tile, image = var("tile"), var("image")
            split += [
                T.Bind(tile, T.truncmod(place, integer(spec.tiles))),
                T.Bind(image, T.truncdiv(place, integer(spec.tiles))),
            ]
        self.base, self.spot, self.klass = var("base"), var("spot"), var("class_at")
        shape = var("shape")
        bind = [
            *split,
            T.Bind(row, integer(spec.tiles_at) + tile * integer(TILE_FIELDS)),
            T.Bind(self.base, self.at(row) + image * integer(spec.source.image)),
            T.Bind(self.spot, self.at(row + 1) + image * integer(spec.target_image) + out * self.at(integer(2))),
            T.Bind(shape, self.at(row + 2)),
            T.Bind(self.klass, integer(spec.runs_at) + self.at(row + 3)),
        ]
        code = self._tile(spec.shapes[-1])
        for number in reversed(range(len(spec.shapes) - 1)):
            code = T.IfThenElse(T.EQ(shape, integer(number)), self._tile(spec.shapes[number]), code)
        return [*bind, code]

    def _tile(self, shape: Shape) -> Stmt:
        spec = self.spec
        vector = f"{self.element}x{spec.lanes}"
        pixels = shape.height * shape.width
        sums = [
            [[register(f"sum{p}_{v}_{s}", vector) for s in range(shape.splits)] for v in range(spec.vectors)]
            for p in range(pixels)
        ]
        allocate = [T.AllocBuffer(s) for p in sums for v in p for s in v]
        start: list[Stmt] = []
        for v in range(spec.vectors):
            bias = var(f"bias{v}", vector)
            position = self.out * integer(spec.block) + integer(v * spec.lanes)
            if spec.combine == "multiply":
                first = get(self.bias, position, spec.lanes)
            else:
                first = self.least() if spec.combine == "max" else const(0, spec.lanes, self.element)
            start.append(T.Bind(bias, first))
            for p in range(pixels):
                for s, buffer in enumerate(sums[p][v]):
                    start.append(put(buffer, const(0, spec.lanes, self.element) if s else bias))
        products = [self._rect(shape, number, sums) for number in range(len(shape.rects))]
        return T.SeqStmt([*allocate, *start, *products, *self._finish(shape, sums)])

    def _rect(self, shape: Shape, number: int, sums: Sums) -> Stmt:
        """All products of one sub-rectangle of the tile: over its runs of taps, over the weight tiles of each run."""
        spec = self.spec
        run, entry, position, weight = (var(n) for n in ("run", "entry", "position", "weight"))
        begin, end, first, pair = (var(n) for n in ("begin", "end", "first_run", "pair"))
        per_entry = [
            T.Bind(position, self.base + self.at(self.at(integer(1)) + entry)),
            T.Bind(weight, entry * integer(spec.depth * spec.block)),
            *self.asking.ask(entry, weight),
            *self._products(shape, shape.rects[number], sums, position, weight),
        ]
        # runs come in pairs of taps: walk them from this rectangle's first to the next one's
        tap = self.at(integer(3)) + self.out * integer(spec.taps + 1)
        per_run = [
            T.Bind(run, integer(spec.runs_at) + first + pair * integer(2)),
            T.Bind(begin, self.at(tap + self.at(run))),
            T.Bind(end, self.at(tap + self.at(run + 1))),
            from_to(entry, begin, end, T.SeqStmt(per_entry)),
        ]
        count = T.floordiv(self.at(self.klass + (number + 1)) - first, integer(2))
        return T.SeqStmt([T.Bind(first, self.at(self.klass + number)), loop(pair, count, per_run)])

    def _products(self, shape: Shape, rect: Rect, sums: Sums, position: Expr, weight: Expr) -> list[Stmt]:
        """One weight tile times its inputs.  Merged kernel columns that cover the same pixels share a loop: unrolled,
        the weights of all of them would be loaded first and push the sums out of the registers."""
        spec = self.spec
        per_column = spec.depth // spec.merged
        inner = max(u for u in (spec.unroll, shape.splits, 1) if per_column % u == 0)
        unroll = per_column if per_column < 2 * inner else inner
        top, bottom, *edges = rect
        columns = list(zip(edges[::2], edges[1::2], strict=True))
        code: list[Stmt] = []
        start = 0
        while start < spec.merged:
            stop = next((g for g in range(start, spec.merged) if columns[g] != columns[start]), spec.merged)
            left, right = columns[start]
            pixels = [(y, x) for y in range(top, bottom) for x in range(left, right)]
            group, chunk = var("group"), var("chunk")
            base_x = position + integer(start * spec.merged_step)
            base_w = weight + integer(start * per_column * spec.block)
            if stop - start > 1:
                base_x = base_x + group * integer(spec.merged_step)
                base_w = base_w + group * integer(per_column * spec.block)
            if unroll < per_column:
                base_x = base_x + chunk * integer(unroll * spec.source.channel)
                base_w = base_w + chunk * integer(unroll * spec.block)
            x = self.x
            body: list[Stmt] = []
            if spec.lanes == 16 and not spec.lanewise:  # inputs are operands of multiply-adds
                x, body = opaque(self.x, base_x, self.at(integer(spec.bounds_at)), "near", self.element)
                base_x = integer(0)
            for channel in range(unroll):
                body += self._channel(shape, pixels, sums, x, base_x, base_w, channel)
            if unroll < per_column:
                body = [loop(chunk, per_column // unroll, body)]
            if stop - start > 1:
                body = [loop(group, stop - start, body)]
            code += body if pixels else []
            start = stop
        return code

    def _channel(
        self,
        shape: Shape,
        pixels: list[tuple[int, int]],
        sums: Sums,
        x: Expr,
        base_x: Expr,
        base_w: Expr,
        channel: int,
    ) -> list[Stmt]:
        """The innermost code: the weights of one input channel, then one multiply-add per pixel and vector."""
        spec = self.spec
        code: list[Stmt] = []
        loaded = []
        for v in range(spec.vectors if spec.combine == "multiply" else 0):
            value = var(f"w{channel}_{v}", f"{self.element}x{spec.lanes}")
            offset = (channel * spec.vectors + v) * spec.lanes
            code.append(T.Bind(value, get(self.weights, base_w + offset, spec.lanes)))
            if spec.prefetch and not spec.asked and offset % LINE_WEIGHTS == 0:
                code.append(T.Evaluate(self._prefetch(base_w + (offset + spec.prefetch))))
            loaded.append(value)
        row, column = spec.stride[0] * spec.source.row, spec.stride[1] * spec.source.pixel
        for y, column_ in pixels:
            for v in range(spec.vectors):
                offset = y * row + column_ * column + channel * spec.source.channel
                if spec.lanewise:
                    value = self.load_lanes(x, base_x + (offset + v * spec.lanes))
                else:
                    value = T.Broadcast(get(x, base_x + offset), spec.lanes)
                into = sums[y * shape.width + column_][v][channel % shape.splits]
                if spec.combine == "max":
                    code.append(put(into, T.Max(get(into), value)))
                elif spec.combine == "add":
                    code.append(put(into, get(into) + value))
                else:
                    code.append(put(into, self.product(get(into), value, loaded[v])))
        return code

    def _prefetch(self, position: Expr) -> Expr:
        """Asks for a line of weights to be brought into the second-level cache; from there processors fetch ahead."""
        place = T.address_of(T.BufferLoad(self.weights, [position]))
        return T.call_llvm_intrin("void", "llvm.prefetch", place, integer(0), integer(2), integer(1))

    def _finish(self, shape: Shape, sums: Sums) -> list[Stmt]:
        spec = self.spec
        code: list[Stmt] = []
        for p, vectors in enumerate(sums):
            y, x = divmod(p, shape.width)
            for v, parts in enumerate(vectors):
                values = [get(part) for part in parts]
                while len(values) > 1:
                    half = len(values) // 2
                    values = [self.plus(values[i], values[i + half]) for i in range(half)]
                offset = y * spec.target_row + x * spec.target_pixel + spec.vector_at[v]
                position = self.spot + integer(offset)
                store = self.store(values[0], position, spec.lanes, v)
                if spec.tail:
                    last = T.EQ(self.out, self.at(integer(0)) - 1)
                    code.append(T.IfThenElse(last, self._store_tail(values[0], parts[0], v, position), store))
                else:
                    code.append(store)
        return code

    def _epilogue(self, value: Expr, position: Expr, lanes: int) -> Expr:
        spec = self.spec
        added = get(self.r, position, lanes) if spec.residual else None
        return epilogue(value, added, spec.residual, spec.activation)

    def store(self, value: Expr, position: Expr, lanes: int, vector: int) -> Stmt:
        """The epilogue, evaluated once into a register, then one store."""
        return put(self.y, self._epilogue(value, position, lanes), position, lanes)

    def _store_tail(self, value: Expr, scratch: Expr, vector: int, position: Expr) -> Stmt:
        """The last block of a matrix has fewer columns than lanes: store those one by one."""
        spec = self.spec
        lanes = max(0, min(spec.lanes, spec.tail - vector * spec.lanes))
        code = [put(scratch, value)]
        for lane in range(lanes):
            one = T.Shuffle([get(scratch)], [integer(lane)])
            code.append(self.store(one, position + lane, 1, vector))
        return sequence(code)


def conv_kernel(spec: ConvSpec, source_rank: int = 5, target_rank: int = 5) -> Any:
    """The PrimFunc of `spec`: (source, weights, bias, plan[, residual]) -> target; maximum takes (source, plan)."""
    return ConvKernel(spec, source_rank, target_rank).build()
