"""The optimiser against a MILP solver (HiGHS) and against exhaustive search: the same optimum, never a worse one."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from lhcc.approximation.graph import Graph
from lhcc.approximation.optimise import best_free, best_shift
from lhcc.approximation.sets import DyadicSet, named_set
from lhcc.approximation.weights import candidate, nearest_power_of_two

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
SETS = ("ternary", "two", "half", "digits:2:3")


def kernels(count: int, seed: int, n: int = 9) -> np.ndarray:
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(count, n)) * rng.lognormal(-2, 1, (count, 1))
    weights[rng.random(weights.shape) < 0.1] = 0
    return weights


def assert_no_milp_solution_is_better(weights: np.ndarray, chosen: DyadicSet, levels: np.ndarray) -> None:
    """No T has <w,T> > sqrt(v <T,T>), v being our <w,T>^2 / <T,T>: so none leaves a smaller error at any alpha.

    The root is concave in s = <T,T>, so a chord lies below it. One MILP maximises <w,T> minus the chord over all T with
    s in a bracket; a bracket in which that is positive is halved, down to neighbouring integers, where the chord is
    exact.
    """
    sizes, ours = np.abs(weights), np.abs(levels) / chosen.unit
    steps = np.array([level / chosen.unit for level in chosen.levels if level >= 0])
    n, k = len(sizes), len(steps)
    energy, value = round(float(ours @ ours)), float(sizes @ ours) ** 2 / float(ours @ ours)
    gains, squares = np.kron(sizes, steps), np.tile(steps**2, n)
    one_each = LinearConstraint(np.kron(np.eye(n), np.ones(k)), 1, 1)

    def prove(low: int, high: int) -> None:
        slope = (np.sqrt(value * high) - np.sqrt(value * low)) / max(high - low, 1)
        within = LinearConstraint(squares[None], low, high)
        found = milp(
            slope * squares - gains,
            integrality=np.ones(n * k),
            bounds=Bounds(0, 1),
            constraints=[one_each, within],
            options={"mip_rel_gap": 1e-9},
        )
        if not found.success or -found.fun + slope * low - np.sqrt(value * low) <= 1e-7 * sizes.sum():
            return
        assert high - low > 1, f"T of energy {low} or {high} does better than {levels}"
        middle = (low + high) // 2
        prove(low, middle)
        prove(middle, high)

    if energy > 1:
        prove(1, energy)
    prove(energy, round(n * steps.max() ** 2))


def milp_shift(weights: np.ndarray, chosen: DyadicSet) -> float:
    """One MILP: an exponent for the kernel, a level for every weight under it."""
    levels = np.array(chosen.levels)
    top = int(np.ceil(np.log2(np.abs(weights).max() / chosen.unit))) + 1
    exponents = range(top, top - 12, -1)
    n, k, m = len(weights), len(levels), len(exponents)
    costs = np.concatenate([((weights[:, None] - 2.0**e * levels) ** 2).ravel() for e in exponents] + [np.zeros(m)])
    rows = np.zeros((m * n + 1, m * n * k + m))
    for r in range(m * n):
        rows[r, r * k : (r + 1) * k] = 1
        rows[r, m * n * k + r // n] = -1
    rows[-1, m * n * k :] = 1
    right = np.r_[np.zeros(m * n), 1]
    found = milp(
        np.minimum(costs * 1e4 / (weights @ weights), 1e5),  # HiGHS stops at an absolute gap of 1e-6
        integrality=np.ones(len(costs)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(rows, right, right),
        options={"mip_rel_gap": 1e-9},
    )
    assert found.success
    return float(costs @ np.round(found.x))


def check_free(name: str, count: int) -> None:
    chosen, weights = named_set(name), kernels(count, 1)
    for row, levels in zip(weights, best_free(weights, chosen).levels, strict=True):
        assert_no_milp_solution_is_better(row, chosen, levels)


@pytest.mark.parametrize("name", SETS)
def test_the_milp_check_notices_a_worse_answer(name: str) -> None:
    chosen, weights = named_set(name), kernels(1, 9)[0]
    worse = best_free(weights[None], chosen).levels[0].copy()
    worse[np.argmax(np.abs(weights))] = 0
    with pytest.raises(AssertionError, match="does better"):
        assert_no_milp_solution_is_better(weights, chosen, worse)


def check_shift(name: str, count: int) -> None:
    chosen, weights = named_set(name), kernels(count, 2)
    ours = best_shift(weights, chosen)
    for row, error in zip(weights, ours.error, strict=True):
        assert error == pytest.approx(milp_shift(row, chosen), rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("name", SETS)
def test_free_scale_equals_the_milp(name: str) -> None:
    check_free(name, 6)


@pytest.mark.parametrize("name", SETS)
def test_power_of_two_scale_equals_the_milp(name: str) -> None:
    check_shift(name, 6)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_free_scale_equals_the_milp_on_200_kernels(name: str) -> None:
    check_free(name, 200)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_power_of_two_scale_equals_the_milp_on_200_kernels(name: str) -> None:
    check_shift(name, 200)


@pytest.mark.parametrize("spec", ["ternary", "two", "half", "digits:2:3", "0,1,3", "-1,1", "-1,3", "0.5,-2,1", "0,-1"])
def test_exhaustive_search_finds_nothing_better(spec: str) -> None:
    chosen = named_set(spec)
    weights = kernels(40, 3, 4 if len(chosen.levels) < 9 else 3)
    weights[0], weights[1, 1:] = 0, weights[1, 0]
    every = np.array(list(itertools.product(chosen.levels, repeat=weights.shape[1])))
    tt = (every**2).sum(axis=1)
    for row, free, shift in zip(
        weights, best_free(weights, chosen).error, best_shift(weights, chosen).error, strict=True
    ):
        gains = np.divide((every @ row) ** 2, tt, out=np.zeros(len(every)), where=tt > 0)
        assert free == pytest.approx(row @ row - gains.max(), rel=1e-9, abs=1e-12)
        powers = np.exp2(np.arange(-30, 10))[:, None, None]
        if row.any():
            assert shift == pytest.approx(((row - powers * every) ** 2).sum(axis=2).min(), rel=1e-9, abs=1e-12)


def test_the_error_is_the_error_of_the_answer() -> None:
    weights = kernels(500, 4)
    for chosen in map(named_set, SETS):
        for solve in (best_free, best_shift):
            found = solve(weights, chosen)
            np.testing.assert_allclose(((weights - found.dense()) ** 2).sum(axis=1), found.error, rtol=1e-9, atol=1e-15)
            assert set(np.unique(found.levels)) <= set(chosen.levels)
            if solve is best_shift:
                assert np.all(np.frexp(found.alpha)[0] == 0.5)


@pytest.mark.parametrize("name", ["digits:2:3", "digits:2:4"])
def test_two_digits_beat_the_nearest_power_of_two(name: str) -> None:
    filters = kernels(8 * 16, 5).reshape(8, 16, 9)
    rounded = ((filters - nearest_power_of_two(filters)) ** 2).sum()
    assert candidate(filters, named_set(name), "shift", "kernel", 8).error < rounded


@pytest.mark.parametrize("network", ["vgg", "resnet_lhc_free"])
def test_trained_layers_beat_rounding_to_powers_of_two(network: str) -> None:
    """Two digits against the nearest power of two; in one set, the optimum against rounding by the largest weight."""
    graph = Graph(onnx.load(DIGITS / f"{network}.onnx"))
    for layer in graph.layers():
        filters = graph.filters(layer)
        rounded = float(((filters - nearest_power_of_two(filters)) ** 2).sum())
        assert candidate(filters, named_set("digits:2:4"), "shift", "kernel", 8).error <= rounded
        half = named_set("half")
        kernels_ = filters.reshape(-1, filters.shape[2])
        alpha = np.exp2(np.round(np.log2(np.maximum(np.abs(kernels_).max(axis=1, keepdims=True), 1e-9) / 2)))
        levels = np.array(half.levels)
        naive = levels[np.abs((kernels_ / alpha)[:, :, None] - levels).argmin(axis=2)] * alpha
        assert best_shift(kernels_, half).error.sum() <= ((kernels_ - naive) ** 2).sum()
        assert best_free(kernels_, half).error.sum() <= best_shift(kernels_, half).error.sum()


def test_exponents_stay_within_the_weight_bits() -> None:
    rng = np.random.default_rng(6)
    filters = rng.normal(size=(4, 32, 9)) * rng.lognormal(0, 3, (4, 32, 1))
    found = candidate(filters, named_set("half"), "shift", "kernel", 8)
    assert found.weight_bits <= 8
    assert found.error >= candidate(filters, named_set("half"), "shift", "kernel", 24).error


def test_zero_kernels_stay_zero_even_if_the_set_has_no_zero() -> None:
    filters = kernels(6, 7).reshape(2, 3, 9)
    filters[1, 2] = 0
    for scale in ("shift", "folded"):
        found = candidate(filters, named_set([-1, 1]), scale, "kernel" if scale == "shift" else "filter", 8)
        assert scale == "folded" or not found.filters[1, 2].any()


@pytest.mark.slow
def test_alexnet_sized_work_is_done_in_time() -> None:
    """233,760 convolution kernels in under 60 s of one core; with the 1,048,576 6x6 kernels of fc6, under 5 minutes."""
    rng = np.random.default_rng(0)
    start = time.process_time()
    for count, n in ((192, 121), (64 * 192, 25), (384 * 192 + 256 * 384 + 256 * 256, 9)):
        best_free(rng.normal(size=(count, n)), named_set("half"))
    assert time.process_time() - start < 60
    best_free(rng.normal(size=(1_048_576, 36)), named_set("half"))
    assert time.process_time() - start < 300
