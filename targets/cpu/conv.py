"""The convolution kernel: one generator of TIR for every convolution and matrix product, dense ones included.

Per register tile of output pixels: accumulators start from the bias, run over the kept weight tiles of the output
block (a list of input positions), then take the residual and the activation and are stored once.  The innermost code
is one vector of weights times one broadcast input per pixel.
"""

from __future__ import annotations

from typing import Any


from tvm import tirx as T

from lhcc.targets.cpu.plan import TILE_FIELDS, ConvSpec, Shape
from lhcc.targets.cpu.vector import activate, const

Expr = Any
Stmt = Any


def _int(value: int) -> Expr:
    return T.IntImm("int32", value)


def _var(name: str, dtype: str = "int32") -> Expr:
    return T.Var(name, dtype)


def _loop(var: Expr, start: Expr, stop: Expr, body: Stmt) -> Stmt:
    return T.For(var, start, stop - start, T.stmt.ForKind.SERIAL, body)


def _sequence(statements: list[Stmt]) -> Stmt:
    return statements[0] if len(statements) == 1 else T.SeqStmt(statements)


class ConvKernel:
    """Builds the PrimFunc of one ConvSpec."""

    def __init__(self, spec: ConvSpec, source_rank: int, target_rank: int) -> None:
        self.spec = spec
        self.source, source_flat = self._argument("source", source_rank)
        self.target, target_flat = self._argument("target", target_rank)
        self.residual, residual_flat = self._argument("residual", target_rank)
        self.x, self.y, self.r = source_flat[0], target_flat[0], residual_flat[0]
        self.views = [source_flat[1], target_flat[1]] + ([residual_flat[1]] if spec.residual else [])
        self.weights = T.decl_buffer((_var("weights_size"),), "float32", "weights", data_alignment=64)
        self.bias = T.decl_buffer((_var("bias_size"),), "float32", "bias", data_alignment=64)
        self.plan = T.decl_buffer((_var("plan_size"),), "int32", "plan", data_alignment=64)

    def _argument(self, name: str, rank: int) -> tuple[Expr, tuple[Expr, Stmt]]:
        """A tensor argument of any extents, and its flat view (the size of a view is never looked at)."""
        tensor = T.decl_buffer([_var(f"{name}_{axis}") for axis in range(rank)], "float32", name, data_alignment=64)
        flat = T.decl_buffer((_int(1 << 30),), "float32", f"{name}_flat", data=T.buffer_data(tensor), data_alignment=64)
        return tensor, (flat, T.DeclBuffer(flat, data=T.buffer_data(tensor)))

    def build(self) -> Any:
        spec = self.spec
        thread, first, last = _var("thread"), _var("first"), _var("last")
        unit = _var("unit")
        body = [
            T.Bind(first, self.at(_int(spec.bounds_at) + thread)),
            T.Bind(last, self.at(_int(spec.bounds_at + 1) + thread)),
            _loop(unit, first, last, self._unit(unit)),
        ]
        if spec.threads > 1:
            whole: list[Stmt] = [T.For(thread, _int(0), _int(spec.threads), T.stmt.ForKind.PARALLEL, T.SeqStmt(body))]
        else:
            whole = [T.Bind(thread, _int(0)), *body]
        arguments = [self.source, self.weights, self.bias, self.plan]
        arguments += [self.residual] if spec.residual else []
        function = T.PrimFunc([*arguments, self.target], T.SeqStmt([*self.views, *whole]))
        return function.with_attr({"tirx.noalias": True, "lhcc.lowered": True})

    def at(self, position: Expr) -> Expr:
        return T.BufferLoad(self.plan, [position])

    def _unit(self, unit: Expr) -> Stmt:
        """One register tile of one block of outputs: find its tables, then run the code of its shape."""
        spec = self.spec
        blocks = self.at(_int(0))
        out, place, tile, image, row = (_var(n) for n in ("out", "place", "tile", "image", "row"))
        per_block = spec.tiles * spec.batch
        if spec.tile_outer:
            split = [T.Bind(out, T.floormod(unit, blocks)), T.Bind(place, T.floordiv(unit, blocks))]
        else:
            split = [T.Bind(out, T.floordiv(unit, _int(per_block))), T.Bind(place, T.floormod(unit, _int(per_block)))]
        self.out = out
        self.base, self.spot, self.klass = _var("base"), _var("spot"), _var("class_at")
        shape = _var("shape")
        bind = [
            *split,
            T.Bind(tile, T.floormod(place, _int(spec.tiles))),
            T.Bind(image, T.floordiv(place, _int(spec.tiles))),
            T.Bind(row, _int(spec.tiles_at) + tile * _int(TILE_FIELDS)),
            T.Bind(self.base, self.at(row) + image * _int(spec.source.image)),
            T.Bind(self.spot, self.at(row + 1) + image * _int(spec.target_image) + out * self.at(_int(2))),
            T.Bind(shape, self.at(row + 2)),
            T.Bind(self.klass, _int(spec.runs_at) + self.at(row + 3)),
        ]
        code = self._tile(spec.shapes[-1])
        for number in reversed(range(len(spec.shapes) - 1)):
            code = T.IfThenElse(T.EQ(shape, _int(number)), self._tile(spec.shapes[number]), code)
        return T.SeqStmt([*bind, code])

    def _tile(self, shape: Shape) -> Stmt:
        spec = self.spec
        vector = f"float32x{spec.lanes}"
        pixels = shape.height * shape.width
        sums = [
            [
                [T.decl_buffer((1,), vector, f"sum{p}_{v}_{s}", scope="global") for s in range(shape.splits)]
                for v in range(spec.vectors)
            ]
            for p in range(pixels)
        ]
        allocate = [T.AllocBuffer(s) for p in sums for v in p for s in v]
        start: list[Stmt] = []
        for v in range(spec.vectors):
            bias = _var(f"bias{v}", vector)
            position = self.out * _int(spec.block) + _int(v * spec.lanes)
            start.append(T.Bind(bias, T.BufferLoad(self.bias, [T.Ramp(position, 1, spec.lanes)])))
            for p in range(pixels):
                for s, buffer in enumerate(sums[p][v]):
                    start.append(T.BufferStore(buffer, const(0.0, spec.lanes) if s else bias, [_int(0)]))
        products = [self._rect(shape, number, sums) for number in range(len(shape.rects))]
        return T.SeqStmt([*allocate, *start, *products, *self._finish(shape, sums)])

    def _rect(self, shape: Shape, number: int, sums: list[list[list[Expr]]]) -> Stmt:
        """All products of one sub-rectangle of the tile: over its runs of taps, over the weight tiles of each run."""
        spec = self.spec
        top, bottom, left, right = shape.rects[number]
        run, entry, position, weight = (_var(n) for n in ("run", "entry", "position", "weight"))
        start = _var("start")
        pixels = [(y * shape.width + x, y, x) for y in range(top, bottom) for x in range(left, right)]
        row, column = spec.stride[0] * spec.source.row, spec.stride[1] * spec.source.pixel

        def step(base_x: Expr, base_w: Expr, channel: int) -> list[Stmt]:
            code: list[Stmt] = []
            loaded = []
            for v in range(spec.vectors):
                value = _var(f"w{channel}_{v}", f"float32x{spec.lanes}")
                offset = (channel * spec.vectors + v) * spec.lanes
                code.append(T.Bind(value, T.BufferLoad(self.weights, [T.Ramp(base_w + offset, 1, spec.lanes)])))
                loaded.append(value)
            for p, y, x in pixels:
                for v in range(spec.vectors):
                    offset = y * row + x * column + channel * spec.source.channel
                    if spec.lanewise:
                        value = T.BufferLoad(self.x, [T.Ramp(base_x + (offset + v * spec.lanes), 1, spec.lanes)])
                    else:
                        value = T.Broadcast(T.BufferLoad(self.x, [base_x + offset]), spec.lanes)
                    into = sums[p][v][channel % shape.splits]
                    code.append(T.BufferStore(into, T.BufferLoad(into, [_int(0)]) + value * loaded[v], [_int(0)]))
            return code

        inner = max(u for u in (spec.unroll, shape.splits, 1) if spec.depth % u == 0)
        unroll = spec.depth if spec.depth < 2 * inner else inner
        if unroll == spec.depth:
            body = [s for channel in range(unroll) for s in step(position, weight, channel)]
        else:
            chunk = _var("chunk")
            base_x = position + chunk * _int(unroll * spec.source.channel)
            base_w = weight + chunk * _int(unroll * spec.block)
            code = [s for channel in range(unroll) for s in step(base_x, base_w, channel)]
            body = [_loop(chunk, _int(0), _int(spec.depth // unroll), T.SeqStmt(code))]
        entries_at = self.at(_int(1))
        load = [
            T.Bind(position, self.base + self.at(entries_at + entry)),
            T.Bind(weight, entry * _int(spec.depth * spec.block)),
        ]
        begin, end = _var("begin"), _var("end")
        tap = self.at(_int(3)) + self.out * _int(spec.taps + 1)
        per_run = T.SeqStmt(
            [
                T.Bind(start, _int(spec.runs_at) + run),
                T.Bind(begin, self.at(tap + self.at(start))),
                T.Bind(end, self.at(tap + self.at(start + 1))),
                _loop(entry, begin, end, T.SeqStmt(load + body)),
            ]
        )
        # runs come in pairs: walk them by index from this rectangle's first to the next one's
        pair = _var("pair")
        count = T.floordiv(self.at(self.klass + (number + 1)) - self.at(self.klass + number), _int(2))
        first = self.at(self.klass + number)
        first_var = _var("first_run")
        return T.SeqStmt(
            [
                T.Bind(first_var, first),
                T.For(
                    pair, _int(0), count, T.stmt.ForKind.SERIAL,
                    T.SeqStmt([T.Bind(run, first_var + pair * _int(2)), per_run]),
                ),
            ]
        )  # fmt: skip

    def _finish(self, shape: Shape, sums: list[list[list[Expr]]]) -> list[Stmt]:
        spec = self.spec
        code: list[Stmt] = []
        for p, vectors in enumerate(sums):
            y, x = divmod(p, shape.width)
            for v, parts in enumerate(vectors):
                values = [T.BufferLoad(part, [_int(0)]) for part in parts]
                while len(values) > 1:
                    half = len(values) // 2
                    values = [values[i] + values[i + half] for i in range(half)]
                offset = y * spec.target_row + x * spec.target_pixel + spec.vector_at[v]
                position = self.spot + _int(offset)
                store = self._store(values[0], position, spec.lanes)
                if spec.tail:
                    last = T.EQ(self.out, self.at(_int(0)) - 1)
                    code.append(T.IfThenElse(last, self._store_tail(values[0], parts[0], v, position), store))
                else:
                    code.append(store)
        return code

    def _epilogue(self, value: Expr, position: Expr, lanes: int) -> Expr:
        spec = self.spec
        if not spec.residual:
            return activate(value, spec.activation)
        index = T.Ramp(position, 1, lanes) if lanes > 1 else position
        residual = T.BufferLoad(self.r, [index])
        if spec.residual == "before":
            return activate(value + residual, spec.activation)
        return activate(value, spec.activation) + residual

    def _store(self, value: Expr, position: Expr, lanes: int) -> Stmt:
        """The epilogue, evaluated once into a register, then one store."""
        index = T.Ramp(position, 1, lanes) if lanes > 1 else position
        return T.BufferStore(self.y, self._epilogue(value, position, lanes), [index])

    def _store_tail(self, value: Expr, scratch: Expr, vector: int, position: Expr) -> Stmt:
        """The last block of a matrix has fewer columns than lanes: store those one by one."""
        spec = self.spec
        lanes = max(0, min(spec.lanes, spec.tail - vector * spec.lanes))
        code = [T.BufferStore(scratch, value, [_int(0)])]
        for lane in range(lanes):
            one = T.Shuffle([T.BufferLoad(scratch, [_int(0)])], [_int(lane)])
            code.append(self._store(one, position + lane, 1))
        return _sequence(code)


def conv_kernel(spec: ConvSpec, source_rank: int = 5, target_rank: int = 5) -> Any:
    """The PrimFunc of `spec`: (source, weights, bias, plan[, residual]) -> target."""
    return ConvKernel(spec, source_rank, target_rank).build()



