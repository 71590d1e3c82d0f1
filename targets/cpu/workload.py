"""What a measurement of a layer is remembered under: everything that decides which choice is the fastest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lhcc.ir.layer import ConvLayer
from lhcc.runtime.machine import processor_name
from lhcc.targets.base import Options
from lhcc.targets.cpu.machine import Machine
from lhcc.tuning.database import Setting

if TYPE_CHECKING:
    from lhcc.targets.cpu.pack import Problem

STEP = 1.4  # densities within a step of each other count as equal: other zeros of the same kind
GRAINS = ((1, 1), (1, 4), (1, 16), (2, 16))  # vectors x inputs of the weight tiles whose number is the signature


def workload(problem: Problem) -> str:
    """Geometry, layouts, epilogue and sparsity of a layer, in one line that people can read."""
    layer = problem.layer
    words = [
        layer.op,
        f"{_by(layer.image)}->{_by(layer.result)}",
        f"kernel {_by(layer.kernel)} stride {_by(layer.strides)} pad {_by(layer.padding)} dilate {_by(layer.dilation)}",
        f"groups {layer.groups}",
        f"{layer.source}->{layer.target}",
        layer.activation or "linear",
        f"residual {layer.residual or 'none'}",
        f"density {_signature(problem, layer)}",
        problem.options.encoding,
        problem.options.precision,
    ]
    return ", ".join(words)


def target_name(machine: Machine) -> str:
    """The code generator's target, as far as it decides what code comes out."""
    features = "".join(machine.mattr)
    return f"{machine.mcpu}{features} {machine.mtriple or 'host'}, {machine.lanes}x{machine.registers}"


def setting(machine: Machine, options: Options, processor: str | None = None) -> Setting:
    """Where measurements count; code for another machine counts on whichever processor it was measured."""
    if processor is None:
        processor = "" if machine.mtriple else processor_name()
    return Setting(target_name(machine), processor, options.threads)


def _by(numbers: tuple[int, ...]) -> str:
    return "x".join(map(str, numbers))


def _signature(problem: Problem, layer: ConvLayer) -> str:
    """The share of weight tiles that are kept, for a few sizes of tiles."""
    if layer.weight is None or problem.lanewise:
        return "1"
    shares = []
    for vectors, depth in GRAINS:
        least = problem.machine.vectors()
        kept = int(problem.counts(vectors * least, depth, False).sum())
        every = int(problem.counts(vectors * least, depth, True).sum())
        shares.append(rounded(kept / every))
    return "/".join(shares)


def rounded(share: float) -> str:
    if share in (0.0, 1.0):
        return f"{share:.0f}"
    return f"{STEP ** round(math.log(share, STEP)):.2g}"
