"""What a measurement of a layer on a GPU is remembered under, and what the database knows of a layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lhcc.targets.cuda.arch import Machine
from lhcc.targets.cuda.choice import Choice
from lhcc.targets.cuda.space import LANES
from lhcc.tuning.database import Setting

if TYPE_CHECKING:
    from lhcc.targets.cuda.pack import Problem

STEP = 1.4  # densities within a step of each other count as equal: other zeros of the same kind


def workload(problem: Problem) -> str:
    """Geometry, epilogue, arithmetic and sparsity of a layer, in one line that people can read."""
    layer = problem.layer
    kept = (max(problem.encoded(lanes, problem.options.encoding == "dense").density, 1e-6) for lanes in LANES)
    density = " ".join(str(round(-math.log(share) / math.log(STEP))) for share in kept)
    return ", ".join([
        layer.op, f"{_by(layer.image)}->{_by(layer.result)}",
        f"kernel {_by(layer.kernel)} stride {_by(layer.strides)} pad {_by(layer.padding)} dilate {_by(layer.dilation)}",
        f"groups {layer.groups}", layer.activation or "linear", f"residual {layer.residual or 'none'}",
        f"density {density}", problem.options.encoding, problem.arithmetic.name,
    ])  # fmt: skip


def setting(machine: Machine, processor: str = "") -> Setting:
    """Where measurements count; "" in a question: on whichever GPU of the architecture they were made."""
    return Setting(f"cuda {machine.arch.name}", processor, 1)


def tuned(problem: Problem, path: str) -> tuple[Choice | None, str]:
    """What the database at `path` knows about a layer, and why nothing else of it is used."""

    def possible(choice: Choice) -> bool:
        return choice in problem.choices() and problem.fits(choice) and problem.holds(problem.plan(choice))

    return Choice.recorded(path, workload(problem), setting(problem.machine), possible)


def _by(numbers: tuple[int, ...]) -> str:
    return "x".join(map(str, numbers))
