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
        """What this thread copies of every input block: its position in the block, -1 outside the image; and, unless
        that follows from the first copy, where to."""
        frame, spec, patch, code = self.frame, self.spec, self.frame.patch, []
        blocks, height, width = spec.image[1:]
        for number in range(spec.copies):
            piece = frame.copier + integer(number * spec.copying)
            part = T.floormod(piece, integer(frame.chunks))
            image, y, x, inside, into = self.pixel(T.floordiv(piece, integer(frame.chunks)))
            if not patch.even:
                code.append(put(frame.into, into + part * 16, integer(number)))
            pieces = integer(spec.patch_pixels * frame.chunks)
            inside = both(inside, x >= integer(0), x < integer(width), piece < pieces)
            pixel = (image * (blocks * height) + y) * width + x
            read = pixel * BLOCK + part * (16 // frame.arithmetic.size)
            code.append(put(frame.reads, T.Select(inside, read, integer(-1)), integer(number)))
        return code

    def pixel(self, number: Expr) -> tuple[Expr, Expr, Expr, Expr, Expr]:
        """Of a staged pixel: image, row and column, whether there is such a row, and where it goes in its patch."""
        frame, spec, patch = self.frame, self.spec, self.frame.patch
        image, row, column = divided(number, *spec.slots)
        into = image * patch.image + row * patch.row + column * patch.pixel
        row, column, image = patch.staged(row, 0), patch.staged(column, 1), frame.image0 + image
        y = frame.row0 * spec.stride[0] + spec.origin[0] + row * spec.gap[0]
        x = frame.column0 * spec.stride[1] + spec.origin[1] + column * spec.gap[1]
        staged = both(row < integer(spec.patch[0]), column < integer(spec.patch[1]))
        inside = both(y >= integer(0), y < integer(spec.image[2]), image < integer(spec.image[0]), staged)
        return image, y, x, inside, into

    def early(self) -> list[Stmt]:
        """Begins to copy the weights of the first stages, which no kernel before this one writes."""
        return [
            when(number < self.frame.stage_count, self._weights(number, self.frame.weights_of(number)))
            for number in map(integer, range(self.spec.stages - 1))
        ]

    def ahead(self) -> list[Stmt]:
        """Begins to copy the input blocks of the first stages; the weights arrive with those of the first."""
        code: list[Stmt] = []
        for number in map(integer, range(self.spec.stages - 1)):
            blocks = self.blocks(number)
            code += [when(number < self.frame.stage_count, blocks)] if blocks else []
            code.append(call("commit_copies"))
        return code

    def arrived(self) -> list[Stmt]:
        """This thread's copies for the stage that comes next have arrived."""
        return [call(f"wait_copies<{self.spec.stages - 2}>")]

    def following(self, stage: Expr) -> list[Stmt]:
        """Begins to copy for a later stage, to where nobody reads since all have met for `stage`; the group of copies
        ends even if it is empty."""
        stage = stage + (self.spec.stages - 1)
        begin = [*self.blocks(stage), *self._weights(stage, self.frame.weights_of(stage))]
        return [when(stage < self.frame.stage_count, begin), call("commit_copies")]

    def blocks(self, stage: Expr) -> list[Stmt]:
        """Begins to copy the input blocks of a stage."""
        frame, spec = self.frame, self.spec
        plane, pieces = spec.image[2] * spec.image[3] * BLOCK, spec.patch_pixels * frame.chunks
        block, base, arrival = var("block"), var("base"), var("arrival")
        at = (stage * spec.arrivals + arrival) * 2 + frame.record.arrivals_at
        patch, into = frame.patch, frame.memory + frame.at(at + 1) * frame.patch.size
        if patch.even:
            into = into + T.floordiv(frame.copier, integer(frame.chunks)) * patch.pixel
            into = into + T.floormod(frame.copier, integer(frame.chunks)) * 16
        copies: list[Stmt] = [T.Bind(base, into)]
        for number in range(spec.copies):
            read = get(frame.reads, integer(number))
            source = T.Max(read, integer(0)) + block * plane
            further = number * (spec.copying // frame.chunks) * patch.pixel
            step = integer(further) if patch.even else get(frame.into, integer(number))
            copy = call("copy16", base + step, address(frame.x, source), T.Cast("int32", read >= integer(0)))
            if (number + 1) * spec.copying > pieces:
                copy = when(frame.copier + number * spec.copying < integer(pieces), [copy])
            copies.append(copy)
        return [loop(arrival, spec.arrivals, [T.Bind(block, frame.at(at)), when(block >= integer(0), copies)])]

    def _weights(self, stage: Expr, into: Expr) -> list[Stmt]:
        """The tiles of a stage lie together, each with where it reads."""
        frame, first, count = self.frame, var("first"), var("count")
        source = address(frame.weights, first * (frame.tile_bytes // 4))
        copied = into, source, count * frame.tile_bytes, frame.arrival(stage), frame.copier, self.spec.copying
        return [
            T.Bind(first, frame.bound(stage, 0)),
            T.Bind(count, frame.bound(stage, frame.record.warps) - first),
            call("copy_run", *copied),
        ]
