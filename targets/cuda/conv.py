"""The convolution kernel for GPUs: one generator of TIR for every convolution and matrix product, dense ones included.

A thread block stages the input pixels under its tile of outputs in shared memory, several input blocks ahead of their
use, by asynchronous copies, which all warps begin or some that do nothing else: beginning a copy takes long when many
are under way.  Every warp multiplies a few 16-pixel fragments by the kept weight tiles of one output block: matrices of
pixels come from shared memory, shifted by the tap; weights lie beside them in fragment order, for all warps that want
them.  Bias, residual and activation are applied to the sums in registers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import integer, loop, sequence, var
from lhcc.targets.cuda import cost, overlapping
from lhcc.targets.cuda.ending import ask, finish
from lhcc.targets.cuda.frame import Frame
from lhcc.targets.cuda.plan import shared_bytes
from lhcc.targets.cuda.planar_staging import PlanarStaging
from lhcc.targets.cuda.products import Products
from lhcc.targets.cuda.spec import ConvSpec
from lhcc.targets.cuda.staging import Staging
from lhcc.targets.cuda.tir import WAIT, call


def conv_kernel(spec: ConvSpec) -> Any:
    """(source, weights, bias, plan[, table][, residual]) -> target."""
    frame = Frame(spec)
    staging, products = (PlanarStaging if spec.planes else Staging)(frame), Products(frame)
    start = [*frame.views, *map(T.AllocBuffer, frame.registers), *frame.place()]
    end = [*products.add_up(), *(overlapping.finish(frame) if spec.overlap else [finish(frame)])]
    wait = call(WAIT)
    if spec.copiers:
        copy = [*staging.reads(), *staging.early(), wait, *staging.ahead()]
        copy.append(_stages(frame, staging.arrived(), staging.following))
        multiply = [*products.ask_bias(), *products.rows(), wait, *ask(frame), *products.begin()]
        multiply += [_stages(frame, [], products.stage), *end]
        copy += [call("__syncthreads")] * (products.meetings + (overlapping.MEETINGS if spec.overlap else 0))
        multiplies = frame.threads.thread < integer(spec.multipliers)
        body = [*start, T.IfThenElse(multiplies, sequence(multiply), sequence(copy))]
    else:
        both = _stages(frame, staging.arrived(), lambda stage: staging.following(stage) + products.stage(stage))
        body = [*start, *products.ask_bias(), *products.rows(), *staging.reads(), *staging.early(), wait]
        body += [*staging.ahead(), *ask(frame), *products.begin(), both, *end]
    shared = shared_bytes(spec)
    held = cost.held(spec, shared)
    return frame.threads.kernel(frame.operands, body, (spec.thread_blocks, 1), spec.threads, shared, held)


def _stages(frame: Frame, before: list[Any], after: Callable[[Any], list[Any]]) -> Any:
    """Stage after stage; all warps meet in each of them, `before` and `after` say what these warps do."""
    stage = var("stage")
    return loop(stage, frame.stage_count, [*before, call("__syncthreads"), *after(stage)])
