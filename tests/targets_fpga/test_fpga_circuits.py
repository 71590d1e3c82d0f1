"""numpy program = Verilator = Icarus, to the bit, under random pauses; predicted cycles = simulated cycles, exactly."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from lhcc.integer import Builder, Program
from lhcc.targets.fpga import FpgaExecutable, FpgaOptions, compile_program
from lhcc.targets.fpga.forms import FORMS
from lhcc.targets.fpga.packing import pack
from lhcc.targets.fpga.stages import FifoStage
from lhcc.targets.fpga.testbench import run_icarus
from tests.targets_fpga.fpga_programs import LARGE, folded, unrolled

icarus = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")
verilator = pytest.mark.verilator


def examples(program: Program, images: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    types = [program.types[s.name] for s in program.inputs]
    return [rng.integers(t.low, t.high + 1, (images, *t.shape)) for t in types]


def in_icarus(exe: FpgaExecutable, folder: Path, seed: int, offer: int, accept: int) -> str:
    from lhcc.targets.fpga.testbench import write_testbench

    inputs = examples(exe.program, 3, seed)
    words = [pack(x, s) for x, s in zip(inputs, exe.pipeline.inputs, strict=True)]
    outputs = [pack(y, s) for y, s in zip(exe.program.run(*inputs), exe.pipeline.outputs, strict=True)]
    files = {**exe.files, **write_testbench(exe.pipeline, words, outputs)}
    return run_icarus(files, folder, seed + 1, offer, accept)


def in_verilator(exe: FpgaExecutable, seed: int, patterns: int) -> None:
    inputs = examples(exe.program, 3, seed)
    want = exe.program.run(*inputs)
    run = exe.simulate(*inputs)
    assert all((a == b).all() for a, b in zip(run.outputs, want, strict=True))
    timing = exe.predict(3)
    assert (run.finished, run.cycles) == (timing.finished, timing.cycles)
    rng = np.random.default_rng(seed)
    for k in range(patterns):
        offer, accept = int(rng.integers(20, 101)), int(rng.integers(20, 101))
        run = exe.simulate(*inputs, seed=k + 1, offer=offer, accept=accept)
        assert all((a == b).all() for a, b in zip(run.outputs, want, strict=True)), (offer, accept, k)


@icarus
@pytest.mark.parametrize("seed", [*range(12), 229])  # 229: rounding behind a piecewise-linear activation
def test_unrolled_in_icarus(seed: int, tmp_path: Path) -> None:
    exe = compile_program(
        unrolled(seed), FpgaOptions(reuse=1, clock=100 if seed % 2 else 300, adder_seconds=-1 if seed % 3 else 0)
    )
    offer, accept = ((100, 100), (60, 50))[seed % 2]
    assert in_icarus(exe, tmp_path, seed, offer, accept).startswith("PASS")


@icarus
@pytest.mark.parametrize("seed", range(3))
def test_folded_in_icarus(seed: int, tmp_path: Path) -> None:
    exe = compile_program(folded(seed), FpgaOptions(reuse="folded", device=LARGE))
    assert in_icarus(exe, tmp_path, seed, 70, 60).startswith("PASS")


@icarus
@pytest.mark.parametrize("size", [16, 20])
def test_large_windows_on_the_array(size: int, tmp_path: Path) -> None:
    """A global average and a flattened image: one pixel out, taps as far away as the image is large."""
    rng = np.random.default_rng(size)
    b = Builder()
    x = b.input("x", (size, size, 4), 8, 0)
    pooled = b.requantise("r", b.sum_pool("s", x, (4, 4)), 3)
    total = b.flatten("f", b.global_sum("g", pooled) if size == 16 else pooled)
    program = b.build(b.dense("d", total, rng.integers(-3, 4, (b.types[total].channels, 5))))
    assert in_icarus(
        compile_program(program, FpgaOptions(reuse="folded", device=LARGE)), tmp_path, 1, 80, 80
    ).startswith("PASS")


@verilator
@pytest.mark.parametrize("seed", [100, 101])
def test_unrolled_in_verilator(seed: int) -> None:
    in_verilator(compile_program(unrolled(seed), FpgaOptions(reuse=1)), seed, 25)


@verilator
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 340))
def test_unrolled_in_both_simulators(seed: int, tmp_path: Path) -> None:
    exe = compile_program(
        unrolled(seed), FpgaOptions(reuse=1, clock=100 if seed % 2 else 250, adder_seconds=-1 if seed % 2 else 0)
    )
    in_verilator(exe, seed, 10)
    assert in_icarus(exe, tmp_path, seed, 50, 70).startswith("PASS")


@verilator
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(400, 460))
def test_folded_in_both_simulators(seed: int, tmp_path: Path) -> None:
    exe = compile_program(folded(seed), FpgaOptions(reuse="folded", device=LARGE))
    in_verilator(exe, seed, 5)
    assert in_icarus(exe, tmp_path, seed, 70, 60).startswith("PASS")


@verilator
@pytest.mark.slow
def test_thousand_patterns_of_pauses() -> None:
    """A residual join under 1,000 random patterns: never a deadlock, never another integer."""
    exe = compile_program(residual(), FpgaOptions(reuse=1))
    in_verilator(exe, 7, 1000)


@verilator
def test_a_long_run_is_built_again_optimised(monkeypatch: pytest.MonkeyPatch) -> None:
    """And gives the same integers; few images are simulated by what is built quickly."""
    monkeypatch.setattr("lhcc.targets.fpga.verilator._QUICK", 0)
    monkeypatch.setattr("lhcc.targets.fpga.executable.LONG", 10 * 30)
    exe = compile_program(residual(), FpgaOptions(reuse=1))
    for images, optimised in ((10, False), (11, True), (1, True)):
        (x,) = examples(exe.program, images, 0)
        run = exe.simulate(x)
        assert (run.outputs[0] == exe.program.run(x)[0]).all() and run.cycles == exe.predict(images).cycles
        assert exe.simulation().optimised == optimised


def residual() -> Program:
    rng = np.random.default_rng(5)
    b = Builder()
    x = b.input("x", (6, 5, 3), 6, 0)
    y = b.requantise("r", b.conv("a", x, rng.integers(-3, 4, (3, 3, 3, 3)), padding=(1, 1, 1, 1)), 3, 0, 63)
    z = b.conv("b", y, rng.integers(-3, 4, (3, 3, 3, 3)), padding=(1, 1, 1, 1))
    return b.build(b.requantise("out", b.add("join", z, x), 2))


@pytest.mark.parametrize("size", [(4, 4), (7, 5), (8, 8)])
def test_a_padded_layer_takes_one_cycle_per_pixel(size: tuple[int, int]) -> None:
    """Images follow each other without a gap, although the window is padded."""
    for form in FORMS:
        assert np.diff(padded(size, form).predict(5).finished).tolist() == [size[0] * size[1]] * 4


@verilator
@pytest.mark.parametrize("form", ["direct", "transposed"])
def test_a_simulated_padded_layer_takes_one_cycle_per_pixel(form: str) -> None:
    exe = padded((7, 5), form)
    (x,) = examples(exe.program, 5, 0)
    run = exe.simulate(x)
    assert (run.outputs[0] == exe.program.run(x)[0]).all()
    assert np.diff(run.finished).tolist() == [35] * 4


def padded(size: tuple[int, int], form: str) -> FpgaExecutable:
    b = Builder()
    x = b.input("x", (*size, 2), 8, 0)
    y = b.conv("c", x, np.array([1, 3, -2, 5]).repeat(9).reshape(3, 3, 2, 2), padding=(1, 1, 1, 1))
    return compile_program(b.build(y), FpgaOptions(reuse=1, form=form))


def test_fifos_are_as_deep_as_the_longer_branch() -> None:
    exe = compile_program(residual(), FpgaOptions(reuse=1))
    depths = {s.name: s.depth for s in exe.pipeline.stages if isinstance(s, FifoStage)}
    assert exe.predict(4).high_water == {"join_queue0": 1, "join_queue1": depths["join_queue1"] - 1}
    assert np.diff(exe.predict(4).finished).tolist() == [30, 30, 30]


@pytest.mark.parametrize("seed", range(500, 512))
def test_netlists_compute_the_layer(seed: int) -> None:
    """The netlist of each stage, run in Python integers with its intervals checked, shared adders or not."""
    from lhcc.targets.fpga.stages import WindowStage

    program = unrolled(seed)
    rng = np.random.default_rng(seed)
    options = [FpgaOptions(reuse=1, adder_seconds=s, form="direct") for s in (-1.0, 0.0)]
    plain, shared = (compile_program(program, o) for o in options)
    for a, b in zip(plain.pipeline.stages, shared.pipeline.stages, strict=True):
        if not isinstance(a, WindowStage) or not isinstance(b, WindowStage):
            continue
        bounds = {n.data[0]: (n.low, n.high) for n in a.logic.nodes if n.kind == "input"}
        values = [int(rng.integers(*(lambda lh: (lh[0], lh[1] + 1))(bounds[k]))) for k in range(len(a.wires))]
        assert a.logic.evaluate(values) == b.logic.evaluate(values)
        assert b.logic.adders() <= a.logic.adders()


def test_a_shared_sum_may_be_halved() -> None:
    from lhcc.targets.fpga.netlist import Netlist, Term

    net = Netlist()
    x, y = net.input(0, -9, 9), net.input(1, 0, 7)
    double = net.sum(Term(net.sum(Term(x), Term(y)).node), net.sum(Term(x), Term(y, 0, -1)))  # 2 x
    net.outputs = [net.value(Term(double.node, double.shift - 1)), net.value(Term(double.node, double.shift - 1, -1))]
    for value in range(-9, 10):
        assert net.evaluate([value, 3]) == [value, -value]


@verilator
def test_waveforms_of_a_window_of_cycles(tmp_path: Path) -> None:
    exe = compile_program(unrolled(3), FpgaOptions(reuse=1))
    inputs = examples(exe.program, 1, 3)
    run = exe.simulate(*inputs, vcd=tmp_path / "wave.vcd", window=(2, 8))
    assert (run.outputs[0] == exe.program.run(*inputs)[0]).all()
    times = [line for line in (tmp_path / "wave.vcd").read_text().splitlines() if line.startswith("#")]
    assert times == [f"#{t}" for t in range(20, 80, 5)]
