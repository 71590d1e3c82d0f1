"""What all parts of a convolution's kernel share: its operands, its registers, and where a thread works."""

from __future__ import annotations

from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import flat, get, integer, tensor, var
from lhcc.targets.cuda.arch import BLOCK
from lhcc.targets.cuda.fragments import tile_words
from lhcc.targets.cuda.plan import GROUP_FIELDS, HEADER, pixel_bytes
from lhcc.targets.cuda.spec import ConvSpec
from lhcc.targets.cuda.tir import Threads, divided, local, value

Expr = Any
Stmt = Any


class Frame:
    def __init__(self, spec: ConvSpec) -> None:
        self.spec, self.arithmetic = spec, spec.arithmetic
        self.count = spec.lanes // 8  # matrix instructions per fragment of pixels
        self.words = tile_words(spec.lanes, self.arithmetic)
        self.pixel = pixel_bytes(self.arithmetic.size)
        self.chunks = BLOCK * self.arithmetic.size // 16  # 16-byte pieces of one pixel
        self.copies = -(-spec.patch_pixels * self.chunks // spec.threads)  # of a thread per input block
        self.threads = Threads()
        self._operands()
        self._registers()
        # positions in the tables, and of the thread
        self.stage_count, self.stages_at, self.bounds_at = var("stage_count"), var("stages_at"), var("bounds_at")
        self.first, self.entries, self.memory = var("first"), var("entries"), var("memory")
        self.image0, self.row0, self.column0 = var("image0"), var("row0"), var("column0")
        self.phase_row, self.phase_column, self.out = var("phase_row"), var("phase_column"), var("out")
        self.lane, self.split = var("lane"), var("warp_k")
        self.warp_pixel, self.warp_column = var("warp_m"), var("warp_n")

    def _operands(self) -> None:
        """(source, weights, bias, plan[, table][, residual]) -> target; the table is that of integer steps."""
        spec = self.spec

        def see(name: str, element: str) -> tuple[Expr, Expr, Stmt]:
            operand = tensor(name, [var(f"{name}_{axis}") for axis in range(5)], element)
            return operand, *flat(operand, name[0], element)

        source, self.x, see_x = see("source", self.arithmetic.element)
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
        self.reads = local("reads", self.copies, "int32")
        self.ahead, self.offset = local("ahead", weights, "int32"), local("offset", 1, "int32")
        self.registers = [self.sums, self.a, self.b, self.rows, self.reads]
        self.registers += [self.ahead, self.offset] if arithmetic.preload else []

    def at(self, position: Expr | int) -> Expr:
        """An entry of the tables."""
        return get(self.plan, integer(position) if isinstance(position, int) else position)

    def place(self) -> list[Stmt]:
        """Where this thread works."""
        spec, row, warp = self.spec, var("group_row"), var("warp")
        across, columns, splits = spec.warps
        group = self.threads.y
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
            T.Bind(self.lane, T.floormod(self.threads.thread, integer(32))),
            T.Bind(warp, T.floordiv(self.threads.thread, integer(32))),
            T.Bind(self.warp_pixel, T.floormod(warp, integer(across))),
            T.Bind(self.warp_column, T.floormod(T.floordiv(warp, integer(across)), integer(columns))),
            T.Bind(self.split, T.floordiv(warp, integer(across * columns))),
            T.Bind(self.out, self.at(self.at(0) + column)),
            T.Bind(self.first, self.at(self.at(1) + column * splits + self.split)),
            T.Bind(self.entries, self.at(2)),
            T.Bind(self.memory, value("int32", "shared_memory")),
        ]

    def position(self, fragment: Expr | int, row: Expr) -> Expr:
        """Which pixel of the thread block's tile is row `row` of a fragment."""
        return (self.warp_pixel * self.spec.pixels + fragment) * 16 + row
