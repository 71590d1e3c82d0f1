"""Chooses how a layer is computed on a CPU, by estimated cycles or as a tuner measured, and packs it for its kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lhcc.encodings import tiles
from lhcc.encodings.tiles import Tiles
from lhcc.ir.layer import ConvLayer, Packed
from lhcc.targets.base import Options
from lhcc.targets.choice import spent
from lhcc.targets.cpu import cost
from lhcc.targets.cpu.ahead import NEXT_BLOCK, PREFETCH, asking
from lhcc.targets.cpu.choice import CHAINS, EFFORTS, TOGETHER, UNROLLS, Choice
from lhcc.targets.cpu.cost import Form
from lhcc.targets.cpu.geometry import Line, conv_lines, transposed_lines
from lhcc.targets.cpu.machine import Machine
from lhcc.targets.cpu.plan import Plan, View, blocked_view, merge_columns, plan_conv, planar_view, rows_view
from lhcc.targets.cpu.tiling import Axes, Divisions, cover, divisions
from lhcc.targets.cpu.workload import setting, workload

DENSE_MARGIN = 1.03  # leave the dense form only for an estimated gain beyond this


@dataclass(frozen=True)
class Candidate:
    """A choice and its estimate."""

    choice: Choice
    cycles: float

    def __str__(self) -> str:
        return f"{self.choice}: {spent(self.cycles)}"


def pack(layer: ConvLayer, machine: Machine, options: Options, choice: Choice | None = None) -> Packed:
    """`layer` encoded as `choice` says; without it as the tuning database says, or else as the estimate prefers."""
    problem = Problem(layer, machine, options)
    why: list[str] = []
    if choice is None and options.tuning:
        known = setting(machine, options)
        choice, reason = Choice.recorded(options.tuning, workload(problem), known, problem.allows)
        why.append(reason)
    if choice is not None:
        return problem.pack(choice, why or [f"asked for {choice}"])
    best, *others = preferred(problem)
    return problem.pack(best.choice, [*why, f"chosen {best}", *(f"instead of {other}" for other in others[:2])])


def preferred(problem: Problem) -> list[Candidate]:
    """The best choice of each encoding, the estimate's favourite first."""
    best = problem.best_of_each_form()
    dense = next((candidate for candidate in best if candidate.choice.dense), best[0])
    first = dense if best[0].cycles * DENSE_MARGIN > dense.cycles else best[0]
    return [first, *(candidate for candidate in best if candidate is not first)]


