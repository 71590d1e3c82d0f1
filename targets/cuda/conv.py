"""The convolution kernel for GPUs: one generator of TIR for every convolution and matrix product, dense ones included.

A thread block stages the input pixels under its tile of outputs in shared memory, several input blocks ahead of
their use, by asynchronous copies.  Every warp multiplies a few 16-pixel fragments by the kept weight tiles of one
output block: matrices of pixels come from shared memory, shifted by the tap; weights come straight from memory, in
fragment order, one tile ahead.  Bias, residual and activation are applied to the sums in registers.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import integer, loop, var
from lhcc.targets.cuda import cost
from lhcc.targets.cuda.ending import finish
from lhcc.targets.cuda.frame import Frame
from lhcc.targets.cuda.plan import shared_bytes
from lhcc.targets.cuda.products import Products
from lhcc.targets.cuda.spec import ConvSpec
from lhcc.targets.cuda.staging import Staging
from lhcc.targets.cuda.tir import call


def conv_kernel(spec: ConvSpec) -> Any:
    """(source, weights, bias, plan[, table][, residual]) -> target."""
    frame = Frame(spec)
    staging, products = Staging(frame), Products(frame)
    body = [
        *frame.views,
        *map(T.AllocBuffer, frame.registers),
        *frame.place(),
        *products.clear(),
        *products.rows(),
        *staging.reads(),
        *_sums(frame, staging, products),
        *products.add_up(),
        finish(frame),
    ]
    images, rows, columns = spec.tiles
    grid = (images * rows * columns, spec.groups)
    count = cost.registers(spec.pixels, spec.lanes, frame.copies, frame.arithmetic)
    held = max(1, min(16, (512 if count <= 120 else 256) // spec.threads))
    shared = shared_bytes(spec, frame.arithmetic.size)
    return frame.threads.kernel(frame.operands, body, grid, spec.threads, shared, held)


def _sums(frame: Frame, staging: Staging, products: Products) -> list[Any]:
    """Stage after stage: its copies have arrived, those of a later one begin, its tiles are multiplied."""
    spec = frame.spec
    stage, slot, begin, end, entry = var("stage"), var("slot"), var("begin"), var("end"), var("entry")
    warps = spec.warps[1] * spec.warps[2]
    bound = frame.bounds_at + stage * warps + frame.warp_column * spec.warps[2] + frame.split
    code: list[Any] = []
    for number in range(spec.stages - 1):
        code += staging.begin(integer(number), integer(number))
    next_stage = stage + (spec.stages - 1)
    body = [
        call(f"wait_copies<{spec.stages - 2}>"),
        call("__syncthreads"),
        *staging.begin(next_stage, T.floormod(next_stage, integer(spec.stages))),
        T.Bind(slot, frame.memory + T.floormod(stage, integer(spec.stages)) * staging.slot),
        T.Bind(begin, frame.first + frame.at(bound)),
        T.Bind(end, frame.first + frame.at(bound + warps)),
        T.For(entry, begin, end - begin, T.stmt.ForKind.SERIAL, T.SeqStmt(products.tile(entry, slot))),
    ]
    return [*code, *products.prepare(), loop(stage, frame.stage_count, body)]
