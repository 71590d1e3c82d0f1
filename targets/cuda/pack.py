"""Chooses how a layer is computed on a GPU, by estimated cycles or as a tuner measured, and packs it for its kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.errors import TargetError
from lhcc.ir.layer import ConvLayer, Packed
from lhcc.targets.base import Options
from lhcc.targets.choice import spent
from lhcc.targets.cuda import cost, fragments
from lhcc.targets.cuda.arch import BLOCK, Machine
from lhcc.targets.cuda.choice import Choice
from lhcc.targets.cuda.patch import Patch
from lhcc.targets.cuda.plan import Plan, grouped, plan_conv, shared_bytes, works
from lhcc.targets.cuda.space import LANES, Space
from lhcc.targets.cuda.spec import Integers, WindowSpec

SPARSE = 0.9  # of a layer's weights are not zero: with fewer of them it is worth a word that they cost time
LARGEST = 1 << 31  # elements of a map: positions are 32-bit numbers


@dataclass(frozen=True)
class Candidate:
    """A choice and its estimate."""

    choice: Choice
    cycles: float
    bound: str

    def __str__(self) -> str:
        return f"{self.choice}: {spent(self.cycles)}, bound by {self.bound}"


def pack(
    layer: ConvLayer, machine: Machine, options: Options, choice: Choice | None = None, integers: Integers | None = None
) -> Packed:
    """`layer` encoded as `choice` says; without it as the tuning database says, or else as the estimate prefers."""
    if max(np.prod(layer.image), np.prod(layer.result)) >= LARGEST:
        raise TargetError(
            f"layer '{layer.name}' has a map of more than 2^31 elements", "compile it for a smaller batch"
        )
    if layer.depthwise and not layer.transposed:
        return _pack_window(layer, machine, integers)
    problem = Problem(layer, machine, options, integers)
    why = [] if integers else problem.declined()
    if choice is None and options.tuning and integers is None:
        from lhcc.targets.cuda.workload import tuned

        choice, reason = tuned(problem, options.tuning)
        why.append(reason)
    if choice is not None:
        return problem.pack(choice, why or [f"asked for {choice}"])
    ranked = problem.ranked()
    plans = ((number, problem.plan(each.choice)) for number, each in enumerate(ranked))
    best, plan = next((found for found in plans if problem.holds(found[1])), (0, None))
    others = (f"instead of {other}" for other in ranked[best + 1 : best + 3])
    return problem.pack(ranked[best].choice, [*why, f"chosen {ranked[best]}", *others], plan)


def _pack_window(layer: ConvLayer, machine: Machine, integers: Integers | None) -> Packed:
    (images, channels, height, width), (_, _, rows, columns) = layer.image, layer.result
    blocks = -(-channels // BLOCK)
    weight = layer.weight
    spec = WindowSpec(
        integers.source if integers else machine.arithmetic.element,
        "max" if weight is None else "multiply", layer.kernel, layer.strides, layer.padding[:2],
        layer.dilation, (images, blocks, height, width), (rows, columns),
        layer.activation, layer.residual, integers,
    )  # fmt: skip
    constants: tuple[NDArray[Any], ...] = ()
    if weight is not None:
        assert layer.bias is not None
        by_channel = np.pad(weight.reshape(channels, -1), ((0, -channels % BLOCK), (0, 0)))
        by_tap = by_channel.reshape(blocks, BLOCK, -1).transpose(0, 2, 1)
        constants = np.ascontiguousarray(by_tap, spec.sum).reshape(-1), _padded(layer.bias, blocks * BLOCK, spec.sum)
    words = f"{min(4, columns)} neighbouring outputs of 8 channels a thread"
    return Packed(
        spec.to_json(),
        constants,
        "" if weight is None else "depthwise",
        layer.density,
        layer.macs,
        layer.macs,
        words,
        (),
    )


def _padded(bias: NDArray[Any], size: int, dtype: str) -> NDArray[Any]:
    return np.pad(bias, (0, size - len(bias))).astype(dtype)


class Problem(Space):
    """What each choice costs, and the layer packed as one of them says."""

    def declined(self) -> list[str]:
        """What the zeros of a layer would be worth, had this target the kernels for it."""
        if self.layer.density > SPARSE or min(self.encoded(lanes, False).density for lanes in LANES) < 1:
            return []
        return ["its zeros leave no tile empty, and target 'cuda' has no kernels for patterns and elements: runs dense"]

    # ---- what it costs
    def estimate(self, choice: Choice) -> tuple[float, str]:
        load, spec = self.load(choice), self.spec(choice)
        size, maps = self.arithmetic.size, 2 if self.layer.residual else 1
        patch, tile = spec.patch_pixels * spec.pixel_channels * size, spec.lanes * BLOCK * size
        most = choice.depth * choice.columns * choice.splits  # tiles of a stage
        shape = cost.Shape(
            choice.pixels, choice.lanes, choice.across, spec.threads, spec.thread_blocks, shared_bytes(spec),
            min(load.staged, spec.arrivals) * patch + min(load.entries, most) * tile,
            load.staged * patch, load.entries, load.stages, float(math.prod(spec.result)) * BLOCK * size * maps,
        )  # fmt: skip
        most_registers = cost.REGISTERS // (cost.held(spec, shape.shared) * spec.threads)
        registers = min(cost.registers(spec), most_registers)
        return cost.cycles(shape, self.machine.arch, self.arithmetic, registers)

    def ranked(self) -> list[Candidate]:
        """Every choice, the estimate's favourite first."""
        fitting = [choice for choice in self.choices() if self.fits(choice)]
        usual = [choice for choice in fitting if self.usual(choice)]
        candidates = [Candidate(choice, *self.estimate(choice)) for choice in usual or fitting]
        if not candidates:
            raise TargetError(
                f"layer '{self.layer.name}' has a window that does not fit into shared memory", "use target cpu"
            )
        return sorted(candidates, key=lambda candidate: candidate.cycles)

    # ---- packing
    def plan(self, choice: Choice) -> Plan:
        spec, encoded = self.spec(choice), self.encoded(choice.lanes, choice.dense)
        found = works(encoded.index, self.out_blocks(choice.lanes), self.phases, Patch(spec))
        return plan_conv(grouped(found, choice.columns), spec)

    def holds(self, plan: Plan) -> bool:
        """Whether shared memory has room for the stages that there are: `fits` only knew about how many."""
        return shared_bytes(plan.spec) <= self.machine.arch.shared

    def pack(self, choice: Choice, why: Sequence[str], plan: Plan | None = None) -> Packed:
        layer, encoded, plan = self.layer, self.encoded(choice.lanes, choice.dense), plan or self.plan(choice)
        weights = fragments.pack(encoded.values[plan.order], self.arithmetic)
        bias = _padded(self.bias, self.result[1] * BLOCK, self.arithmetic.sum)
        images, rows, columns_ = self.pixels
        return Packed(
            plan.spec.to_json(),
            (np.concatenate([weights, plan.ends], axis=1).reshape(-1), bias, plan.records.reshape(-1)),
            "dense" if encoded.density == 1 else "tiles",
            encoded.density,
            layer.macs,
            len(plan.order) * BLOCK * choice.lanes * images * rows * columns_,
            str(choice),
            tuple(why),
        )
