"""Layers as literal shifts and additions: the reference's integers, and no product of data anywhere in the code."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from tvm import tirx as T

from lhcc.encodings.adders import Adder, AdderGraph, Output
from lhcc.errors import TargetError
from lhcc.integer import Builder, Dense, Program
from lhcc.runtime.build import build
from lhcc.targets import base
from lhcc.targets.base import Options
from lhcc.targets.cpu import int_shift, int_shift_code, int_shift_list, integers
from lhcc.targets.cpu.target import CpuTarget
from tests.targets_fpga.fpga_programs import folded, unrolled


def lowered(program: Program, threads: int = 1, images: int = 1) -> Any:
    target = base.parse("cpu")
    assert isinstance(target, CpuTarget)
    options = Options(threads=threads, arith="shift", io="integer")
    return integers.lower(program, target.machine, options, images)


def assert_exact(program: Program, threads: int = 1, images: int = 2) -> None:
    rng = np.random.default_rng(7)
    executable = build(lowered(program, threads, images), base.parse("cpu"), threads=threads)
    kinds = [program.types[step.name] for step in program.inputs]
    inputs = [rng.integers(kind.low, kind.high + 1, (images, *kind.shape)) for kind in kinds]
    given = [np.moveaxis(x, -1, 1) if x.ndim == 4 else x for x in inputs]
    types = [entry.dtype for entry in executable.inputs]
    answer = executable(*(np.ascontiguousarray(x.astype(t)) for x, t in zip(given, types, strict=True)))
    answers = answer if isinstance(answer, (tuple, list)) else [answer]
    for got, want in zip(answers, program.run(*inputs), strict=True):
        np.testing.assert_array_equal(np.moveaxis(got, 1, -1) if got.ndim == 4 else got, want)


@pytest.fixture(params=["code", "list"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """All layers are compiled so, however many additions they have."""
    monkeypatch.setattr(int_shift, "AS_CODE", 1 << 60 if request.param == "code" else -1)
    return str(request.param)


@pytest.mark.parametrize("seed", range(4))
def test_random_layers_are_exact(seed: int, form: str) -> None:
    assert_exact(unrolled(seed), threads=1 + seed % 2)


def test_wide_layers_with_residuals_are_exact(form: str) -> None:
    assert_exact(folded(3))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4, 40))
def test_more_random_layers_are_exact(seed: int, form: str) -> None:
    assert_exact(unrolled(seed) if seed % 3 else folded(seed), threads=1 + seed % 2)


def test_a_layer_of_many_additions_is_not_written_out() -> None:
    rng = np.random.default_rng(5)
    b = Builder()
    x = b.input("x", (3, 5, 48), bits=8, signed=True)
    weights = rng.integers(-90, 91, (3, 3, 48, 24))
    program = b.build(b.conv("y", x, weights, rng.integers(-99, 99, 24), padding=(1, 1, 1, 1)))
    (record,) = (layer for layer in lowered(program).layers if layer.encoding == "shift-and-add")
    assert record.schedule.endswith("additions from a list, nothing shared")
    assert record.adds > 15 * int_shift.AS_CODE
    assert_exact(program)


def test_lists_are_of_the_digits_of_all_weights() -> None:
    b = Builder()
    weights = np.array([[7, 0, -6], [1, 0, 0]]).T  # 8 - 1 and 2 - 8: three inputs, two outputs
    program = b.build(b.dense("y", b.input("x", (3,), bits=8, signed=True), weights))
    step = program["y"]
    assert isinstance(step, Dense)
    listed = int_shift_list.Listed.of(step, program.types["x"])
    table = listed.table((1, 3, 1, 1))
    lists = [table[begin:end].tolist() for begin, end in zip(table[: 4 * 2 * 16], table[1:], strict=False)]
    # by place, from 8 down to 1: what is added, what is subtracted
    assert lists[:8] == [[0], [2], [], [], [2], [], [], [0]]
    assert lists[8:16] == [[], [], [], [], [], [], [0], []]
    assert not any(lists[16:]) and listed.count == 3


@pytest.mark.parametrize("shape", [(1 << 24, 3), (1, 3)])
def test_lists_whose_sums_might_need_more_than_32_bits_are_refused(shape: tuple[int, int]) -> None:
    b = Builder()
    largest, inputs = shape
    weights = np.array([[largest * 31], [-largest * 31], [0]])[:inputs]
    program = b.build(b.dense("y", b.input("x", (inputs,), bits=3, signed=True), weights))
    step = program["y"]
    assert isinstance(step, Dense)
    if largest == 1:
        assert int_shift_list.Listed.of(step, program.types["x"]).count == 3
        return
    with pytest.raises(TargetError, match="layer 'y' adds up sums that need more than 32 bits"):
        int_shift_list.Listed.of(step, program.types["x"])


def test_strides_dilation_and_rows_that_fill_no_vector(form: str) -> None:
    rng = np.random.default_rng(0)
    b = Builder()
    x = b.input("x", (9, 43, 3), bits=8, signed=True)
    weights = rng.choice([0, 1, -1, 2, -4, 6], (3, 3, 3, 20))
    y = b.conv("y", x, weights, rng.integers(-9, 9, 20), padding=(1, 2, 0, 1), stride=(2, 1), dilation=(1, 2))
    z = b.conv("z", b.requantise("q", y, rng.integers(0, 5, 20), -99, 99, scale=1.0), weights[:, :, 0, :, None])
    assert_exact(b.build(z))


def _products(script: str) -> int:
    """Lines that multiply what was loaded from memory, or computed from it: not those of addresses."""
    found = 0
    for line in script.splitlines():
        inner = None
        while inner != line:  # what stands between brackets is an address, and so is what the plan holds
            inner, line = line, re.sub(r"plan\[\]", "", re.sub(r"\[[^\[\]]+\]", "[]", line))
        found += " * " in line and bool(re.search(r"\[\]|\bn\d+_\d+", line.partition("=")[2]))
    return found


def test_many_inputs_are_added_up_part_by_part() -> None:
    rng = np.random.default_rng(2)
    b = Builder()
    x = b.input("x", (300,), bits=8, signed=True)
    program = b.build(b.dense("y", x, rng.choice([0, 1, -2, 3], (300, 18)), rng.integers(-9, 9, 18)))
    step = program["y"]
    assert isinstance(step, Dense)
    layer = int_shift_code.Additions.of(step, program.types["x"])
    assert [(part.block, part.first) for part in layer.parts] == [(0, True), (0, False), (1, True), (1, False)]
    assert layer.count <= layer.layer.before_sharing
    assert_exact(program)


def test_no_data_is_multiplied(form: str) -> None:
    b = Builder()
    x = b.input("x", (6, 6, 4), signed=True)
    y = b.conv("y", x, np.random.default_rng(1).integers(-7, 8, (3, 3, 4, 8)))
    y = b.sum_pool("pool", b.requantise("q", y, np.arange(8) % 4, -64, 63, scale=1.0), (2, 2), (1, 1))
    program = b.build(b.piecewise("act", y, [-20, 0, 31], [0, 1, 3, 0], [-20, 0, 0, 93], 1))

    def products(options: Options) -> int:
        target = base.parse("cpu")
        assert isinstance(target, CpuTarget)
        functions = integers.lower(program, target.machine, options).mod.functions.values()
        return sum(_products(str(f.script())) for f in functions if isinstance(f, T.PrimFunc))

    assert products(Options(arith="shift", io="integer")) == 0
    assert products(Options(io="integer")) > 0
    assert_exact(program)


def test_an_output_may_be_half_of_what_was_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = AdderGraph(1, (Adder(0, 0, 0, 0, False),), (Output(1, -1, False),))
    monkeypatch.setattr(int_shift_code, "solve", lambda *_, **__: twice)
    b = Builder()
    assert_exact(b.build(b.conv("y", b.input("x", (3, 5, 1), signed=True), np.ones((1, 1, 1, 1)))))


def test_what_is_shared_is_told() -> None:
    b = Builder()
    x = b.input("x", (4, 4, 8))
    program = b.build(b.conv("y", x, np.full((1, 1, 8, 16), 3)))
    record = next(layer for layer in lowered(program).layers if layer.encoding == "shift-and-add")
    # sixteen equal outputs of eight weights with two digits each: 3 * the sum of all, once
    assert record.adds <= 15 * 16 and record.macs == 8 * 16 * 16 and record.macs_kept == 0
    assert "240 before sharing" in record.schedule


def test_multipliers_are_refused_by_name() -> None:
    b = Builder()
    x = b.input("x", (4, 4, 8))
    y = b.conv("y", x, np.ones((1, 1, 8, 4)))
    program = b.build(b.requantise("y.q", y, 20, 0, 255, multiplier=1234567))
    with pytest.raises(TargetError, match="layer 'y.q' is scaled by multipliers"):
        lowered(program)
