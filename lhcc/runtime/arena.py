"""Where everything of a lowered model lies in memory: weights in one block, what kernels hand on in one arena.

The same plan serves the virtual machine, emulation and standalone C, and is what memory budgets are checked against.
Results are not in the arena: kernels write them straight to the caller's memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from lhcc.runtime.memory import Lifetime, align, alive_at, plan
from lhcc.runtime.program import Call, Copy, Operand, Placement
from lhcc.runtime.steps import Buffer, Ref, Steps


@dataclass(frozen=True)
class Layout:
    """The calls of a run with all addresses known, then the copies that complete its outputs."""

    calls: tuple[Call, ...]
    copies: tuple[Copy, ...]
    constants: tuple[Placement, ...]  # in the weights, in the order of `Steps.constants`
    weights_size: int
    temporaries: tuple[int, ...]  # offsets in the arena, in the order of `Steps.temporaries`; 0 for results
    workspaces: tuple[int, ...]  # offsets in the arena of what each call is lent
    arena_size: int


def place(steps: Steps, workspaces: Mapping[str, int] | None = None, roomy: int = 0) -> Layout:
    """The plan of a whole run; a kernel that `workspaces` names is lent so many bytes during its calls.  For `roomy`
    see `memory.plan`."""
    results = returned(steps)
    inside = [Lifetime(0, 0, 0) if Buffer("temporary", i) in results else t for i, t in enumerate(steps.temporaries)]
    lent = [Lifetime((workspaces or {}).get(step.kernel, 0), i, i) for i, step in enumerate(steps.steps)]
    offsets, arena_size = plan([*inside, *lent], roomy)
    constants, weights_size = place_weights(steps.constants)

    def operand(ref: Ref) -> Operand:
        kind, index = ref.buffer.kind, ref.buffer.index
        if kind == "constant":
            return Operand("weights", constants[index].offset, ref.shape, ref.dtype)
        if ref.buffer in results:
            return Operand("output", results[ref.buffer], ref.shape, ref.dtype)
        return Operand(*(("input", index) if kind == "input" else ("arena", offsets[index])), ref.shape, ref.dtype)

    calls = tuple(
        Call(step.kernel, step.name, tuple(map(operand, step.args)), alive_at([*inside, *lent], number))
        for number, step in enumerate(steps.steps)
    )
    copies = tuple(
        Copy(operand(ref), number)
        for number, ref in enumerate(steps.outputs)
        if results.get(ref.buffer) != number  # an input, a constant, or a result that another output is already
    )
    count = len(inside)
    return Layout(
        calls, copies, tuple(constants), weights_size, tuple(offsets[:count]), tuple(offsets[count:]), arena_size
    )


def returned(steps: Steps) -> dict[Buffer, int]:
    """The buffers that kernels write for the caller, each with the first output that it is."""
    results: dict[Buffer, int] = {}
    for number, ref in enumerate(steps.outputs):
        if ref.buffer.kind == "temporary":
            results.setdefault(ref.buffer, number)
    return results


def place_weights(constants: Sequence[NDArray[Any]]) -> tuple[list[Placement], int]:
    """The constants one after the other, each on cache lines of its own, and the size of all."""
    placements, size = [], 0
    for constant in constants:
        placements.append(Placement(size, tuple(constant.shape), str(constant.dtype)))
        size += align(constant.nbytes)
    return placements, size