class Problem:
    """One layer on one machine: its geometry, and what each choice about it costs."""

    def __init__(self, layer: ConvLayer, machine: Machine, options: Options) -> None:
        self.layer, self.machine, self.options = layer, machine, options
        self.lanewise = layer.depthwise
        # few planar channels make short steps: those of a whole kernel row are taken together
        short = layer.source == "planar" and not layer.transposed and layer.groups == 1
        self.merges = (True, False) if short else (False,)
        self.encoded = lru_cache(4)(self._encode)
        self.axes = self._axes()
        self.source, self.target = self._views()

    def _axes(self) -> Axes:
        layer = self.layer
        (height, width), (out_height, out_width) = layer.image[2:], layer.result[2:]
        point = layer.kernel == (1, 1) and layer.strides == (1, 1) and not any(layer.padding)
        if point and layer.image[2:] == layer.result[2:]:  # an image is one row of pixels
            pixels = height * width
            return Axes(tuple(conv_lines(1, 1, 1, 1, 0, 1)), tuple(conv_lines(pixels, pixels, 1, 1, 0, 1)))
        lines = transposed_lines if layer.transposed else conv_lines
        top, left = layer.padding[:2]

        def axis(size: int, out: int, number: int, pad: int) -> tuple[Line, ...]:
            kernel, stride, dilation = layer.kernel[number], layer.strides[number], layer.dilation[number]
            return tuple(lines(size, out, kernel, stride, pad, dilation))

        return Axes(axis(height, out_height, 0, top), axis(width, out_width, 1, left))

    def _views(self) -> tuple[View, View]:
        layer, block = self.layer, self.machine.block
        (_, inputs, height, width), (_, outputs, out_height, out_width) = layer.image, layer.result
        if layer.source == "rows":
            return rows_view(inputs, width), rows_view(outputs, width)
        target = blocked_view(outputs, out_height, out_width, block)
        if layer.source == "planar":
            return planar_view(inputs, height, width), target
        return blocked_view(inputs, height, width, block), target

    # ---- what may be chosen
    def forms(self) -> Iterator[Form]:
        """The encodings to consider."""
        if self.lanewise:
            blocks = -(-self.layer.result[1] // self.machine.block)
            kept = tuple(self.counts(self.machine.vectors(), 1, self.layer.weight is None).tolist())
            yield Form(self.machine.vectors(), 1, self.layer.weight is None, kept, blocks, True)
            return
        deepest = self._depths()[0]
        for vectors, depth, merged in product(self._widths(), self._depths(), self.merges):
            blocks = -(-self.layer.result[1] // (self.machine.lanes * vectors))
            # deeper tiles are never worse when every tile is kept
            keep_all = [True] * (depth == deepest or bool(self.layer.image[1] % deepest))
            keep_all += [False] * (self.options.encoding != "dense")
            for dense in keep_all:
                counts = tuple(self.counts(vectors, depth, dense).tolist())
                yield Form(vectors, depth, dense, counts, blocks, merged=merged)

    def _depths(self) -> list[int]:
        """Input channels per tile: a tile must not straddle blocks of the input's layout."""
        channels = self.layer.image[1]
        if self.layer.source == "planar":
            return [channels]
        if self.layer.source == "rows":
            return [depth for depth in (16, 8, 4, 2, 1) if channels % depth == 0]
        return [depth for depth in (16, 8, 4, 2, 1) if depth <= self.machine.block]

    def _widths(self) -> list[int]:
        """Vectors per tile of outputs: whole blocks of the output's layout only."""
        least = self.machine.vectors()
        if len(self.merges) > 1:  # more pixels under one vector of weights are faster than the reverse
            return [least]
        fits = self.layer.result[1] % (2 * least * self.machine.lanes) == 0 or self.layer.target == "rows"
        return [least, 2 * least] if fits and self.machine.registers == 32 else [least]

    def pixels(self, vectors: int) -> int:
        """Outputs of the largest register tile."""
        return max(1, self.machine.accumulators(vectors) // vectors)

    def allows(self, choice: Choice) -> bool:
        """Whether the choice, which may come from a file, is one for this layer."""
        forms = {(form.vectors, form.depth, form.dense, form.merged) for form in self.forms()}
        return (
            (choice.vectors, choice.depth, choice.dense, choice.merged) in forms
            and choice.height > 0
            and choice.width > 0
            and choice.height * choice.width <= self.pixels(choice.vectors)
            and choice.unroll in UNROLLS
            and choice.chains in CHAINS
            and choice.effort in EFFORTS
            and choice.together in (0, *TOGETHER)
            and choice.prefetch in (0, PREFETCH, NEXT_BLOCK)
            and choice.threads in (1, self.options.threads)
        )

    # ---- what it costs
    @cached_property
    def _kept(self) -> NDArray[np.bool_]:
        """Which single input channels hold a non-zero: outputs by vector x input x tap."""
        weight, lanes = self.layer.weight, self.machine.lanes
        assert weight is not None
        outputs = weight.shape[0]
        nonzero = (tiles.ungroup(weight, 1 if self.lanewise else self.layer.groups) != 0).reshape(outputs, -1)
        if outputs % lanes:
            nonzero = np.pad(nonzero, ((0, -outputs % lanes), (0, 0)))
        taps = self.layer.kernel[0] * self.layer.kernel[1]
        by_vector: NDArray[np.bool_] = np.logical_or.reduce(nonzero.reshape(-1, lanes, nonzero.shape[1]), axis=1)
        return by_vector.reshape(len(by_vector), -1, taps)

    def counts(self, vectors: int, depth: int, keep_all: bool) -> NDArray[np.int64]:
        """Weight tiles kept per tap."""
        taps = self.layer.kernel[0] * self.layer.kernel[1]
        if keep_all:
            inputs = 1 if self.lanewise else self.layer.image[1]
            blocks = -(-self.layer.result[1] // (self.machine.lanes * vectors)) * -(-inputs // depth)
            return np.full(taps, blocks)
        kept = _merged(_merged(self._kept, 0, vectors), 1, depth)
        total: NDArray[np.int64] = kept.sum(axis=(0, 1))
        return total

    def estimates(self, form: Form) -> Iterator[tuple[bool, int, Divisions, NDArray[np.float64]]]:
        """Cycles of every division into register tiles, for each order of the loops and number of threads."""
        divided = divisions(self.axes, self.pixels(form.vectors), form.merged)
        work = cost.cycles(divided, form, self.machine, min(CHAINS[0], self.machine.accumulators(form.vectors)))
        image, result = 4 * self.source.image, 4 * self.target.image * (2 if self.layer.residual else 1)
        inputs = 1 if self.lanewise else -(-self.layer.image[1] // form.depth)
        swept = image // form.blocks if self.lanewise else image
        orders = {
            False: cost.outputs_outer(work, divided, form, self.machine, swept, inputs),
            True: cost.tiles_outer(work, divided, form, self.machine, result),
        }
        images = self.layer.image[0]
        for outer, total in orders.items():
            for threads in sorted({1, self.options.threads}):
                fetched = cost.fetched(divided, form, self.machine, image * images, outer, threads)
                yield outer, threads, divided, cost.shared(total * images, threads) + fetched

    def candidates(self, form: Form, only_best: bool = False) -> list[Candidate]:
        """The choices of one encoding, with the default of everything that the estimate does not see."""
        found, lanes = [], self.machine.lanes
        for outer, threads, divided, total in self.estimates(form):
            for number in [int(total.argmin())] if only_best else range(len(total)):
                height, width = int(divided.heights[number]), int(divided.widths[number])
                asked = asking(form.weight_bytes(lanes), lanes, height * width)
                choice = Choice(
                    form.dense, form.vectors, form.depth, height, width, int(outer), form.merged,
                    prefetch=asked, threads=threads,
                )  # fmt: skip
                found.append(Candidate(choice, float(total[number])))
        return sorted(found, key=lambda candidate: candidate.cycles)

    def best_of_each_form(self) -> list[Candidate]:
        best = [self.candidates(form, only_best=True)[0] for form in self.forms()]
        return sorted(best, key=lambda candidate: candidate.cycles)

    # ---- packing
    def pack(self, choice: Choice, why: Sequence[str]) -> Packed:
        layer = self.layer
        encoded = self.encoded(choice.vectors, choice.depth, choice.dense, choice.merged)
        plan = self._plan(encoded, choice)
        encoding = "depthwise" if self.lanewise else "dense" if choice.dense else "tiles"
        constants: tuple[NDArray[np.float32] | NDArray[np.int32], ...] = (plan.table,)
        if layer.weight is not None:
            assert layer.bias is not None
            bias = np.pad(layer.bias, (0, encoded.out_blocks * encoded.lanes - len(layer.bias)))
            weights = plan.weights if plan.weights.size else np.zeros(encoded.lanes, np.float32)
            constants = (weights, bias.astype(np.float32), plan.table)
        kept = plan.macs if layer.weight is not None else 0
        return Packed(
            plan.spec.to_json(),
            constants,
            encoding if layer.weight is not None else "",
            encoded.density,
            layer.macs,
            kept,
            _describe(plan, choice),
            tuple(why),
        )

    def _encode(self, vectors: int, depth: int, dense: bool, merged: bool) -> Tiles:
        weight = self.layer.weight
        if weight is None:
            weight = np.ones((self.layer.image[1], 1, *self.layer.kernel), np.float32)
        if not self.lanewise:
            weight = tiles.ungroup(weight, self.layer.groups)
        if merged:
            weight = merge_columns(weight)
            depth = weight.shape[1]
        # of a depthwise layer, a tap that is zero for a whole block of channels is skipped
        return tiles.from_dense(weight, self.machine.lanes * vectors, depth, keep_all=dense)

    def _plan(self, encoded: Tiles, choice: Choice) -> Plan:
        layer = self.layer
        return plan_conv(
            encoded,
            self.machine.lanes,
            choice.vectors,
            cover(self.axes, choice.height, choice.width, choice.merged),
            self.source,
            self.target,
            batch=layer.image[0],
            lanewise=self.lanewise,
            activation=layer.activation,
            residual=layer.residual,
            threads=choice.threads,
            group=choice.together,
            prefetch=choice.prefetch,
            accumulators=min(choice.chains, self.machine.accumulators(choice.vectors)),
            padded_output=layer.target == "blocked",
            combine="max" if layer.weight is None else "multiply",
            unroll=choice.unroll,
            merged=choice.merged,
            effort=choice.effort,
        )


def _merged(kept: NDArray[np.bool_], axis: int, count: int) -> NDArray[np.bool_]:
    """Groups of `count` neighbours along an axis made one: kept if any of them is."""
    if count == 1:
        return kept
    if count % 2 or count >= kept.shape[axis]:
        assert count >= kept.shape[axis], "groups are halved, or all there is"
        return np.logical_or.reduce(kept, axis=axis, keepdims=True)
    kept = np.moveaxis(_merged(kept, axis, count // 2), axis, 0)
    last = kept[-1:] if len(kept) % 2 else kept[:0]
    pairs = kept[: len(kept) // 2 * 2]
    return np.moveaxis(np.concatenate([pairs[::2] | pairs[1::2], last]), 0, axis)


def _describe(plan: Plan, choice: Choice) -> str:
    spec = plan.spec
    shapes = " ".join(f"{s.height}x{s.width}" for s in spec.shapes)
    return f"{shapes} px x {spec.block} lanes, depth {spec.depth}, {choice.order}"
