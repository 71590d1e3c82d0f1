"""Chooses how a layer is computed on a CPU: dense or sparse tiles, their size, the loop order; by estimated cycles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lhcc.encodings import tiles
from lhcc.encodings.tiles import Tiles
from lhcc.ir.layer import ConvLayer, Packed
from lhcc.targets.base import Options
from lhcc.targets.cpu.geometry import Line, Tile, conv_lines, cover, rect_cycles, splits, transposed_lines
from lhcc.targets.cpu.machine import Machine
from lhcc.targets.cpu.plan import Plan, View, blocked_view, plan_conv, planar_view, rows_view

DENSE_MARGIN = 1.03  # leave the dense form only for an estimated gain beyond this


@dataclass(frozen=True)
class Candidate:
    """One way to compute a layer."""

    vectors: int
    depth: int
    dense: bool
    cycles: float
    blocks: int  # tiles kept

    def __str__(self) -> str:
        form = "dense" if self.dense else "tiles"
        return f"{form} of {self.depth} inputs x {self.vectors} vectors: {self.cycles / 1e3:,.0f} kcycles"


def pack(layer: ConvLayer, machine: Machine, options: Options) -> Packed:
    return _Packer(layer, machine, options).pack()


class _Packer:
    def __init__(self, layer: ConvLayer, machine: Machine, options: Options) -> None:
        self.layer, self.machine, self.options = layer, machine, options
        self.flat = self._is_flat()
        self.rows, self.columns = self._lines()

    def _is_flat(self) -> bool:
        """A 1x1 convolution sees an image as one row of pixels."""
        layer = self.layer
        point = layer.kernel == (1, 1) and layer.strides == (1, 1) and not any(layer.padding)
        return point and layer.image[2:] == layer.result[2:]

    def _lines(self) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
        layer = self.layer
        height, width = layer.image[2:]
        out_height, out_width = layer.result[2:]
        if self.flat:
            pixels = height * width
            return tuple(conv_lines(1, 1, 1, 1, 0, 1)), tuple(conv_lines(pixels, pixels, 1, 1, 0, 1))
        lines = transposed_lines if layer.transposed else conv_lines
        (kh, kw), (sh, sw), (dh, dw) = layer.kernel, layer.strides, layer.dilation
        top, left = layer.padding[:2]
        return tuple(lines(height, out_height, kh, sh, top, dh)), tuple(lines(width, out_width, kw, sw, left, dw))

    def _views(self) -> tuple[View, View]:
        layer, block = self.layer, self.machine.block
        (_, inputs, height, width), (_, outputs, out_height, out_width) = layer.image, layer.result
        if layer.source == "rows":
            return rows_view(inputs, width), rows_view(outputs, width)
        source = planar_view if layer.source == "planar" else None
        view = source(inputs, height, width) if source else blocked_view(inputs, height, width, block)
        return view, blocked_view(outputs, out_height, out_width, block)

    def pack(self) -> Packed:
        return self._pack_lanewise() if self.layer.depthwise else self._pack_tiles()

    # ---- depthwise and pooling
    def _pack_lanewise(self) -> Packed:
        layer, machine = self.layer, self.machine
        vectors = machine.vectors()
        weight = layer.weight
        if weight is None:
            weight = np.ones((layer.image[1], 1, *layer.kernel), np.float32)
        # a tap that is zero for a whole block of channels is skipped
        encoded = tiles.from_dense(weight, machine.block, 1, keep_all=layer.weight is None)
        plan = self._plan(encoded, vectors, lanewise=True)
        encoding = "" if layer.weight is None else "depthwise"
        return self._packed(plan, encoded, encoding, ("one weight per channel and tap: lanes are channels",))

    # ---- everything else
    def _pack_tiles(self) -> Packed:
        layer = self.layer
        assert layer.weight is not None
        weight = tiles.ungroup(layer.weight, layer.groups)
        candidates = sorted(self._candidates(weight), key=lambda candidate: candidate.cycles)
        dense = next(candidate for candidate in candidates if candidate.dense)
        best = candidates[0]
        if self.options.encoding == "dense" or best.cycles * DENSE_MARGIN > dense.cycles:
            best = dense
        encoded = tiles.from_dense(weight, self.machine.lanes * best.vectors, best.depth, keep_all=best.dense)
        plan = self._plan(encoded, best.vectors)
        shown = [best, *(c for c in candidates if c is not best)][:3]
        why = (f"chosen {shown[0]}", *(f"instead of {other}" for other in shown[1:]))
        return self._packed(plan, encoded, "dense" if best.dense else "tiles", why)

    def _depths(self) -> list[int]:
        """Input channels per tile: a tile must not straddle blocks of the input's layout."""
        layer = self.layer
        channels = layer.image[1]
        if layer.source == "planar":
            return [channels]
        limit = self.machine.block
        if layer.source == "rows":
            return [d for d in (16, 8, 4, 2, 1) if channels % d == 0]
        return [d for d in (16, 8, 4, 2, 1) if d <= limit]

    def _widths(self) -> list[int]:
        """Vectors per tile of outputs: whole blocks of the output's layout only."""
        least = self.machine.vectors()
        outputs = self.layer.result[1]
        twice = 2 * least
        fits = outputs % (twice * self.machine.lanes) == 0 or self.layer.target == "rows"
        return [least, twice] if fits and self.machine.registers == 32 else [least]

    def _candidates(self, weight: np.ndarray) -> Iterator[Candidate]:
        lanes = self.machine.lanes
        for vectors in self._widths():
            for depth in self._depths():
                for dense in (True, False):
                    if dense and depth != self._depths()[0] and self.layer.image[1] % self._depths()[0] == 0:
                        continue  # deeper tiles are never worse when every tile is kept
                    counts = self._counts(weight, lanes * vectors, depth, dense)
                    yield Candidate(vectors, depth, dense, self._cycles(counts, vectors, depth), int(counts.sum()))

    @staticmethod
    def _counts(weight: np.ndarray, block: int, depth: int, dense: bool) -> np.ndarray:
        """Tiles kept per tap."""
        outputs, inputs = weight.shape[:2]
        if dense:
            return np.full(weight[0, 0].size, -(-outputs // block) * -(-inputs // depth))
        return tiles.counts(weight, block, depth)

    def _cycles(self, counts: np.ndarray, vectors: int, depth: int) -> float:
        cover_ = self._cover(vectors, depth)
        blocks = -(-self.layer.result[1] // (self.machine.lanes * vectors))
        accumulators = self.machine.accumulators(vectors)
        broadcast = 0.0 if self.machine.lanes == 16 and vectors == 1 else 0.5 / max(1, vectors)
        total = 0.0
        prices: dict[tuple[object, ...], float] = {}
        for tile in cover_:
            key = (tile.height, tile.width, tile.rects)
            if key not in prices:
                pixels = tile.height * tile.width
                parts = splits(pixels, vectors, depth, accumulators)
                steps = sum(
                    (depth * rect_cycles(rect, vectors, parts, broadcast) + 3) * int(count)
                    for rect, count in zip(tile.rects, counts)
                )
                prices[key] = steps + blocks * (pixels * vectors * 1.5 + 30)
            total += prices[key]
        return total * self.layer.image[0]

    def _cover(self, vectors: int, depth: int) -> tuple[Tile, ...]:
        return cover(self.rows, self.columns, vectors, depth, self.machine.accumulators(vectors))

    def _plan(self, encoded: Tiles, vectors: int, lanewise: bool = False) -> Plan:
        layer = self.layer
        source, target = self._views()
        tiles_ = self._cover(vectors, encoded.depth)
        blocks = encoded.out_blocks
        image_bytes = 4 * source.image
        return plan_conv(
            encoded,
            self.machine.lanes,
            vectors,
            tiles_,
            source,
            target,
            batch=layer.image[0],
            lanewise=lanewise,
            activation=layer.activation,
            residual=layer.residual,
            threads=self.options.threads,
            # whichever operand is swept again and again should be the smaller one
            tile_outer=not lanewise and len(tiles_) * encoded.values.nbytes < blocks * image_bytes,
            accumulators=self.machine.accumulators(vectors),
            padded_output=layer.target == "blocked",
            combine="max" if layer.weight is None else "multiply",
        )

    def _packed(self, plan: Plan, encoded: Tiles, encoding: str, why: tuple[str, ...]) -> Packed:
        layer = self.layer
        constants: tuple[np.ndarray, ...] = (plan.table,)
        if layer.weight is not None:
            assert layer.bias is not None
            bias = np.pad(layer.bias, (0, encoded.out_blocks * encoded.lanes - len(layer.bias)))
            weights = plan.weights if plan.weights.size else np.zeros(encoded.lanes, np.float32)
            constants = (weights, bias.astype(np.float32), plan.table)
        spec = plan.spec
        shapes = " ".join(f"{s.height}x{s.width}" for s in spec.shapes)
        order = "tiles outer" if spec.tile_outer else "outputs outer"
        schedule = f"{shapes} px x {spec.block} lanes, depth {spec.depth}, {order}"
        kept = plan.macs if layer.weight is not None else 0
        return Packed(spec.to_json(), constants, encoding, encoded.density, layer.macs, kept, schedule, why)
