"""Copies of input pixels and weights into shared memory, several stages ahead of their use; borders become zeros."""

from __future__ import annotations

from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import get, integer, loop, put, var
from lhcc.targets.cuda.arch import BLOCK
from lhcc.targets.cuda.frame import Frame
from lhcc.targets.cuda.tir import address, both, call, divided, when

Expr = Any
Stmt = Any


class Staging:
    def __init__(self, frame: Frame) -> None:
        self.frame, self.spec = frame, frame.spec

    def reads(self) -> list[Stmt]:
        """What this thread copies of every input block: its position in the block, -1 outside the image."""
        frame, spec, code = self.frame, self.spec, []
        images, blocks, height, width = spec.image
        for number in range(spec.copies):
            piece = frame.copier + integer(number * spec.copying)
            image, y, x = divided(T.floordiv(piece, integer(frame.chunks)), *spec.patch)
            y = frame.row0 * spec.stride[0] + spec.origin[0] + y * spec.gap[0]
            x = frame.column0 * spec.stride[1] + spec.origin[1] + x * spec.gap[1]
            image = frame.image0 + image
            inside = both(
                y >= integer(0), y < integer(height), x >= integer(0), x < integer(width), image < integer(images),
                piece < integer(spec.patch_pixels * frame.chunks),
            )  # fmt: skip
            pixel = (image * (blocks * height) + y) * width + x
            chunk = T.floormod(piece, integer(frame.chunks)) * (16 // frame.arithmetic.size)
            code.append(put(frame.reads, T.Select(inside, pixel * BLOCK + chunk, integer(-1)), integer(number)))
        return code

    def early(self) -> list[Stmt]:
        """Begins to copy the weights of the first stages, which no kernel before this one writes."""
        return [
            when(number < self.frame.stage_count, self._weights(number, self.frame.weights_of(number)))
            for number in map(integer, range(self.spec.stages - 1))
        ]

    def ahead(self) -> list[Stmt]:
        """Begins to copy the input blocks of the first stages; the weights arrive with those of the first."""
        return [
            code
            for number in map(integer, range(self.spec.stages - 1))
            for code in (when(number < self.frame.stage_count, [self._blocks(number)]), call("commit_copies"))
        ]

    def arrived(self) -> list[Stmt]:
        """This thread's copies for the stage that comes next have arrived."""
        return [call(f"wait_copies<{self.spec.stages - 2}>")]

    def following(self, stage: Expr) -> list[Stmt]:
        """Begins to copy for a later stage, to where nobody reads since all have met for `stage`; the group of copies
        ends even if it is empty."""
        stage = stage + (self.spec.stages - 1)
        begin = [self._blocks(stage), *self._weights(stage, self.frame.weights_of(stage))]
        return [when(stage < self.frame.stage_count, begin), call("commit_copies")]

    def _blocks(self, stage: Expr) -> Stmt:
        """Begins to copy the input blocks of a stage."""
        frame, spec = self.frame, self.spec
        plane, pieces = spec.image[2] * spec.image[3] * BLOCK, spec.patch_pixels * frame.chunks
        block, base, arrival = var("block"), var("base"), var("arrival")
        at = (stage * spec.arrivals + arrival) * 2 + frame.record.arrivals_at
        into = frame.memory + frame.at(at + 1) * frame.patch
        into = into + T.floordiv(frame.copier, integer(frame.chunks)) * frame.pixel
        into = into + T.floormod(frame.copier, integer(frame.chunks)) * 16
        copies: list[Stmt] = [T.Bind(base, into)]
        for number in range(spec.copies):
            read = get(frame.reads, integer(number))
            source = T.Max(read, integer(0)) + block * plane
            step = number * (spec.copying // frame.chunks) * frame.pixel
            copy = call("copy16", base + step, address(frame.x, source), T.Cast("int32", read >= integer(0)))
            if (number + 1) * spec.copying > pieces:
                copy = when(frame.copier + number * spec.copying < integer(pieces), [copy])
            copies.append(copy)
        return loop(arrival, spec.arrivals, [T.Bind(block, frame.at(at)), when(block >= integer(0), copies)])

    def _weights(self, stage: Expr, into: Expr) -> list[Stmt]:
        """The tiles of a stage lie together, each with where it reads."""
        frame, threads = self.frame, self.spec.copying
        first, pieces, turn, piece = var("first"), var("pieces"), var("turn"), var("piece")
        count = frame.bound(stage, frame.record.warps) - first
        source = address(frame.weights, first * (frame.tile_bytes // 4) + piece * 4)
        copies = [
            T.Bind(piece, turn * threads + frame.copier),
            when(piece < pieces, [call("copy16", into + piece * 16, source, 1)]),
        ]
        rounds = T.floordiv(pieces + (threads - 1), integer(threads))
        return [
            T.Bind(first, frame.bound(stage, 0)),
            T.Bind(pieces, count * (frame.tile_bytes // 16)),
            T.For(turn, integer(0), rounds, T.stmt.ForKind.SERIAL, T.SeqStmt(copies)),
        ]
