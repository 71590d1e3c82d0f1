"""The trained digits networks, made dyadic, run through RTL image for image with the software's answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lhcc.integer import Program
from lhcc.targets.fpga import FpgaOptions, compile_program
from tests.targets_fpga.fpga_programs import LARGE

EXAMPLES = Path(__file__).parents[2] / "examples" / "digits"


def digits(name: str) -> tuple[Program, np.ndarray, np.ndarray]:
    from lhcc.approximation import approximate
    from lhcc.approximation.quantise import quantise

    stored = np.load(EXAMPLES / "held_out.npz")
    x = stored["pixels"].astype(np.float32)[:, None] / np.float32(16)
    dyadic = approximate(str(EXAMPLES / f"{name}.onnx"), set="digits:2:5")
    return quantise(dyadic, calibrate=x[::4]), x, stored["labels"]


@pytest.mark.verilator
@pytest.mark.parametrize("name", ["vgg_lhc_free"])
def test_a_few_digits_through_the_circuit(name: str) -> None:
    program, x, labels = digits(name)
    exe = compile_program(program, FpgaOptions(reuse="folded", device=LARGE))
    ints = program.quantise(x[:4])
    run, timing = exe.simulate(*ints), exe.predict(4)
    assert (run.outputs[0] == program.run(*ints)[0]).all()
    assert (run.finished, run.cycles) == (timing.finished, timing.cycles)
    assert (exe(x[:4]).argmax(1) == labels[:4]).all()


@pytest.mark.slow
@pytest.mark.verilator
@pytest.mark.parametrize("name", ["vgg_lhc_free", "vgg_lhc_rigid", "resnet_lhc_free", "resnet_lhc_rigid"])
def test_all_digits_through_the_circuit(name: str) -> None:
    program, x, labels = digits(name)
    exe = compile_program(program, FpgaOptions(reuse="folded", device=LARGE))
    ints = program.quantise(x)
    run = exe.simulate(*ints)
    want = program.run(*ints)[0]
    assert (run.outputs[0] == want).all()
    assert run.cycles == exe.predict(len(x)).cycles
    assert (want.argmax(1) == labels).mean() > 0.97
