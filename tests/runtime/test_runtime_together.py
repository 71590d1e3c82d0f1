"""Neighbouring kernels called by one function: the same answers, however shared, lone and foreign ones mix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from lhcc.runtime.build import build_program
from lhcc.runtime.executable import Executable
from lhcc.runtime.library import import_tvm
from lhcc.runtime.steps import read
from lhcc.runtime.together import together

SIZE = 96


def reverse_kernel(threads: int, forward: int, rest: int = 0) -> Any:
    """target[SIZE - 1 - i] = source[i] + forward * i: what one thread writes, another one reads next.  The last `rest`
    elements are not shared."""
    from tvm import tirx as T

    from lhcc.ir.tir import flat, function, get, integer, loop, put, shared, tensor, var

    source, target = (tensor(name, [var(f"{name}_size")]) for name in ("source", "target"))
    (x, see_x), (y, see_y) = flat(source, "x"), flat(target, "y")

    def element(i: Any) -> Any:
        return put(y, get(x, i) + T.Cast("float32", i * integer(forward)), integer(SIZE - 1) - i)

    i, j = var("i"), var("j")
    work = [shared(i, SIZE - rest, threads, [element(i)])]
    if rest:
        work.append(loop(j, rest, [element(integer(SIZE - rest) + j)]))
    return function([source, target], [see_x, see_y, *work])


@dataclass
class Chain:
    """A letter a kernel: `s` is shared by the threads, `o` made by one of them, `r` shared but for a
    rest, `f` foreign: TVM's own."""

    letters: str
    threads: int

    def lowered(self) -> Any:
        import_tvm()
        from tvm import relax, te

        from tests.runtime.conftest import FakeLowered, record

        builder = relax.BlockBuilder()
        kind = relax.TensorType((SIZE,), "float32")
        x = relax.Var("x", kind)
        kernels = {
            "s": reverse_kernel(self.threads, 1),
            "o": reverse_kernel(1, 2),
            "r": reverse_kernel(self.threads, 3, 5),
        }
        with builder.function("main", [x]):
            with builder.dataflow():
                value = x
                for letter in self.letters:
                    if letter == "f":
                        value = builder.emit_te(lambda a: te.compute((SIZE,), lambda i: a[i] * 2), value)
                    else:
                        held = builder.add_func(kernels[letter], letter)
                        value = builder.emit(relax.call_tir(held, [value], kind))
                value = builder.emit_output(value)
            builder.emit_func_output(value)
        module = builder.get()
        return FakeLowered(module, [record(step.name, step.kernel) for step in read(module["main"]).steps])

    def expected(self, x: Any) -> Any:
        for letter in self.letters:
            x = x * 2 if letter == "f" else (x + {"s": 1, "o": 2, "r": 3}[letter] * np.arange(SIZE))[::-1]
        return x


def whole_numbers() -> Any:
    """Sums of these are exact."""
    return np.random.default_rng(5).integers(-8, 8, SIZE).astype(np.float32)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    "letters", ["s", "ss", "ossoosso", "oooo", "fssf", "sfoosfs", "s" * 40, "fff", "srs", "rr", "orsso"]
)
def test_answers_do_not_change(letters: str, threads: int, host_target: Any) -> None:
    chain = Chain(letters, threads)
    executable = Executable(build_program(chain.lowered(), host_target, threads=threads))
    x = whole_numbers()
    expected = chain.expected(x).astype(np.float32)
    for _ in range(100):
        np.testing.assert_array_equal(executable(x), expected)


def test_kernels_that_are_ours_become_one_call_and_others_stay(host_target: Any) -> None:
    lowered = Chain("sosffosfs", 2).lowered()
    steps = read(lowered.mod["main"]).steps
    own = {gv.name_hint: function for gv, function in lowered.mod.functions.items() if gv.name_hint != "main"}
    joined = together(steps, own, 2)
    foreign = next(step.kernel for step in steps if step.kernel not in ("s", "o"))
    assert [step.kernel for step in joined.steps] == ["calls_0", foreign, foreign, "calls_3", foreign, "s"]
    assert set(joined.kernels) == {*own, "s_part", "o_part", "calls_0", "calls_3"}
    assert joined.kernels[foreign] is own[foreign]
    assert joined.steps[0].args == (steps[0].args[0], steps[0].args[1], steps[1].args[1], steps[2].args[1])


def test_kernels_that_threads_share_in_part_only_stay(host_target: Any) -> None:
    lowered = Chain("ssrso", 2).lowered()
    own = {gv.name_hint: function for gv, function in lowered.mod.functions.items() if gv.name_hint != "main"}
    joined = together(read(lowered.mod["main"]).steps, own, 2)
    assert [step.kernel for step in joined.steps] == ["calls_0", "r", "calls_2"]
    assert joined.kernels["r"] is own["r"]


def test_one_thread_needs_no_parts() -> None:
    lowered = Chain("soso", 1).lowered()
    own = {gv.name_hint: function for gv, function in lowered.mod.functions.items() if gv.name_hint != "main"}
    assert set(together(read(lowered.mod["main"]).steps, own, 1).kernels) == {"s", "o", "calls_0"}


def test_fewer_threads_than_parts_still_do_them_all(host_target: Any) -> None:
    chain = Chain("sosso", 3)
    program = build_program(chain.lowered(), host_target, threads=3)
    x = whole_numbers()
    for threads in (1, 2, 3):
        np.testing.assert_array_equal(Executable(program, threads)(x), chain.expected(x).astype(np.float32))


@pytest.mark.parametrize("threads", [1, 2])
def test_calls_one_by_one_give_the_same_answer(threads: int, host_target: Any) -> None:
    chain = Chain("sfoss", threads)
    executable = Executable(build_program(chain.lowered(), host_target, threads=threads))
    x = whole_numbers()
    executable(x)
    calls = executable.calls(x)
    assert len(calls) == len(chain.letters)
    for kernel, args in calls:
        kernel(*args)
    np.testing.assert_array_equal(np.from_dlpack(calls[-1][1][-1]), chain.expected(x).astype(np.float32))
