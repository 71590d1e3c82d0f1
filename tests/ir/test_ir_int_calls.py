"""Integer programs as Relax calls and back: nothing is lost, whole or in parts."""

from __future__ import annotations

import numpy as np
import pytest

from lhcc.integer import Builder, Program
from lhcc.integer.ported import Port
from lhcc.integer.storage import to_parts
from lhcc.ir import int_calls
from tests.offloading import module_of
from tests.targets_fpga.fpga_programs import folded, unrolled


def assert_same(one: Program, other: Program) -> None:
    (text, arrays), (text_again, arrays_again) = to_parts(one), to_parts(other)
    assert text == text_again
    for key, array in arrays.items():
        again = arrays_again[key]
        assert (array.dtype, array.shape) == (again.dtype, again.shape)
        assert array.tobytes() == again.tobytes()


@pytest.mark.parametrize("make", [unrolled, folded])
@pytest.mark.parametrize("seed", range(12))
def test_there_and_back(make: object, seed: int) -> None:
    program = make(seed)  # type: ignore[operator]
    ported = int_calls.read(module_of(program, images=3)["main"])
    assert_same(ported.program, program)
    assert ported.inputs == tuple(Port(step.name, False) for step in program.inputs)
    assert ported.outputs == tuple(Port(name, False) for name in program.outputs)


def test_every_kind_of_value() -> None:
    """Absent bounds, scales that no power of two is, one per channel, 62 bits, no breakpoint, channels last."""
    b = Builder("NHWC")
    x = b.input('image "1"\n/é', (3, 2, 2), 8, 3, signed=True)
    y = b.requantise("r", x, np.array([-3, 2]), None, 17, np.array([3, (1 << 31) - 1]), np.array([0.1, 1 / 3]))
    z = b.requantise("wide", b.clip("c", x, None, 100), -31, None, None, 1 << 22)
    w = b.piecewise("line", x, [], [3], [-7])
    program = b.build(y, z, w, x)
    ported = int_calls.read(module_of(program)["main"])
    assert [port.name for port in ported.outputs] == [y, z, w, x]
    assert_same(ported.program, b.build(y, z, w))
