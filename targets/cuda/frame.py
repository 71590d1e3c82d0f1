"""What all parts of a convolution's kernel share: its operands, its registers, and where a thread works."""

from __future__ import annotations

from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import flat, get, integer, loop, tensor, var
from lhcc.targets.cuda.fragments import tile_words
from lhcc.targets.cuda.patch import Patch
from lhcc.targets.cuda.plan import ARRIVAL, OUTS, TILE_END, arrival_bytes, record_of, weight_bytes
from lhcc.targets.cuda.spec import ConvSpec
from lhcc.targets.cuda.tir import Threads, both, call, divided, local, value, when

Expr = Any
Stmt = Any


class Frame:
    def __init__(self, spec: ConvSpec) -> None:
        self.spec, self.arithmetic = spec, spec.arithmetic
        self.count = spec.lanes // 8  # matrix instructions per fragment of pixels
        self.words = tile_words(spec.lanes, self.arithmetic)
        self.tile_bytes = 4 * (self.words + TILE_END)
        self.record, self.patch = record_of(spec), Patch(spec)
        self.chunks = spec.pixel_channels * self.arithmetic.size // 16  # 16-byte pieces of one pixel
        self.threads = Threads()
        self.copier = self.threads.thread - spec.multipliers if spec.copiers else self.threads.thread
        self._operands()
        self._registers()
        # shared memory: the record of the group, and the stages after it; how many there are, where the thread works
        self.told, self.memory, self.stage_count = var("told"), var("memory"), var("stage_count")
        self.image0, self.row0, self.column0 = var("image0"), var("row0"), var("column0")
        self.phase_row, self.phase_column, self.out = var("phase_row"), var("phase_column"), var("out")
        self.lane, self.split = var("lane"), var("warp_k")
        self.warp_pixel, self.warp_column = var("warp_m"), var("warp_n")

    def _operands(self) -> None:
        """(source, weights, bias, plan[, table][, residual]) -> target; the table is that of integer steps."""
        spec = self.spec

        def see(name: str, element: str, axes: int = 5) -> tuple[Expr, Expr, Stmt]:
            operand = tensor(name, [var(f"{name}_{axis}") for axis in range(axes)], element)
            return operand, *flat(operand, name[0], element)

        source, self.x, see_x = see("source", *(("float32", 4) if spec.planes else (self.arithmetic.element,)))
        target, self.y, see_y = see("target", spec.target_element)
        self.weights = tensor("weights", [var("weights_size")], "int32")
        self.bias = tensor("bias", [var("bias_size")], self.arithmetic.sum)
        self.plan = tensor("plan", [var("plan_size")], "int32")
        self.table = tensor("table", [var("table_size")], "int32")
        self.operands = [source, self.weights, self.bias, self.plan, *([self.table] if spec.integers else [])]
        self.views = [see_x, see_y]
        if spec.residual:
            residual, self.r, see_r = see("residual", spec.residual_element)
            self.operands.append(residual)
            self.views.append(see_r)
        self.operands.append(target)

    def _registers(self) -> None:
        spec, arithmetic = self.spec, self.arithmetic
        weights = self.count * arithmetic.b * (arithmetic.steps if arithmetic.preload else 1)
        self.sums = local("sums", spec.pixels * self.count * 4, arithmetic.sum)
        self.a, self.b = local("a", arithmetic.a, "int32"), local("b", weights, "int32")
        self.rows = local("rows", spec.pixels * (1 if arithmetic.preload else 2), "int32")
        self.reads = local("reads", spec.copies, "int32")
        self.ahead, self.offset = local("ahead", weights, "int32"), local("offset", 1, "int32")
        self.bias_here = local("bias_here", 2 * self.count, arithmetic.sum)
        self.into = local("into", spec.copies, "int32")
        self.registers = [self.sums, self.a, self.b, self.rows, self.bias_here, *([] if spec.planes else [self.reads])]
        self.registers += [] if self.patch.even or spec.planes else [self.into]
        self.registers += [self.ahead, self.offset] if arithmetic.preload else []

    def at(self, position: Expr | int) -> Expr:
        """A number of the group's record."""
        return value("int32", "get_shared<int>", self.told + position * 4)

    def arrival(self, stage: Expr) -> Expr:
        """Where the arrival of a stage's weights is noted."""
        return self.told + 4 * self.record.size + T.floormod(stage, integer(self.spec.stages)) * ARRIVAL

    def weights_of(self, stage: Expr) -> Expr:
        """Where the weight tiles of a stage lie in shared memory."""
        spec = self.spec
        turn = T.floormod(stage, integer(spec.stages)) * weight_bytes(spec)
        return self.memory + spec.places * self.patch.size + turn

    def bound(self, stage: Expr, warp: Expr | int) -> Expr:
        """The first weight tile of a warp in a stage."""
        return self.at(stage * (self.record.warps + 1) + warp + self.record.bounds_at)

    def place(self) -> list[Stmt]:
        """Where this thread works."""
        spec, warp, group, tile = self.spec, var("warp"), var("group"), var("tile")
        across, columns, splits = spec.warps
        block, size = self.threads.x, self.record.size
        order = divided(block, spec.groups) if spec.pixels_first else reversed(divided(block, spec.tile_count))
        image, tile_row, tile_column = divided(tile, *spec.tiles[1:])
        part, number = var("part"), var("number")
        tell = call("put_shared", self.told + number * 4, get(self.plan, group * size + number))
        inside = when(number < integer(size), [tell]) if size % spec.threads else tell
        return [
            *(T.Bind(name, index) for name, index in zip((tile, group), order, strict=True)),
            T.Bind(self.told, value("int32", "shared_memory")),
            T.Bind(self.memory, self.told + 4 * size + arrival_bytes(spec)),
            call("expect_runs", self.told + 4 * size, spec.stages),
            loop(part, -(-size // spec.threads), [T.Bind(number, part * spec.threads + self.threads.thread), inside]),
            call("__syncthreads"),
            T.Bind(self.image0, image * spec.tile[0]),
            T.Bind(self.row0, tile_row * (spec.tile[1] - spec.overlap) - spec.overlap),
            T.Bind(self.column0, tile_column * (spec.tile[2] - spec.overlap) - spec.overlap),
            T.Bind(self.phase_row, self.at(0)),
            T.Bind(self.phase_column, self.at(1)),
            T.Bind(self.stage_count, self.at(2)),
            T.Bind(self.lane, T.floormod(self.threads.thread, integer(32))),
            T.Bind(warp, T.floordiv(self.threads.thread, integer(32))),
            T.Bind(self.warp_pixel, T.floormod(warp, integer(across))),
            T.Bind(self.warp_column, T.floormod(T.floordiv(warp, integer(across)), integer(columns))),
            T.Bind(self.split, T.floordiv(warp, integer(across * columns))),
            T.Bind(self.out, self.at(self.warp_column + OUTS)),
        ]

    @property
    def quarter(self) -> Expr:
        """The first of the lane's channels in its output block."""
        return T.floormod(self.lane, integer(4)) * (2 * self.count)

    @property
    def own(self) -> Expr:
        """Whether this warp stores sums: not where it is one of several that share an output block, or has none."""
        return both(T.EQ(self.split, integer(0)), self.out >= integer(0))

    def sum_of(self, part: Expr, channel: Expr) -> Expr:
        """Where the sum of one of the lane's channels lies; a part is half a fragment."""
        fragment, half = T.floordiv(part, integer(2)), T.floormod(part, integer(2))
        pair = T.floordiv(channel, integer(2))
        return (fragment * self.count + pair) * 4 + half * 2 + T.floormod(channel, integer(2))

    def position(self, fragment: Expr | int, row: Expr) -> Expr:
        """Which pixel of the thread block's tile is row `row` of a fragment."""
        return (self.warp_pixel * self.spec.pixels + fragment) * 16 + row
