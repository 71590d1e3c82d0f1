"""Convolutions whose lanes are pixels: every form and layout, for vectors and register files of other processors too
(LLVM makes of a wider vector several of this processor's), against the reference in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lhcc.runtime.library import import_tvm
from lhcc.targets import base
from lhcc.targets.base import Options

import_tvm()

from lhcc.ir.layer import ConvLayer  # noqa: E402
from lhcc.runtime.codegen import compile_kernels  # noqa: E402
from lhcc.runtime.library import ffi  # noqa: E402
from lhcc.runtime.loader import load_kernels  # noqa: E402
from lhcc.runtime.memory import allocate  # noqa: E402
from lhcc.targets.cpu import patterns, wide_forms, wide_tuning  # noqa: E402
from lhcc.targets.cpu.encode import widened  # noqa: E402
from lhcc.targets.cpu.machine import LINE  # noqa: E402
from lhcc.targets.cpu.pattern_sums import reads  # noqa: E402
from lhcc.targets.cpu.regions import NOTHING  # noqa: E402
from lhcc.targets.cpu.wide import GOLDEN, SETS, WideSpec  # noqa: E402
from lhcc.targets.cpu.wide_choice import WideLayer  # noqa: E402
from lhcc.tuning.worker import Code, Worker  # noqa: E402

HOST: Any = base.parse("cpu").machine  # type: ignore[attr-defined]
MACHINES = [(8, 16), (8, 32), (16, 32), (4, 32), (4, 16)]  # lanes, registers


def layer(
    rng: np.random.Generator,
    size: tuple[int, int],
    kernel: tuple[int, int] = (3, 3),
    stride: int = 1,
    dilation: int = 1,
    residual: str = "",
) -> ConvLayer:
    """Every kernel keeps one of four sets of taps."""
    outputs, inputs, images = int(rng.integers(3, 30)), int(rng.integers(3, 30)), int(rng.integers(1, 3))
    sets = rng.random((4, *kernel)) < 0.5
    sets[0] = False
    sets[1, 0, 0] = True
    weight = rng.standard_normal((outputs, inputs, *kernel)) * sets[rng.integers(0, 4, (outputs, inputs))]
    top, left = (int(rng.integers(0, k)) for k in kernel)
    result = tuple(
        (n + 2 * p - (k - 1) * dilation - 1) // stride + 1 for n, p, k in zip(size, (top, left), kernel, strict=True)
    )
    bias = rng.standard_normal(outputs).astype(np.float32)
    return ConvLayer(
        "conv", "conv2d", weight.astype(np.float32), bias, kernel, 1, (images, inputs, *size),
        (images, outputs, result[0], result[1]), (stride, stride), (top, left, top, left), (dilation, dilation),
        False, "planar", "blocked", "relu", residual,
    )  # fmt: skip


CASES = [
    dict(size=(14, 14)), dict(size=(13, 29)), dict(size=(9, 5)), dict(size=(7, 33), residual="before"),
    dict(size=(17, 18), stride=2), dict(size=(16, 20), dilation=2), dict(size=(12, 23), kernel=(5, 5)),
    dict(size=(6, 11), kernel=(1, 1)), dict(size=(11, 40), kernel=(2, 3), residual="after"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "lanes", "registers"),
    [(case, *MACHINES[0]) for case in CASES]
    + [(case, *MACHINES[1 + number % (len(MACHINES) - 1)]) for number, case in enumerate(CASES)],
    ids=str,
)
def test_every_form_computes_the_convolution(case: dict[str, Any], lanes: int, registers: int) -> None:
    made = layer(np.random.default_rng(len(str(case)) + lanes + registers), **case)
    machine = replace(HOST, lanes=lanes, registers=registers)
    wide = WideLayer(made, machine, Options())
    for by_patterns in (False, True):
        form = wide_forms.module(by_patterns, machine)
        spec = form.make_spec(made, machine, 1)
        encoded = form.encode(made.weight, spec)
        spec = replace(spec, taps=encoded.taps) if by_patterns else spec
        check_widen(spec)
        (task,) = wide_tuning.tasks([(wide, widened(made, spec, encoded))], 0)
        kernel = task.kernel(task.choices[0])
        library = compile_kernels({"k": kernel.function()}, HOST.tvm_target(), jobs=1)
        worker = Worker()
        worker.problem(0, task.problem())
        worker.load(0, 0, Code(library, "k", kernel.constants))  # raises when the result is wrong


def check_widen(spec: WideSpec) -> None:
    """The compiled kernel writes all of what the numpy one does."""
    x = np.random.default_rng(0).standard_normal(spec.image).astype(np.float32)
    library = compile_kernels({"widen": wide_forms.widening(spec.to_json(), spec.image)}, HOST.tvm_target(), jobs=1)
    arrays = [allocate(4 * int(np.prod(shape))).view("float32").reshape(shape) for shape in (spec.image, spec.wide)]
    arrays[0][...], arrays[1][...] = x, np.nan
    load_kernels(library)["widen"](*map(ffi().from_dlpack, arrays))
    np.testing.assert_array_equal(arrays[1], wide_tuning.widen(x, spec))


@pytest.mark.parametrize("lanes", [4, 16])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_rectangles_cover_the_result_and_read_what_it_needs(case: dict[str, Any], lanes: int) -> None:
    made = layer(np.random.default_rng(len(str(case))), **case)
    spec = patterns.make_spec(made, replace(HOST, lanes=lanes, registers=32), 1)
    assert spec is not None
    x = np.arange(1, 1 + np.prod(spec.image), dtype=np.float32).reshape(spec.image)[:1, :1]
    wide = wide_tuning.widen(x, replace(spec, image=(1, 1, *spec.image[2:]))).reshape(-1)
    padded = np.pad(x[0, 0], 200)
    seen = np.zeros(spec.result[2] * spec.result[3], int)
    for tile, to, start in spec.tiles():
        for lane, count, position in tile.pieces:
            pixels = to + position + np.arange(count)
            seen[pixels] += 1
            vectors, lane_of = np.divmod(lane + np.arange(count), lanes)
            of = zip(np.divmod(pixels, spec.result[3]), spec.strides, spec.padding, strict=True)
            y, across = (200 + n * s - p for n, s, p in of)
            for tap in range(spec.kernel[0] * spec.kernel[1]):
                down, right = (k * d for k, d in zip(divmod(tap, spec.kernel[1]), spec.dilation, strict=True))
                needed = padded[y + down, across + right]
                reads = np.array(tile.reads)[vectors, tap]
                found = wide[np.where(reads == NOTHING, 0, start + reads + lane_of)]
                np.testing.assert_array_equal(np.where(reads == NOTHING, 0, found), needed)
    assert (seen == 1).all()


def test_rows_and_columns_at_the_border_leave_out_their_padding() -> None:
    made = layer(np.random.default_rng(3), (14, 14))
    made = replace(made, padding=(1, 1, 1, 1), result=(*made.result[:2], 14, 14))
    spec = patterns.make_spec(made, replace(HOST, lanes=16, registers=32), 1)
    assert spec is not None
    vectors = [reads for tile, _, _ in spec.tiles() for reads in tile.reads]
    live = [sum(reads[tap] != NOTHING for reads in vectors) for tap in range(9)]
    assert live == [11, 12, 11, 12, 13, 12, 11, 12, 11]


@pytest.mark.parametrize(("lanes", "registers"), MACHINES)
def test_vectors_lie_where_they_are_read_fast(lanes: int, registers: int) -> None:
    """Aligned, or in lines of which most loads touch one only; and channels begin in different sets of the cache."""
    machine = replace(HOST, lanes=lanes, registers=registers)
    for width in range(1, 70):
        made = layer(np.random.default_rng(width), (14, width + 2))
        form = wide_forms.module(False, machine)
        spec = form.make_spec(made, machine, 1)
        starts = spec.row_starts
        covered = {start + lane for start in starts for lane in range(lanes)}
        assert covered >= set(range(spec.result[3]))
        assert spec.padded_width * 4 % (lanes * 4) == 0
        if spec.shifted:
            assert all(start % lanes == 0 for start in starts)
            assert spec.channel_step // spec.row_step % 2 == 1
        else:
            assert spec.channel_step * 4 % LINE == 0 and spec.row_step * 4 // LINE % SETS == GOLDEN
            assert spec.channel_step * spec.image[1] <= spec.row_step
            assert starts[-1] + lanes <= max(lanes, spec.result[3])
            assert starts[-1] + lanes + spec.kernel[1] - 1 <= spec.padded_width


def test_loads_are_shared_and_every_product_is_made_once() -> None:
    made = layer(np.random.default_rng(3), (14, 14))
    made = replace(made, padding=(1, 1, 1, 1), result=(*made.result[:2], 14, 14))
    machine = replace(HOST, lanes=8, registers=16)
    spec = wide_forms.module(True, machine).make_spec(made, machine, 1)
    taps = (1, 3, 4, 7)
    for tile in spec.classes():
        found = list(reads(tile, taps, spec))
        assert len({load[:3] for load in found}) == len(found)
        made_once = [(tap, row, vector) for _, _, vector, uses in found for tap, row in uses]
        assert len(set(made_once)) == len(made_once)
        padded = sum(tile.above * (tap // 3 == 0) + tile.below * (tap // 3 == 2) for tap in taps)
        assert len(made_once) == tile.vectors * (len(taps) * tile.rows - padded)
        assert len(found) < len(made_once)
