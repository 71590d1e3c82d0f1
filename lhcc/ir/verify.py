"""Checks that a pass keeps the function: both modules run by lhcc.ir.reference on the same inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray

from lhcc.ir.graph import calls, dtype_of, op_name, shape_of
from lhcc.ir.reference import Generator, Reference

Array = NDArray[Any]
TOLERANCE = 1e-5  # 2-norm, relative: weights are rounded to float32 after folding, kernels sum in float32


class NumbersChanged(Exception):
    """A pass changed what the model computes: a bug in the pass."""


class Verifier:
    """Remembers the outputs of the module that was checked last, so that each stage runs once."""

    def __init__(
        self, mod: tvm.IRModule, generate: Generator | None = None, tolerance: float = TOLERANCE, seed: int = 0
    ) -> None:
        self.reference, self.tolerance = Reference(generate), tolerance
        self.inputs = random_inputs(mod, seed)
        self.outputs = self._run(mod)

    def can_check(self, mod: tvm.IRModule) -> bool:
        """Whether the module can be run here: encoded layers need kernels, and kernels may be another machine's."""
        launched = any("lhcc.launch" in (function.attrs or {}) for function in mod.functions.values())
        encoded = any(op_name(value) in ("lhcc.tiles", "relax.call_tir") for _, value in calls(mod))
        return not launched and (self.reference.generate is not None or not encoded)

    def check(self, mod: tvm.IRModule, pass_name: str) -> None:
        outputs = self._run(mod)
        for number, (before, after) in enumerate(zip(self.outputs, outputs, strict=True)):
            fault = difference(before, after, self.tolerance)
            if fault:
                raise NumbersChanged(f"pass {pass_name} changed output {number}: {fault}")
        self.outputs = outputs

    def _run(self, mod: tvm.IRModule) -> list[Array]:
        return self.reference.run(mod, self.inputs)


def same_numbers(before: tvm.IRModule, after: tvm.IRModule, pass_name: str) -> None:
    """Raises NumbersChanged if the two modules differ on random inputs."""
    Verifier(before).check(after, pass_name)


def random_inputs(mod: tvm.IRModule, seed: int) -> list[Array]:
    """Normally distributed floats, small integers, for the parameters of `main`."""
    rng = np.random.default_rng(seed)

    def draw(shape: Sequence[int], dtype: str) -> Array:
        if "float" in dtype:
            return rng.standard_normal(shape).astype(dtype)
        return rng.integers(0, 2 if dtype == "bool" else 5, shape).astype(dtype)

    return [draw(shape_of(param), dtype_of(param)) for param in mod["main"].params]


def difference(before: Array, after: Array, tolerance: float = TOLERANCE) -> str:
    """What is different, in words; "" if nothing beyond rounding is."""
    if before.shape != after.shape:
        return f"its shape is {after.shape}, it was {before.shape}"
    if before.dtype.kind != "f":
        wrong = int(np.count_nonzero(before != after))
        return f"{wrong} of its {before.size} elements differ" if wrong else ""
    if not np.array_equal(np.isnan(before), np.isnan(after)):
        return f"{np.isnan(after).sum()} of its elements are NaN, {np.isnan(before).sum()} were"
    finite = np.isfinite(before) & np.isfinite(after)
    if not np.array_equal(before[~finite], after[~finite], equal_nan=True):
        return "its infinite elements differ"
    scale = float(np.linalg.norm(before[finite]))
    error = float(np.linalg.norm(before[finite] - after[finite]))
    if error <= tolerance * scale or error <= TOLERANCE * TOLERANCE:
        return ""
    return f"relative error {error / scale:.1e}" if scale else f"error {error:.1e} where it was zero"
