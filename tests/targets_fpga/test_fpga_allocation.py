"""Designs of several parts: where a network is cut, how arrays share the work, what a budget and a pace lead to."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

from lhcc.cli import main
from lhcc.cli.parser import parser, target_with_limits
from lhcc.errors import TargetError
from lhcc.integer import Builder, Program
from lhcc.targets.fpga import FpgaExecutable, FpgaOptions, compile_program
from lhcc.targets.fpga.allocation import Candidate, _even
from lhcc.targets.fpga.arithmetic import constant_matrix, shared_matrix
from lhcc.targets.fpga.cost import Area, logic_luts
from lhcc.targets.fpga.cycles import predict
from lhcc.targets.fpga.design import assemble
from lhcc.targets.fpga.estimate import unrolled_luts
from lhcc.targets.fpga.segments import cut, joined
from lhcc.targets.fpga.stage_cycles import ArrayUnit
from lhcc.targets.fpga.stages import ArrayStage, WindowStage
from tests.targets_fpga.fpga_programs import LARGE, folded
from tests.targets_fpga.test_fpga_circuits import examples, in_icarus, in_verilator

icarus = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")


def network(seed: int, plan: tuple[int, ...] = (16, 40, 20), size: int = 4, residual: bool = False) -> Program:
    """Convolutions, half of whose blocks are kept, perhaps a residual block, a maximum, a head."""
    rng = np.random.default_rng(seed)
    b = Builder()
    x = b.input("image", (size, size + 1, 3), 8, 4)
    for k, outputs in enumerate(plan):
        x = _layer(rng, b, x, outputs, f"{k}")
    if residual:
        y = _layer(rng, b, x, plan[-1], "a")
        z = b.conv("cb", y, rng.choice([1, -1, 2], (1, 1, plan[-1], plan[-1])))
        z = b.requantise("rb", z, 4, -128, 127, scale=b.types[x].scale)
        x = b.requantise("join", b.add("add", z, x), 1, 0, 255)
    x = b.flatten("flat", b.global_sum("sum", b.max_pool("pool", x, (2, 2))))
    return b.build(b.dense("head", x, rng.choice([1, -1, 2, 3], (b.types[x].channels, 10))))


def _layer(rng: np.random.Generator, b: Builder, x: str, outputs: int, name: str) -> str:
    channels = b.types[x].channels
    mask = rng.random((3, 3, -(-channels // 32), -(-outputs // 16))) < 0.5
    w = rng.choice([1, -1, 2, 3, -4, 6], (3, 3, channels, outputs))
    w = w * mask.repeat(32, 2).repeat(16, 3)[:, :, :channels, :outputs]
    y = b.conv(f"c{name}", x, w, rng.integers(-99, 99, outputs), 2, padding=(1, 1, 1, 1))
    return b.requantise(f"r{name}", b.relu(f"relu{name}", y), 5, 0, 255)


def test_a_last_flatten_belongs_to_the_layer_before_it() -> None:
    b = Builder()
    x = b.conv("conv", b.input("image", (4, 5, 3), 8, 4), np.ones((1, 1, 3, 16), np.int64))
    pieces = cut(b.build(b.flatten("flat", b.global_sum("sum", b.requantise("r", x, 2, 0, 255)))))
    assert len(pieces) == 2
    for piece in pieces:
        assert piece.folding is not None and piece.folding.jobs


def arrays(exe: FpgaExecutable) -> list[ArrayStage]:
    return [s for s in exe.pipeline.stages if isinstance(s, ArrayStage)]


def chain(program: Program, ends: tuple[int, ...]) -> FpgaExecutable:
    """The design of arrays up to these pieces; what follows them is unrolled."""
    options = FpgaOptions()
    pipeline = assemble(program, cut(program), Candidate(0, ends, 0, Area()), options)
    exe = FpgaExecutable(program, pipeline, options)
    assert len(arrays(exe)) == len(ends)
    return exe


@pytest.mark.parametrize("residual", [False, True])
def test_pieces_are_the_program(residual: bool) -> None:
    program = network(1, residual=residual)
    pieces = cut(program)
    ends = [p.program.outputs[0] for p in pieces]
    assert ends == ["r0", "r1", *(["r2", "pool"] if residual else ["pool"]), "sum", "head"]  # no cut inside the block
    (x,) = examples(program, 2, 0)
    (want,) = program.run(x)
    for piece in pieces:
        (x,) = piece.program.run(x)
    assert (x == want).all()
    whole = joined(pieces)
    assert [s.name for s in whole.instructions] == [s.name for s in program.instructions]


@pytest.mark.parametrize("seed", range(20))
def test_arrays_share_the_work_as_evenly_as_can_be(seed: int) -> None:
    periods = np.random.default_rng(seed).integers(1, 50, 6).tolist()
    for cuts in _even(periods):
        ours = max(sum(periods[a:b]) for a, b in itertools.pairwise((0, *cuts)))
        inner = itertools.combinations(range(1, 6), len(cuts) - 1)
        best = min(max(sum(periods[a:b]) for a, b in itertools.pairwise((0, *c, 6))) for c in inner)
        assert (cuts[-1], ours) == (6, best)


@icarus
@pytest.mark.parametrize("ends", [(1, 4), pytest.param((2, 3), marks=pytest.mark.slow)])
def test_chains_of_arrays_in_icarus(ends: tuple[int, ...], tmp_path: Path) -> None:
    """(1, 4): an array sends two and a half blocks to the next; (2, 3): a single pixel, and an unrolled head."""
    assert in_icarus(chain(network(0, (40, 16), 3), ends), tmp_path, 1, 80, 80).startswith("PASS")


@pytest.mark.verilator
@pytest.mark.slow
@pytest.mark.parametrize("ends", [(2, 7), (1, 3, 6), (1, 2, 4, 7)])
def test_chains_of_arrays_in_verilator(ends: tuple[int, ...]) -> None:
    """The same integers under random pauses, the cycles predicted, and the pace of the busiest array."""
    exe = chain(network(len(ends), (32, 48, 48, 40), 6, residual=True), ends)
    in_verilator(exe, len(ends), 5)
    assert exe.predict(6).interval == max(s.folding.period for s in arrays(exe))


@pytest.mark.parametrize("ends", [(2, 7), (1, 3, 6), (1, 2, 4, 7)])
def test_cycles_that_are_not_played_change_nothing(ends: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """The cycle model leaps over what arrays compute by themselves; an offer just made is met in the next cycle."""
    exe = chain(network(len(ends), (32, 48, 48, 40), 6, residual=True), ends)
    leapt = exe.predict(3)
    monkeypatch.setattr(ArrayUnit, "leap", lambda self: 0)
    assert predict(exe.pipeline, 3) == leapt


@pytest.mark.verilator
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(600, 606))
def test_random_programs_in_parts(seed: int) -> None:
    exe = compile_program(folded(seed), FpgaOptions(device=LARGE, max_luts=90_000))
    in_verilator(exe, seed, 3)


def test_more_room_is_more_speed() -> None:
    program = network(0)
    paces = []
    for luts in (40_000, 80_000, 120_000):
        exe = compile_program(program, FpgaOptions(device=LARGE, max_luts=luts))
        assert exe.area.luts <= luts
        paces.append(exe.predict(4).interval)
    assert paces == sorted(paces, reverse=True) and paces[-1] < paces[0]


def test_an_unrolled_design_that_fits_is_found() -> None:
    """Counted without shared sums it would seem not to fit, and an array would take its place."""
    program = network(0)
    exe = compile_program(program, FpgaOptions(max_luts=50_000))
    assert not arrays(exe) and exe.area.luts < 50_000 < unrolled_luts(program, constant_matrix)


@pytest.mark.parametrize("seed", range(3))
def test_the_estimate_of_unrolled_layers(seed: int) -> None:
    """Weights are sampled where there are many, and groups have sums of their own."""
    rng = np.random.default_rng(seed)
    b = Builder()
    x = b.input("image", (4, 4, 16), 8, 4)
    groups, outputs = ((1, 48), (2, 72), (16, 16))[seed]
    x = b.conv("conv", x, rng.choice([0, 0, 1, -2, 3, 5, -7], (3, 3, 16 // groups, outputs)), groups=groups)
    program = b.build(x)
    for seconds, multiply in ((-1.0, constant_matrix), (0.0, shared_matrix(0.0))):
        options = FpgaOptions(reuse=1, max_luts=10**6, adder_seconds=seconds, form="direct")
        (stage,) = compile_program(program, options).pipeline.stages
        assert isinstance(stage, WindowStage)
        assert abs(unrolled_luts(program, multiply) / logic_luts(stage.logic) - 1) < 0.15


def test_a_pace_is_reached_with_as_little_as_can_be() -> None:
    program = network(0)
    fast, slow = (compile_program(program, FpgaOptions(device=LARGE, target_fps=f)) for f in (200_000, 60_000))
    assert fast.predict(4).interval <= 500 < slow.predict(4).interval <= 1666
    assert slow.area.luts < fast.area.luts
    reused = compile_program(program, FpgaOptions(device=LARGE, reuse=25))  # 25 cycles for each of the 20 pixels
    assert reused.pipeline.stages == fast.pipeline.stages or reused.predict(4).interval <= 500


def test_a_pace_out_of_reach_names_the_best_design_and_the_layer() -> None:
    message = r"10 cycles an image are asked for, and the best design takes .* images/s\); '[a-z0-9]+' .* cycles"
    with pytest.raises(TargetError, match=message):
        compile_program(network(0), FpgaOptions(max_luts=60_000, device=LARGE, target_fps=10_000_000))


@icarus
def test_the_input_may_join_a_later_layer(tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", (3, 4, 16), 8, 0)
    w = np.random.default_rng(0).choice([0, 1, -2], (1, 1, 16, 16))
    y = b.requantise("y", b.conv("c", x, w), 4, -128, 127, scale=b.types[x].scale)
    exe = compile_program(b.build(b.requantise("r", b.add("a", x, b.relu("p", y)), 1)), FpgaOptions(reuse="folded"))
    assert in_icarus(exe, tmp_path, 2, 70, 70).startswith("PASS")


def test_limits_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    model = str(Path(__file__).parents[2] / "examples" / "digits" / "vgg_lhc_rigid.onnx")
    assert main(["compile", model, "--target", "fpga:clock=50", "--max-luts", "9", "-o", "x.lhcc"]) == 2
    assert "lhcc approximate" in capsys.readouterr().err  # float weights are told first
    assert main(["compile", model, "--max-bram", "9", "-o", "x.lhcc"]) == 2
    assert "'max_bram'" in capsys.readouterr().err  # no other target has block memories
    options = parser().parse_args(["why", model, "--target", "fpga", "--target-fps", "100", "--max-luts", "9"])
    assert target_with_limits(options) == "fpga:max_luts=9,target_fps=100.0"
