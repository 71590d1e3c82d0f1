"""What Yosys counts, and the area model beside it."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lhcc.errors import ToolMissing
from lhcc.integer import Builder, Program
from lhcc.targets.fpga import FpgaOptions, compile_program, yosys
from lhcc.targets.fpga.cost import memory, units_luts
from lhcc.targets.fpga.folded_units import write_units
from lhcc.targets.fpga.stages import FifoStage
from lhcc.targets.fpga.synthesis import counted, stage_cells

with_yosys = pytest.mark.skipif(shutil.which("yosys") is None, reason="Yosys is not installed")


def two_branches() -> Program:
    """A convolution beside its own input, so that one branch waits in a FIFO."""
    rng = np.random.default_rng(0)
    b = Builder()
    x = b.input("x", (2, 2, 3), 4, 0)
    y = b.conv("conv", x, rng.choice([0, 1, -1, 2], (1, 1, 3, 3)))
    return b.build(b.requantise("round", b.add("join", y, x), 1, 0, 15))


@with_yosys
def test_a_profile_counts_every_stage_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yosys, "cache_folder", lambda: tmp_path)
    exe = compile_program(two_branches(), FpgaOptions(reuse=1))
    profile = exe.profile()
    counted = profile.synthesised
    assert counted is not None
    waiting = [s for s in exe.pipeline.stages if isinstance(s, FifoStage)]
    assert waiting
    assert counted.luts == sum(layer.luts for layer in profile.layers) + sum(stage_cells(s).luts for s in waiting)
    assert f"Yosys: {counted.luts} LUTs" in str(profile)
    monkeypatch.setattr("subprocess.run", lambda *a, **k: pytest.fail("counted again"))
    assert exe.profile().synthesised == counted


def test_without_yosys_the_model_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    exe = compile_program(two_branches(), FpgaOptions(reuse=1))
    profile = exe.profile()
    assert profile.synthesised is None and all(layer.luts == layer.model_luts for layer in profile.layers)
    with pytest.raises(ToolMissing, match="Yosys"):
        exe.profile(synthesis=True)


@with_yosys
def test_modules_count_as_often_as_they_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yosys, "cache_folder", lambda: tmp_path)
    cell = "module cell(input wire a, b, output wire y); assign y = a ^ b; endmodule\n"
    top = """module top(input wire [5:0] x, output wire y); wire [2:0] z;
      cell c0(x[0], x[1], z[0]); cell c1(x[2], x[3], z[1]); cell c2(x[4], x[5], z[2]); assign y = &z; endmodule"""
    assert yosys.synthesise({"t.v": cell + top}, "top").luts == 4


@with_yosys
def test_deep_memories_are_counted_by_their_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same cells as with their contents, also where the last digit of a word has less than four bits."""
    monkeypatch.setattr(yosys, "cache_folder", lambda: tmp_path)
    words = "".join(f"{int(w):010x}\n" for w in np.random.default_rng(0).integers(0, 1 << 38, 1200))
    rom = """module rom(input wire clk, input wire [10:0] at, output reg [37:0] q);
      reg [37:0] words [0:1199]; initial $readmemh("w.mem", words); always @(posedge clk) q <= words[at]; endmodule"""
    whole, shape = (yosys.synthesise({"rom.v": rom, "w.mem": text}, "rom") for text in (words, counted(words)))
    assert whole == shape and whole.half_memories > 0
    assert counted(words[: 11 * 512]) == words[: 11 * 512]


@with_yosys
@pytest.mark.parametrize("depth", [1500, 3025, 5895, 12_000])
def test_the_model_of_deep_memories(depth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fewest block memories and, of those shapes, the one that leaves least to choose."""
    monkeypatch.setattr(yosys, "cache_folder", lambda: tmp_path)
    address = (depth - 1).bit_length()
    rom = f"""module rom(input wire clk, input wire [{address - 1}:0] at, output reg [71:0] q);
      reg [71:0] words [0:{depth - 1}]; initial $readmemh("w.mem", words); always @(posedge clk) q <= words[at];
      endmodule"""
    cells, model = yosys.synthesise({"rom.v": rom, "w.mem": counted(("0" * 18 + "\n") * 600)}, "rom"), memory(72, depth)
    assert (model.luts, model.half_memories) == (cells.luts, cells.half_memories)


@with_yosys
@pytest.mark.slow
@pytest.mark.parametrize(("weight", "activation", "signed", "accumulator"),
                         [(8, 8, False, 21), (4, 8, False, 12), (7, 8, False, 20), (5, 6, True, 16)])  # fmt: skip
def test_the_model_of_the_array_s_arithmetic(weight: int, activation: int, signed: bool, accumulator: int) -> None:
    code: Any = SimpleNamespace(
        weight_bits=weight, activation_bits=activation, activations_signed=signed, accumulator_bits=accumulator
    )
    cells = yosys.synthesise({"u.v": write_units("units", code)}, "units")
    assert abs(units_luts(activation, weight, accumulator) / cells.luts - 1) < 0.08
