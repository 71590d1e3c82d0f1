"""Transposed and hybrid convolutions: the same integers as the direct form, in every geometry, images back to back or
after a pause; their additions and their storage are counted."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from lhcc.errors import TargetError
from lhcc.integer import Builder, Program
from lhcc.integer.core import Window
from lhcc.targets.fpga import FpgaExecutable, FpgaOptions, compile_program
from lhcc.targets.fpga.forms import FORMS
from lhcc.targets.fpga.stages import Geometry, SlidingStage
from lhcc.targets.fpga.transposed import TransposedStage
from tests.targets_fpga.fpga_programs import weights
from tests.targets_fpga.test_fpga_circuits import in_icarus, in_verilator

icarus = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")


def sliding(seed: int) -> Program:
    """One convolution with any kernel, stride, dilation, groups and paddings that differ from side to side."""
    rng = np.random.default_rng(seed)
    b = Builder()
    while True:
        size = (int(rng.integers(3, 9)), int(rng.integers(3, 9)))
        kernel = (int(rng.integers(1, 4)), int(rng.integers(2, 4)))
        dilation = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
        stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
        extent = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
        top, left, bottom, right = (int(rng.integers(0, extent[k % 2])) for k in range(4))
        window = Window(kernel, stride, (top, left, bottom, right), dilation)
        geometry = Geometry(*size, *window.output(*size), (extent[0], extent[1]), top, left, stride)
        if min(geometry.rows, geometry.columns) > 0 and geometry.streams:
            break
    channels = int(rng.integers(1, 4))
    groups = channels if rng.random() < 0.3 else 1
    outputs = groups * int(rng.integers(1, 4))
    x = b.input("image", (*size, channels), int(rng.integers(3, 9)), 2, signed=bool(rng.integers(2)))
    w = weights(rng, (*kernel, channels // groups, outputs))
    bias = rng.integers(-50, 50, outputs)
    y = b.conv("conv", x, w, bias, 2, stride, window.padding, dilation=dilation, groups=groups)
    return b.build(b.requantise("r", y, 2, -99, 99) if rng.integers(2) else y)


def compiled(seed: int, form: str) -> FpgaExecutable:
    return compile_program(sliding(seed), FpgaOptions(reuse=1, form=form, clock=300 if seed % 2 else 100))


@icarus
@pytest.mark.parametrize("form", [f for f in FORMS if f != "direct"])
@pytest.mark.parametrize("seed", range(14))
def test_forms_in_icarus(seed: int, form: str, tmp_path: Path) -> None:
    offer, accept = ((100, 100), (30, 60))[seed % 2]
    assert in_icarus(compiled(seed, form), tmp_path, seed, offer, accept).startswith("PASS")


@pytest.mark.verilator
@pytest.mark.parametrize(("seed", "form"), [(20, "transposed"), (23, "hybrid-rows")])
def test_forms_in_verilator(seed: int, form: str) -> None:
    in_verilator(compiled(seed, form), seed, 10)


@pytest.mark.slow
@icarus
@pytest.mark.parametrize("seed", range(1000, 1100))
def test_more_forms_in_icarus(seed: int, tmp_path: Path) -> None:
    test_forms_in_icarus(seed, ["transposed", "hybrid-rows", "hybrid-columns"][seed % 3], tmp_path)


def dense_layer() -> Program:
    rng = np.random.default_rng(3)
    b = Builder()
    w = rng.choice([-2, -1, 1, 2], (3, 3, 8, 12))
    return b.build(b.conv("c", b.input("x", (8, 8, 8), 8, 0), w, padding=(1, 1, 1, 1)))


def test_transposition_saves_additions_and_pays_with_storage() -> None:
    stages: dict[str, SlidingStage] = {}
    for form in FORMS:
        (stage,) = compile_program(dense_layer(), FpgaOptions(reuse=1, form=form)).pipeline.stages
        assert isinstance(stage, SlidingStage)
        stages[form] = stage
    assert stages["transposed"].adders < stages["direct"].adders
    stored = {form: sum(bits * pixels for bits, pixels in stage.delays) for form, stage in stages.items()}
    assert stored["transposed"] > stored["direct"] and stored["hybrid-columns"] < stored["transposed"]


def test_the_cheapest_form_is_taken() -> None:
    from lhcc.targets.fpga.cost import area

    costs = {}
    for form in (*FORMS, "auto"):
        (stage,) = compile_program(dense_layer(), FpgaOptions(reuse=1, form=form)).pipeline.stages
        costs[form] = area(stage).weight
    assert costs["auto"] == min(costs[f] for f in FORMS)


def test_additions_are_counted_by_hand() -> None:
    """A column of three ones, transposed: one product for three taps, two additions, two sums that wait for a row."""
    b = Builder()
    program = b.build(b.conv("c", b.input("x", (5, 4, 1), 4, 0), np.ones((3, 1, 1, 1), int)))
    (stage,) = compile_program(program, FpgaOptions(reuse=1, form="hybrid-rows")).pipeline.stages
    assert isinstance(stage, TransposedStage)
    assert (stage.adders, [link.delay for link in stage.links]) == (2, [4, 4, 0])
    assert stage.delays == [(4, 1), (4, 4), (5, 4)]


def test_an_unknown_form() -> None:
    with pytest.raises(TargetError, match="form=sideways"):
        FpgaOptions(form="sideways")
