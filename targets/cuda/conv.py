"""The convolution kernel for GPUs: one generator of TIR for every convolution and matrix product, dense ones included.

A thread block stages the input pixels under its tile of outputs in shared memory, several input blocks ahead of
their use, by asynchronous copies.  Every warp multiplies a few 16-pixel fragments by the kept weight tiles of one
output block: matrices of pixels come from shared memory, shifted by the tap; weights come straight from memory, in
fragment order, one tile ahead.  Bias, residual and activation are applied to the sums in registers.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import flat, get, integer, loop, put, tensor, var
from lhcc.ir.vector import epilogue
from lhcc.targets.cuda import cost
from lhcc.targets.cuda.arch import BLOCK, STEP, Arch
from lhcc.targets.cuda.fragments import tile_words
from lhcc.targets.cuda.plan import GROUP_FIELDS, HEADER, ConvSpec, pixel_bytes, shared_bytes
from lhcc.targets.cuda.tir import Threads, address, both, call, divided, local, unrolled, value, when

Expr = Any
Stmt = Any


class ConvKernel:
    """Builds the PrimFunc of one ConvSpec: (source, weights, bias, plan[, residual]) -> target."""

    def __init__(self, spec: ConvSpec) -> None:
        self.spec = spec
        self.arithmetic = Arch(spec.arch).arithmetic(spec.precision)
        self.count = spec.lanes // 8  # matrix instructions per fragment of pixels
        self.words = tile_words(spec.lanes, self.arithmetic)
        self.pixel = pixel_bytes(self.arithmetic.size)
        self.slot = spec.stage_blocks * spec.patch_pixels * self.pixel  # bytes of a stage
        element = self.arithmetic.element
        maps = {name: tensor(name, [var(f"{name}_{axis}") for axis in range(5)], element) for name in self._maps()}
        self.source, self.target, self.residual = maps["source"], maps["target"], maps.get("residual")
        (self.x, see_x), (self.y, see_y) = flat(self.source, "x", element), flat(self.target, "y", element)
        self.views = [see_x, see_y]
        if self.residual is not None:
            self.r, see_r = flat(self.residual, "r", element)
            self.views.append(see_r)
        self.weights = tensor("weights", [var("weights_size")], "int32")
        self.bias = tensor("bias", [var("bias_size")])
        self.plan = tensor("plan", [var("plan_size")], "int32")
        self.threads = Threads()
        chunks = BLOCK * self.arithmetic.size // 16  # 16-byte pieces of one pixel
        self.copies = -(-spec.patch_pixels * chunks // spec.threads)
        # registers
        self.sums = local("sums", spec.pixels * self.count * 4)
        self.a = local("a", self.arithmetic.a, "int32")
        weights = self.count * self.arithmetic.b * (self.arithmetic.steps if self.arithmetic.preload else 1)
        self.b, self.ahead = local("b", weights, "int32"), local("ahead", weights, "int32")
        self.offset = local("offset", 1, "int32")
        self.rows = local("rows", spec.pixels * (1 if self.arithmetic.preload else 2), "int32")
        self.reads = local("reads", self.copies, "int32")

    def _maps(self) -> list[str]:
        return ["source", "target", *(["residual"] if self.spec.residual else [])]

    def build(self) -> Any:
        spec = self.spec
        registers = [self.sums, self.a, self.b, self.rows, self.reads]
        registers += [self.ahead, self.offset] if self.arithmetic.preload else []
        body = [
            *self.views,
            *map(T.AllocBuffer, registers),
            *self._place(),
            *self._clear(),
            *self._addresses(),
            *self._main(),
            *self._add_up(),
            self._finish(),
        ]
        images, rows, columns = spec.tiles
        operands = [self.source, self.weights, self.bias, self.plan, *([self.residual] if spec.residual else [])]
        grid = (images * rows * columns, spec.groups)
        count = cost.registers(spec.pixels, spec.lanes, self.copies, self.arithmetic)
        held = max(1, min(16, (512 if count <= 120 else 256) // spec.threads))
        shared = shared_bytes(spec, self.arithmetic.size)
        return self.threads.kernel([*operands, self.target], body, grid, spec.threads, shared, held)

    def at(self, position: Expr | int) -> Expr:
        return get(self.plan, integer(position) if isinstance(position, int) else position)

    # ---- where this thread works
    def _place(self) -> list[Stmt]:
        spec, thread, row = self.spec, self.threads.thread, var("group_row")
        across, columns, splits = spec.warps
        self.image0, self.row0, self.column0 = var("image0"), var("row0"), var("column0")
        self.phase_row, self.phase_column = var("phase_row"), var("phase_column")
        self.stage_count, self.stages_at, self.bounds_at = var("stage_count"), var("stages_at"), var("bounds_at")
        self.lane, self.warp_pixel, self.warp_column, self.split = (
            var("lane"),
            var("warp_m"),
            var("warp_n"),
            var("warp_k"),
        )
        self.out, self.first, self.memory, self.entries = var("out"), var("first"), var("memory"), var("entries")
        warp, group = var("warp"), self.threads.y
        image, tile_row, tile_column = divided(self.threads.x, *spec.tiles[1:])
        column = group * columns + self.warp_column
        return [
            T.Bind(self.image0, image * spec.tile[0]),
            T.Bind(self.row0, tile_row * spec.tile[1]),
            T.Bind(self.column0, tile_column * spec.tile[2]),
            T.Bind(row, group * GROUP_FIELDS + HEADER),
            T.Bind(self.phase_row, self.at(row)),
            T.Bind(self.phase_column, self.at(row + 1)),
            T.Bind(self.stage_count, self.at(row + 2)),
            T.Bind(self.stages_at, self.at(row + 3)),
            T.Bind(self.bounds_at, self.at(row + 4)),
            T.Bind(self.lane, T.floormod(thread, integer(32))),
            T.Bind(warp, T.floordiv(thread, integer(32))),
            T.Bind(self.warp_pixel, T.floormod(warp, integer(across))),
            T.Bind(self.warp_column, T.floormod(T.floordiv(warp, integer(across)), integer(columns))),
            T.Bind(self.split, T.floordiv(warp, integer(across * columns))),
            T.Bind(self.out, self.at(self.at(0) + column)),
            T.Bind(self.first, self.at(self.at(1) + column * splits + self.split)),
            T.Bind(self.entries, self.at(2)),
            T.Bind(self.memory, value("int32", "shared_memory")),
        ]

    def _clear(self) -> list[Stmt]:
        index, size = var("index"), self.spec.pixels * self.count * 4
        return [unrolled(index, size, put(self.sums, T.FloatImm("float32", 0.0), index))]

    def _position(self, fragment: Expr | int, row: Expr) -> Expr:
        """Which pixel of the tile is row `row` of a fragment."""
        return (self.warp_pixel * self.spec.pixels + fragment) * 16 + row

    def _addresses(self) -> list[Stmt]:
        """Where this lane's rows of the fragments start in a staged patch, and what this thread copies into it."""
        spec, code = self.spec, []
        (_, rows, columns), (patch_rows, patch_columns) = spec.tile, spec.patch
        if self.arithmetic.preload:
            own = [(T.floormod(self.lane, integer(16)), T.floordiv(self.lane, integer(16)) * 16)]
        else:
            own = [(T.floordiv(self.lane, integer(4)) + 8 * half, integer(0)) for half in range(2)]
        for half, (row, chunk) in enumerate(own):
            for fragment in range(spec.pixels):
                position = self._position(fragment, row)
                image, y, x = divided(position, rows, columns)
                pixel = (image * patch_rows + y * spec.stride[0]) * patch_columns + x * spec.stride[1]
                inside = T.Select(position < integer(spec.tile[0] * rows * columns), pixel, integer(0))
                code.append(put(self.rows, inside * self.pixel + chunk, integer(half * spec.pixels + fragment)))
        images, blocks, height, width = spec.image
        chunks = BLOCK * self.arithmetic.size // 16
        for number in range(self.copies):
            piece = self.threads.thread + integer(number * spec.threads)
            image, y, x = divided(T.floordiv(piece, integer(chunks)), patch_rows, patch_columns)
            y = self.row0 * spec.stride[0] + spec.origin[0] + y
            x = self.column0 * spec.stride[1] + spec.origin[1] + x
            image = self.image0 + image
            inside = both(
                y >= integer(0), y < integer(height), x >= integer(0), x < integer(width), image < integer(images),
                piece < integer(spec.patch_pixels * chunks),
            )  # fmt: skip
            pixel = (image * (blocks * height) + y) * width + x
            chunk = T.floormod(piece, integer(chunks)) * (16 // self.arithmetic.size)
            code.append(put(self.reads, T.Select(inside, pixel * BLOCK + chunk, integer(-1)), integer(number)))
        return code

    # ---- staging
    def _stage(self, stage: Expr, slot: Expr) -> list[Stmt]:
        """Begins to copy the input blocks of a stage; a group of copies ends whether there are any or not."""
        spec = self.spec
        chunks = BLOCK * self.arithmetic.size // 16
        plane = spec.image[2] * spec.image[3] * BLOCK
        thread = self.threads.thread
        into = self.memory + slot * self.slot
        into = into + T.floordiv(thread, integer(chunks)) * self.pixel + T.floormod(thread, integer(chunks)) * 16
        body: list[Stmt] = []
        for place in range(spec.stage_blocks):
            block, base = var(f"block{place}"), var(f"into{place}")
            copies: list[Stmt] = [T.Bind(base, into + place * spec.patch_pixels * self.pixel)]
            for number in range(self.copies):
                read = get(self.reads, integer(number))
                source = T.Max(read, integer(0)) + block * plane
                step = number * (spec.threads // chunks) * self.pixel
                copy = call("copy16", base + step, address(self.x, source), T.Cast("int32", read >= integer(0)))
                if (number + 1) * spec.threads > spec.patch_pixels * chunks:
                    piece = thread + number * spec.threads
                    copy = when(piece < integer(spec.patch_pixels * chunks), [copy])
                copies.append(copy)
            body += [
                T.Bind(block, self.at(self.stages_at + stage * spec.stage_blocks + place)),
                when(block >= integer(0), copies),
            ]
        return [when(stage < self.stage_count, body), call("commit_copies")]

    # ---- the arithmetic
    def _main(self) -> list[Stmt]:
        spec = self.spec
        stage, slot, begin, end, entry = var("stage"), var("slot"), var("begin"), var("end"), var("entry")
        warps = spec.warps[1] * spec.warps[2]
        bound = self.bounds_at + stage * warps + self.warp_column * spec.warps[2] + self.split
        code: list[Stmt] = []
        for number in range(spec.stages - 1):
            code += self._stage(integer(number), integer(number))
        if self.arithmetic.preload:
            code += self._fetch(self.first)
        next_stage = stage + (spec.stages - 1)
        body = [
            call(f"wait_copies<{spec.stages - 2}>"),
            call("__syncthreads"),
            *self._stage(next_stage, T.floormod(next_stage, integer(spec.stages))),
            T.Bind(slot, self.memory + T.floormod(stage, integer(spec.stages)) * self.slot),
            T.Bind(begin, self.first + self.at(bound)),
            T.Bind(end, self.first + self.at(bound + warps)),
            T.For(entry, begin, end - begin, T.stmt.ForKind.SERIAL, T.SeqStmt(self._tile(entry, slot))),
        ]
        return [*code, loop(stage, self.stage_count, body)]

    def _fetch(self, entry: Expr) -> list[Stmt]:
        """Begins to load the weight tile `entry`; the list ends with a tile that nobody uses."""
        code = [put(self.offset, self.at(self.entries + entry))]
        for vector in range(self.words // 128):
            position = entry * self.words + self.lane * 4 + vector * 128
            code.append(call("load16", address(self.ahead, vector * 4), address(self.weights, position)))
        return code

    def _tile(self, entry: Expr, slot: Expr) -> list[Stmt]:
        """One weight tile times all fragments of pixels."""
        base = var("base")
        if not self.arithmetic.preload:
            return [T.Bind(base, slot + self.at(self.entries + entry)), *self._steps_of_fma(entry, base)]
        code: list[Stmt] = [T.Bind(base, slot + get(self.offset))]
        code += [put(self.b, get(self.ahead, integer(i)), integer(i)) for i in range(self.words // 32)]
        code += self._fetch(entry + 1)
        for step in range(self.arithmetic.steps):
            for fragment in range(self.spec.pixels):
                row = get(self.rows, integer(fragment))
                code.append(call("load_matrix", address(self.a), base + row + step * STEP))
                code += self._multiply(fragment, step * self.count)
        return code

    def _steps_of_fma(self, entry: Expr, base: Expr) -> list[Stmt]:
        code: list[Stmt] = []
        per_lane = self.count * 16
        for step in range(self.arithmetic.steps):
            start = entry * self.words + T.floormod(self.lane, integer(4)) * per_lane + step * 4 * per_lane
            for vector in range(per_lane // 4):
                code.append(call("load16", address(self.b, vector * 4), address(self.weights, start + vector * 4)))
            for fragment in range(self.spec.pixels):
                halves = [get(self.rows, integer(half * self.spec.pixels + fragment)) for half in range(2)]
                code.append(call("load_fma", address(self.a), *(base + row + step * STEP for row in halves)))
                code += self._multiply(fragment, 0)
        return code

    def _multiply(self, fragment: int, first: int) -> list[Stmt]:
        return [
            call(
                f"multiply_{self.arithmetic.name}",
                address(self.sums, (fragment * self.count + j) * 4),
                address(self.a),
                address(self.b, (first + j) * self.arithmetic.b),
            )
            for j in range(self.count)
        ]

    # ---- what follows the sums
    def _add_up(self) -> list[Stmt]:
        """Warps that shared the tiles of an output block add their sums, through shared memory."""
        across, columns, splits = self.spec.warps
        if splits == 1:
            return []
        size, give, take, other = self.spec.pixels * self.count * 4, var("give"), var("take"), var("other")
        team = self.warp_column * across + self.warp_pixel

        def place(split: Expr, index: Expr) -> Expr:
            return self.memory + ((split * (across * columns) + team) * (size * 32) + index * 32 + self.lane) * 4

        given = call("put_shared", place(self.split - 1, give), get(self.sums, give))
        taken = put(self.sums, get(self.sums, take) + value("float32", "get_shared", place(other, take)), take)
        return [
            call("wait_copies<0>"),
            call("__syncthreads"),
            when(self.split > integer(0), [unrolled(give, size, given)]),
            call("__syncthreads"),
            when(T.EQ(self.split, integer(0)), [loop(other, splits - 1, [unrolled(take, size, taken)])]),
        ]

    def _finish(self) -> Stmt:
        spec = self.spec
        width = 2 * self.count  # neighbouring channels that a lane holds
        results, added, bias = local("results", width), local("added", width), local("bias_here", width)
        channel, quarter = var("channel"), T.floormod(self.lane, integer(4)) * width
        per_block = BLOCK // spec.lanes
        code: list[Stmt] = [T.AllocBuffer(b) for b in (results, bias, *([added] if spec.residual else []))]
        code += [put(bias, get(self.bias, self.out * spec.lanes + quarter + c), integer(c)) for c in range(width)]
        code.append(T.Bind(channel, T.floormod(self.out, integer(per_block)) * spec.lanes + quarter))
        images, blocks, height, columns = spec.result
        part, c = var("part"), var("c")
        fragment, half = T.floordiv(part, integer(2)), T.floormod(part, integer(2))
        position = self._position(fragment, T.floordiv(self.lane, integer(4)) + half * 8)
        image, y, x = divided(position, *spec.tile[1:])
        row, column, number, target, total = (
            var("row"),
            var("column"),
            var("image"),
            var("target"),
            var("total", "float32"),
        )
        plane = number * blocks + T.floordiv(self.out, integer(per_block))
        inside = both(
            position < integer(spec.tile[0] * spec.tile[1] * spec.tile[2]), number < integer(images),
            row < integer(height), column < integer(columns),
        )  # fmt: skip
        place = (fragment * self.count + T.floordiv(c, integer(2))) * 4 + half * 2 + T.floormod(c, integer(2))
        plus = get(added, c) if spec.residual else None
        result = [
            T.Bind(total, get(self.sums, place) + get(bias, c)),
            put(results, epilogue(total, plus, spec.residual, spec.activation), c),
        ]
        store = [
            unrolled(c, width, T.SeqStmt(result)),
            call(f"store_channels<{width}>", address(self.y, target), address(results)),
        ]
        if spec.residual:
            store.insert(0, call(f"load_channels<{width}>", address(added), address(self.r, target)))
        body = [
            T.Bind(number, self.image0 + image),
            T.Bind(row, (self.row0 + y) * spec.step[0] + self.phase_row),
            T.Bind(column, (self.column0 + x) * spec.step[1] + self.phase_column),
            T.Bind(target, ((plane * height + row) * columns + column) * BLOCK + channel),
            when(inside, store),
        ]
        code.append(unrolled(part, spec.pixels * 2, T.SeqStmt(body)))
        return when(both(T.EQ(self.split, integer(0)), self.out >= integer(0)), code)
