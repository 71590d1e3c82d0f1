"""The elements and patterns encodings are lossless, and their tables delimit what they say."""

from __future__ import annotations

import numpy as np
import pytest

from lhcc.encodings import elements, patterns


@pytest.mark.parametrize("seed", range(30))
def test_elements_round_trip_is_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, [20, 20, 5, 5]))
    weight = rng.standard_normal(shape).astype(np.float32) * (rng.random(shape) < rng.choice([0.0, 0.1, 1.0]))
    encoded = elements.from_dense(weight, group=int(rng.integers(1, 8)))
    np.testing.assert_array_equal(encoded.to_dense(), weight)
    starts = encoded.starts()
    for group in range(encoded.groups):
        for output in range(shape[0]):
            inside = slice(starts[group, output], starts[group, output + 1])
            assert (encoded.index[inside, 0] == output).all()
            assert (encoded.index[inside, 1] // encoded.group == group).all()
    assert starts[-1, -1] == len(encoded.values)


def _pattern_pruned(rng: np.random.Generator, outputs: int, inputs: int, count: int) -> np.ndarray:
    weight = rng.uniform(0.5, 1.0, (outputs, inputs, 9)).astype(np.float32)
    kept = [rng.permutation(9)[: int(rng.integers(1, 6))] for _ in range(count)]
    for kernel in weight.reshape(-1, 9):
        keep = np.zeros(9, bool)
        keep[kept[rng.integers(count)]] = rng.random() < 0.9  # some kernels are empty
        kernel[~keep] = 0
    return weight.reshape(outputs, inputs, 3, 3)


@pytest.mark.parametrize("seed", range(20))
def test_patterns_round_trip_is_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = _pattern_pruned(rng, int(rng.integers(1, 20)), int(rng.integers(1, 20)), int(rng.integers(1, 9)))
    encoded = patterns.from_dense(weight, block=int(rng.integers(1, 12)), equal=bool(seed % 2))
    if not weight.any():
        assert encoded is None
        return
    assert encoded is not None
    np.testing.assert_array_equal(encoded.to_dense(), weight)
    kernels, values = encoded.starts()
    assert kernels[-1] == len(encoded.index)
    assert values[-1] == len(encoded.values)


def test_equal_runs_are_equally_long_until_nothing_is_left() -> None:
    rng = np.random.default_rng(5)
    weight = _pattern_pruned(rng, 64, 24, 4)
    encoded = patterns.from_dense(weight, block=16, equal=True)
    assert encoded is not None and encoded.parts == 4
    np.testing.assert_array_equal(encoded.to_dense(), weight)
    kernels, _ = encoded.starts()
    runs = np.diff(kernels).reshape(encoded.parts, 24, len(encoded.taps))
    for pattern in range(len(encoded.taps)):
        length = runs[0, :, pattern].max()
        before = runs[:, :, pattern].cumsum(axis=0) - runs[:, :, pattern]
        left = runs[:, :, pattern].sum(axis=0) - before
        np.testing.assert_array_equal(runs[:-1, :, pattern], np.minimum(length, left[:-1]))
        assert abs(length - runs[:, :, pattern].sum() / (24 * encoded.parts)) <= 0.5
    for begin, end in zip(kernels[:-1], kernels[1:], strict=True):
        assert (np.diff(encoded.index[begin:end, 0]) > 0).all()


def test_too_many_patterns_are_declined() -> None:
    weight = np.random.default_rng(0).standard_normal((16, 16, 3, 3)).astype(np.float32)
    weight *= np.random.default_rng(1).random(weight.shape) < 0.5
    assert patterns.from_dense(weight, block=16) is None
