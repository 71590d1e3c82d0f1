"""TVM partitions programs between circuits and the processor; together they compute the program, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from lhcc.errors import TargetError
from lhcc.integer import Builder, Input, Program, WidthError
from lhcc.ir.graph import calls, op_name
from lhcc.ir.int_calls import PACKED
from lhcc.ir.log import Log
from lhcc.passes.offload_integers import OffloadIntegers
from lhcc.targets import base
from tests.offloading import computed, executable, images_for, module_of, offload, results_of
from tests.targets_fpga.fpga_programs import folded, unrolled


def diamond() -> Program:
    """A branch of which one side leaves: what follows the join must not come before that side."""
    b = Builder()
    x = b.conv("first", b.input("image", (4, 5, 2), 6, 2), np.ones((1, 1, 2, 3), int), None, 1)
    side = b.piecewise("side", x, [10], [1, 2], [0, -10])
    other = b.conv("other", x, np.full((3, 3, 3, 3), 2), None, 1, padding=(1, 1, 1, 1))
    return b.build(b.relu("last", b.add("sum", b.requantise("back", side, 0), b.requantise("again", other, 1))))


def test_all_of_it_is_one_circuit() -> None:
    mod, item, log = offload(module_of(diamond()))
    (circuit,) = item.circuits.values()
    assert computed(circuit.ported) == [s.name for s in diamond().instructions if not isinstance(s, Input)]
    assert [op_name(value) for _, value in calls(mod)] == [PACKED]
    assert not item.integers
    assert not log.reasons


def test_what_is_refused_stays_in_between() -> None:
    mod, item, log = offload(module_of(diamond()), {"side"})
    parts = [computed(circuit.ported) for circuit in item.circuits.values()]
    assert len(parts) == 2
    assert "first" in parts[0] + parts[1]
    assert not any("first" in part and "sum" in part for part in parts)  # "side" is after one and before the other
    assert [(reason.layer, reason.text) for reason in log.reasons] == [
        ("side", "outside the circuit: 'side' is refused")
    ]
    exe = executable(mod, item)
    assert [layer.name for layer in exe.program.layers if layer.op == "int_piecewise"] == ["side"]
    x = images_for(diamond(), np.random.default_rng(0), 1)
    assert (results_of(exe, x)[0] == diamond()(x)).all()


def test_other_errors_are_told_as_they_are() -> None:
    def place(*_: object) -> None:
        raise TargetError("the device is too small", "take another")

    cpu = base.parse("cpu")
    with pytest.raises(TargetError, match="the device is too small") as caught:
        OffloadIntegers(place, place, cpu.tvm_target()).run(module_of(diamond()), Log())  # type: ignore[arg-type]
    assert caught.value.hint == "take another"


def check(make: object, seed: int) -> None:
    """A random program, some instructions refused, some of its tensors results too."""
    rng, program = np.random.default_rng(seed), make(seed)  # type: ignore[operator]
    try:
        program.check_width(32)
    except WidthError:
        return
    names = [step.name for step in program.instructions if not isinstance(step, Input)]
    refused = {name for name in names if rng.random() < rng.choice([0.1, 0.3, 0.7])}
    extra = [name for name in names if name not in program.outputs and rng.random() < 0.2]
    program = Program(program.instructions, [*program.outputs, *extra], program.layout)
    count = int(rng.integers(1, 3))
    mod, item, log = offload(module_of(program, count), refused)
    assert {reason.layer for reason in log.reasons} == refused
    x = images_for(program, rng, count)
    results = results_of(executable(mod, item), x)
    for got, want in zip(results, program.dequantise(*program.run(*program.quantise(x))), strict=True):
        assert got.dtype == want.dtype
        assert (got == want).all()


@pytest.mark.parametrize(("make", "seed"), [(unrolled, 0), (unrolled, 3), (folded, 1), (folded, 2)])
def test_random_parts(make: object, seed: int) -> None:
    check(make, seed)


@pytest.mark.slow
@pytest.mark.parametrize("make", [unrolled, folded])
@pytest.mark.parametrize("seed", range(10, 40))
def test_many_random_parts(make: object, seed: int) -> None:
    check(make, seed)
