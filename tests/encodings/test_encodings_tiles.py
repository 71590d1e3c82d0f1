"""The tiles encoding is lossless for every shape, block size and zero pattern."""

from __future__ import annotations

import numpy as np
import pytest

from lhcc.encodings import tiles


@pytest.mark.parametrize("seed", range(40))
def test_round_trip_is_exact_on_random_shapes_and_patterns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 40)), int(rng.integers(1, 40)), int(rng.integers(1, 6)), int(rng.integers(1, 6)))
    weight = rng.standard_normal(shape).astype(np.float32)
    weight *= rng.random(shape) < rng.choice([0.0, 0.02, 0.3, 1.0])
    encoded = tiles.from_dense(weight, int(rng.choice([4, 8, 16, 32])), int(rng.choice([1, 2, 8, 16])))
    np.testing.assert_array_equal(encoded.to_dense(), weight)
    assert len(encoded.index) == tiles.counts(weight, encoded.lanes, encoded.depth).sum()


def test_starts_delimit_the_tiles_of_each_output_block_and_tap() -> None:
    weight = np.zeros((32, 16, 1, 2), np.float32)
    weight[0, 0, 0, 1] = weight[20, 3, 0, 0] = weight[20, 9, 0, 0] = 1.0
    encoded = tiles.from_dense(weight, lanes=16, depth=8)
    assert encoded.starts().tolist() == [[0, 0, 1], [1, 3, 3]]


def test_density_counts_blocks() -> None:
    weight = np.zeros((32, 32, 3, 3), np.float32)
    weight[:16, :, 1, 1] = 1.0
    assert tiles.from_dense(weight, 16, 16).density == pytest.approx(1 / 18)
    assert tiles.from_dense(weight, 16, 16, keep_all=True).density == 1.0


def test_nan_is_kept() -> None:
    weight = np.zeros((16, 16, 1, 1), np.float32)
    weight[3, 3] = np.nan
    assert len(tiles.from_dense(weight, 16, 16).index) == 1


def test_ungroup_places_groups_on_the_diagonal() -> None:
    weight = np.arange(1, 9, dtype=np.float32).reshape(4, 2, 1, 1)
    full = tiles.ungroup(weight, groups=2)[:, :, 0, 0]
    np.testing.assert_array_equal(full, [[1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 5, 6], [0, 0, 7, 8]])
