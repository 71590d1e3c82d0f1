"""Copies of input pixels into shared memory, several stages ahead of their use; borders are copied as zeros."""

from __future__ import annotations

from typing import Any

from tvm import tirx as T

from lhcc.ir.tir import get, integer, put, var
from lhcc.targets.cuda.arch import BLOCK
from lhcc.targets.cuda.frame import Frame
from lhcc.targets.cuda.tir import address, both, call, divided, when

Expr = Any
Stmt = Any


class Staging:
    def __init__(self, frame: Frame) -> None:
        self.frame, self.spec = frame, frame.spec
        self.slot = self.spec.stage_blocks * self.spec.patch_pixels * frame.pixel  # bytes of a stage

    def reads(self) -> list[Stmt]:
        """What this thread copies of every input block: its position in the block, -1 outside the image."""
        frame, spec, code = self.frame, self.spec, []
        images, blocks, height, width = spec.image
        for number in range(frame.copies):
            piece = frame.threads.thread + integer(number * spec.threads)
            image, y, x = divided(T.floordiv(piece, integer(frame.chunks)), *spec.patch)
            y = frame.row0 * spec.stride[0] + spec.origin[0] + y
            x = frame.column0 * spec.stride[1] + spec.origin[1] + x
            image = frame.image0 + image
            inside = both(
                y >= integer(0), y < integer(height), x >= integer(0), x < integer(width), image < integer(images),
                piece < integer(spec.patch_pixels * frame.chunks),
            )  # fmt: skip
            pixel = (image * (blocks * height) + y) * width + x
            chunk = T.floormod(piece, integer(frame.chunks)) * (16 // frame.arithmetic.size)
            code.append(put(frame.reads, T.Select(inside, pixel * BLOCK + chunk, integer(-1)), integer(number)))
        return code

    def begin(self, stage: Expr, slot: Expr) -> list[Stmt]:
        """Begins to copy the input blocks of a stage; a group of copies ends whether there are any or not."""
        frame, spec = self.frame, self.spec
        plane = spec.image[2] * spec.image[3] * BLOCK
        thread, pieces = frame.threads.thread, spec.patch_pixels * frame.chunks
        into = frame.memory + slot * self.slot
        into = into + T.floordiv(thread, integer(frame.chunks)) * frame.pixel
        into = into + T.floormod(thread, integer(frame.chunks)) * 16
        body: list[Stmt] = []
        for place in range(spec.stage_blocks):
            block, base = var(f"block{place}"), var(f"into{place}")
            copies: list[Stmt] = [T.Bind(base, into + place * spec.patch_pixels * frame.pixel)]
            for number in range(frame.copies):
                read = get(frame.reads, integer(number))
                source = T.Max(read, integer(0)) + block * plane
                step = number * (spec.threads // frame.chunks) * frame.pixel
                copy = call("copy16", base + step, address(frame.x, source), T.Cast("int32", read >= integer(0)))
                if (number + 1) * spec.threads > pieces:
                    copy = when(thread + number * spec.threads < integer(pieces), [copy])
                copies.append(copy)
            body += [
                T.Bind(block, frame.at(frame.stages_at + stage * spec.stage_blocks + place)),
                when(block >= integer(0), copies),
            ]
        return [when(stage < frame.stage_count, body), call("commit_copies")]
