"""The adder solver: exact for every matrix, within the depth asked for, the same in C and in Python."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lhcc.encodings.adders import AdderError, SumNetwork, native, signed_digits, solve
from lhcc.encodings.adders.search import Options, Search
from lhcc.errors import LhccError


def random_matrix(rng: np.random.Generator, most: int = 12, bits: int = 8) -> np.ndarray:
    shape = tuple(rng.integers(1, most + 1, 2))
    low = -(2 ** (bits - 1)) + 1
    kept = rng.random(shape) < rng.choice([0.1, 0.5, 1.0])
    return np.where(kept, rng.integers(low, -low + 1, shape), 0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([0, 20]))
@settings(max_examples=80, deadline=None)
def test_the_graph_computes_the_matrix(seed: int, bits: int, rounds: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = random_matrix(rng, bits=bits)
    graph = solve(matrix, seconds=0, seed=seed, rounds=rounds, peers=False)
    assert graph.computes(matrix)
    x = rng.integers(-128, 128, (5, len(matrix)))
    np.testing.assert_array_equal(graph(x), x @ matrix)
    plain = sum(max(sum(len(signed_digits(int(w))) for w in column) - 1, 0) for column in matrix.T)
    assert graph.adders <= plain


@pytest.mark.parametrize("seed", range(6))
def test_depth_caps_hold_and_the_least_depth_is_reachable(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = random_matrix(rng, 10) | 1
    least = SumNetwork.from_matrix(matrix).depth
    counts = []
    for cap in (least, least + 1, least + 3):
        graph = solve(matrix, seconds=0, max_depth=cap, rounds=60, peers=False)
        assert graph.computes(matrix)
        assert graph.depth <= cap
        counts.append(graph.adders)
    assert counts[0] >= counts[-1]
    with pytest.raises(AdderError, match=f"needs {least} adder levels; max_depth={least - 1}"):
        solve(matrix, seconds=0, max_depth=least - 1)


@pytest.mark.parametrize("cap_above_least", [None, 0, 1])
@pytest.mark.parametrize("seed", range(4))
def test_c_and_python_give_the_same_network(seed: int, cap_above_least: int | None) -> None:
    if native.library() is None:
        pytest.skip("no C compiler")
    network = SumNetwork.from_matrix(random_matrix(np.random.default_rng(seed), 9))
    cap = 0 if cap_above_least is None else max(network.depth + cap_above_least, 1)
    options = Options(rounds=120, seed=seed + 11, cap=cap, accept=(65536, 9000, 1000))
    assert native.search(network, options) == Search(network, options).run()


def test_without_a_compiler_the_result_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = random_matrix(np.random.default_rng(3), 8)
    fast = solve(matrix, seconds=0, rounds=80, peers=False)
    monkeypatch.setattr(native, "search", lambda *_: None)
    assert solve(matrix, seconds=0, rounds=80, peers=False) == fast


def test_a_broken_compiler_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/false")
    assert native._build(Path(native.__file__).with_name("search.c"), tmp_path / "cache") is None
    assert native._build(tmp_path / "absent.c", tmp_path / "cache") is None


def test_transposing_a_network_transposes_its_matrix() -> None:
    from lhcc.encodings.adders import AdderGraph

    matrix = np.random.default_rng(8).integers(-30, 31, (7, 5)) | 1
    network = Search(SumNetwork.from_matrix(matrix), Options(rounds=40)).run()
    turned = network.transposed()
    assert AdderGraph.from_network(turned).computes(matrix.T)
    assert AdderGraph.from_network(turned).adders == network.adders + 5 - 7


def test_sharing_pays_on_an_lhc_block() -> None:
    """Weights of two digits, 32 inputs, 16 outputs: greedy sharing halves the additions, the search takes 5 % more."""
    rng = np.random.default_rng(1)
    matrix = rng.choice([-1, 1], (32, 16)) * rng.choice([1, 2, 4, 8, 16], (32, 16))
    matrix += rng.choice([-1, 1], (32, 16)) * rng.choice([1, 2, 4, 8, 16], (32, 16))
    digits = sum(len(signed_digits(int(w))) for w in matrix.ravel())
    greedy = solve(matrix, seconds=0, peers=False)
    better = solve(matrix, seconds=0, rounds=3000 if native.library() else 60, peers=False)
    assert greedy.adders < 0.6 * (digits - 16)
    if native.library():
        assert better.adders < 0.97 * greedy.adders


def test_outputs_as_differences_of_others() -> None:
    from lhcc.encodings.adders import AdderGraph
    from lhcc.encodings.adders.differences import difference_network

    rng = np.random.default_rng(9)
    base = rng.integers(-60, 61, 12)
    matrix = np.stack(
        [base, 4 * base + np.eye(12, dtype=int)[3], -base, base * 2 - np.eye(12, dtype=int)[7] * 8], axis=1
    )
    network = difference_network(matrix)
    assert network is not None
    assert AdderGraph.from_network(network).computes(matrix)
    assert network.adders <= sum(len(signed_digits(int(w))) for w in base) - 1 + 2
    random = random_matrix(rng, 10)
    if random.shape[1] > 1:
        assert AdderGraph.from_network(difference_network(random) or network).computes(random)


def test_the_time_budget_is_kept() -> None:
    matrix = np.random.default_rng(2).integers(-127, 128, (24, 12))
    native.library()
    start = time.process_time()  # others may hold up this process
    solve(matrix, seconds=0.5, peers=False)
    assert time.process_time() - start < 2.0


def test_dyadic_fractions_are_exact() -> None:
    matrix = np.random.default_rng(4).choice([-2, -1, -0.5, 0, 0.5, 1, 2], (9, 6))
    graph = solve(matrix, seconds=0)
    assert graph.computes(matrix)
    x = np.arange(18).reshape(2, 9)
    np.testing.assert_array_equal(graph(x), x @ matrix)


def test_large_matrices_are_shared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    solver = importlib.import_module("lhcc.encodings.adders.solve")
    matrix = np.random.default_rng(6).integers(-15, 16, (24, 20))
    whole = solve(matrix, seconds=0, peers=False)
    monkeypatch.setattr(solver, "_PAIRS", 2000)
    for cap in (None, 9):
        graph = solve(matrix, seconds=0, max_depth=cap, rounds=50, peers=False)
        assert graph.computes(matrix)
        assert graph.depth <= (cap or 99)
        assert graph.adders < 1.3 * whole.adders


@pytest.mark.parametrize("matrix", [np.zeros((3, 2), int), np.eye(4, dtype=int) * 8, -np.eye(3, dtype=int)])
def test_nothing_to_add(matrix: np.ndarray) -> None:
    graph = solve(matrix, seconds=0, rounds=5)
    assert (graph.adders, graph.depth) == (0, 0)
    assert graph.computes(matrix)


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        (np.ones(3), "shape \\(inputs, outputs\\), not \\(3,\\)"),
        (np.array([[1.0, np.nan]]), "Inf or NaN"),
        (np.array([[0.1]]), "not dyadic"),
        (np.full((4, 1), 2**59), "beyond 60 bits"),
    ],
)
def test_mistakes_are_named(matrix: np.ndarray, says: str) -> None:
    with pytest.raises(LhccError, match=says):
        solve(matrix)


@pytest.mark.skipif(importlib.util.find_spec("alkaid") is None, reason="alkaid is not installed")
def test_fewer_adders_than_alkaid_at_its_own_depth() -> None:
    cmvm_solve = importlib.import_module("alkaid.cmvm").cmvm_solve
    from lhcc.encodings.adders import AdderGraph
    from lhcc.encodings.adders.peer import network_of

    rng = np.random.default_rng(5)
    matrix = rng.integers(-31, 32, (16, 10))
    for slack in (-1, 0):
        stages = cmvm_solve(matrix.astype(np.float32), method0="mc", hard_dc=slack)
        theirs = AdderGraph.from_network(network_of(stages, 16))
        assert theirs.computes(matrix)
        ours = solve(matrix, seconds=0, max_depth=theirs.depth, rounds=4000 if native.library() else 100, peers=False)
        assert ours.adders <= theirs.adders
        assert ours.depth <= theirs.depth
