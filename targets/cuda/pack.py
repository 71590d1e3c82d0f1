"""Chooses how a layer is computed on a GPU, by estimated cycles or as a tuner measured, and packs it for its kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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
from lhcc.targets.cuda.plan import grouped, pixel_bytes, plan_conv, shared_bytes, works
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


@dataclass(frozen=True)
class Load:
    """The work of a group of output blocks, on average: weight tiles of all warps, of the busiest ones, and staging."""

    groups: int
    entries: float
    steps: float
    staged: float  # input blocks
    stages: float


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
    best, *others = problem.ranked()
    return problem.pack(best.choice, [*why, f"chosen {best}", *(f"instead of {other}" for other in others[:2])])


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

    @cached_property
    def _loads(self) -> dict[tuple[int, bool, int, int, int], Load]:
        return {}

    def declined(self) -> list[str]:
        """What the zeros of a layer would be worth, had this target the kernels for it."""
        if self.layer.density > SPARSE or min(self.encoded(lanes, False).density for lanes in LANES) < 1:
            return []
        return ["its zeros leave no tile empty, and target 'cuda' has no kernels for patterns and elements: runs dense"]

    # ---- what it costs
    def counts(self, lanes: int, dense: bool) -> NDArray[np.int64]:
        """Kept tiles per output block of every phase, heaviest first, and input block."""
        encoded = self.encoded(lanes, dense)
        tables = []
        for phase in self.phases:
            table = np.zeros((self.out_blocks(lanes), self.image[1]), np.int64)
            tap, block, out = encoded.index[np.isin(encoded.index[:, 0], [t for t, *_ in phase.taps])].T
            np.add.at(table, (out, block), 1)
            tables.append(table[np.argsort(-table.sum(axis=1), kind="stable")])
        return np.stack(tables)

    @cached_property
    def _counts(self) -> dict[tuple[int, bool], NDArray[np.int64]]:
        dense = self.options.encoding == "dense"
        return {(lanes, dense): self.counts(lanes, dense) for lanes in LANES}

    def _load(self, lanes: int, dense: bool, columns: int, splits: int, stage_blocks: int) -> Load:
        """What an average group of output blocks has to do."""
        key = (lanes, dense, columns, splits, stage_blocks)
        if key not in self._loads:
            counts = self._counts[lanes, dense]
            found, outs, blocks = counts.shape
            padded = np.pad(counts, ((0, 0), (0, -outs % columns), (0, -blocks % stage_blocks)))
            split = padded.reshape(found, -1, columns, padded.shape[2] // stage_blocks, stage_blocks)
            per_stage = (-(-split.sum(axis=4) // splits)).max(axis=2)  # phase, group, stage
            groups = per_stage.shape[0] * per_stage.shape[1]
            sums = counts.sum(), per_stage.sum(), split.any(axis=2).sum(), np.count_nonzero(per_stage)
            self._loads[key] = Load(groups, *(float(total) / groups for total in sums))
        return self._loads[key]

    def estimate(self, choice: Choice) -> tuple[float, str]:
        load = self._load(choice.lanes, choice.dense, choice.columns, choice.splits, choice.stage_blocks)
        spec = self.spec(choice, load.groups)
        shape = cost.Shape(
            choice.pixels, choice.lanes, spec.threads, math.prod(spec.tiles) * load.groups,
            shared_bytes(spec, self.arithmetic.size),
            load.staged * spec.patch_pixels * BLOCK * self.arithmetic.size, load.entries * choice.across, load.steps,
            load.stages,
        )  # fmt: skip
        return cost.cycles(shape, self.machine.arch, self.arithmetic, self.registers(choice))

    def ranked(self) -> list[Candidate]:
        """Every choice, the estimate's favourite first."""
        candidates = [Candidate(choice, *self.estimate(choice)) for choice in self.choices() if self.fits(choice)]
        if not candidates:
            raise TargetError(
                f"layer '{self.layer.name}' has a window that does not fit into shared memory", "use target cpu"
            )
        return sorted(candidates, key=lambda candidate: candidate.cycles)

    # ---- packing
    def pack(self, choice: Choice, why: Sequence[str]) -> Packed:
        layer, encoded = self.layer, self.encoded(choice.lanes, choice.dense)
        columns = self.patch((choice.images, choice.height, choice.width))[1]
        groups = grouped(works(encoded.index, self.out_blocks(choice.lanes), self.phases, columns), choice.columns)
        spec = self.spec(choice, len(groups))
        size = pixel_bytes(self.arithmetic.size)
        plan = plan_conv(groups, choice.stage_blocks, choice.columns, choice.splits, size, spec.patch_pixels)
        packed = fragments.pack(encoded.values[plan.order], self.arithmetic)
        weights = np.concatenate(
            [packed.reshape(-1), np.zeros(fragments.tile_words(choice.lanes, self.arithmetic), np.int32)]
        )
        bias = _padded(self.bias, self.result[1] * BLOCK, self.arithmetic.sum)
        images, rows, columns_ = self.pixels
        return Packed(
            spec.to_json(),
            (weights, bias, plan.table),
            "dense" if encoded.density == 1 else "tiles",
            encoded.density,
            layer.macs,
            plan.entries * BLOCK * choice.lanes * images * rows * columns_,
            str(choice),
            tuple(why),
        )
