"""Random layers of every class, in order and with their channels shuffled, are recognised; random zeros are not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lhcc.errors import ModelError
from lhcc.inspection import Kind, recognise
from lhcc.inspection.shapes import RIGID_SHAPES, free_mask, rigid_mask, shape_codes, shape_of_code

Weight = NDArray[np.float64]
SEEDS = range(8)


def weight_of(mask: NDArray[np.generic], random: np.random.Generator) -> Weight:
    return random.standard_normal(mask.shape) * np.asarray(mask)


def shuffled(weight: Weight, random: np.random.Generator) -> Weight:
    return weight[random.permutation(weight.shape[0])][:, random.permutation(weight.shape[1])]


def free_layer(random: np.random.Generator, density: float, kernel: int = 3) -> tuple[Weight, int, int]:
    """An LHC layer whose last blocks may be cropped."""
    group_in, group_out = (int(size) for size in random.choice([4, 8, 16, 32], 2))
    fewest = 3 if kernel > 1 else 6  # a few blocks of 1 x 1 kernels can be equal by chance
    blocks_in, blocks_out = (int(n) for n in random.integers(fewest, fewest + 4, 2))
    inputs = group_in * blocks_in - int(random.integers(0, group_in // 2))
    outputs = group_out * blocks_out - int(random.integers(0, group_out // 2))
    effects = density - random.random((blocks_out, blocks_in, kernel, kernel))
    return weight_of(free_mask(effects, group_in, group_out, inputs, outputs), random), group_in, group_out


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("density", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_free_shapes(seed: int, density: float, kernel: int) -> None:
    random = np.random.default_rng(seed)
    weight, group_in, group_out = free_layer(random, max(density, 0.3) if kernel == 1 else density, kernel)
    found = recognise(weight)
    assert found.kind == Kind.LHC_FREE
    assert found.block == (group_in, group_out)
    assert found.density == np.mean(weight != 0)
    assert not found.permuted
    assert found.shapes.total() == weight.shape[0] * weight.shape[1]


@pytest.mark.parametrize("seed", SEEDS)
def test_free_shapes_behind_a_permutation(seed: int) -> None:
    random = np.random.default_rng(seed)
    effects = 0.3 - random.random((4, 5, 3, 3))
    weight = shuffled(weight_of(free_mask(effects, 8, 16, 40, 64), random), random)
    found = recognise(weight)
    assert (found.kind, found.block, found.permuted) == (Kind.LHC_FREE, (8, 16), True)
    blocks = (weight[found.rows][:, found.cols] != 0).reshape(4, 16, 5, 8, 3, 3)
    assert np.array_equal(blocks.any(axis=(1, 3)), blocks.all(axis=(1, 3)))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("hidden", [False, True])
def test_rigid_shapes(seed: int, hidden: bool) -> None:
    random = np.random.default_rng(seed)
    weight = weight_of(rigid_mask(random.random((15, 4, 4)), 16, 8, 64, 30), random)
    found = recognise(shuffled(weight, random) if hidden else weight)
    assert found.kind == Kind.LHC_RIGID
    assert found.permuted == hidden
    if not hidden:
        assert found.block == (16, 8)


def test_the_default_blocks_of_the_paper() -> None:
    random = np.random.default_rng(0)
    effects = 0.1 - random.random((32, 16, 3, 3))
    found = recognise(weight_of(free_mask(effects, 32, 16, 512, 512), random))
    assert (found.kind, found.block) == (Kind.LHC_FREE, (32, 16))


@pytest.mark.parametrize("seed", SEEDS)
def test_accidental_zeros_do_not_hide_the_blocks(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = free_mask(0.2 - random.random((8, 4, 3, 3)), 16, 16, 64, 128)
    weight = weight_of(mask, random)
    weight[random.random(weight.shape) < 0.02] = 0
    found = recognise(weight)
    assert (found.kind, found.block) == (Kind.LHC_FREE, (16, 16))
    assert found.stray_zeros == np.sum(mask != 0) - np.sum(weight != 0) > 0


def het_mask(outputs: int, inputs: int, period: int, kernel: int) -> NDArray[np.bool_]:
    mask = np.zeros((outputs, inputs, kernel, kernel), bool)
    mask[:, :, kernel // 2, kernel // 2] = True
    for output in range(outputs):
        mask[output, output % period :: period] = True
    return mask


@pytest.mark.parametrize("period", [2, 4, 8])
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("kernel", [3, 5])
def test_het_conv(period: int, hidden: bool, kernel: int) -> None:
    random = np.random.default_rng(period)
    weight = weight_of(het_mask(48, 64, period, kernel), random)
    if hidden:
        weight = shuffled(weight, random)
    found = recognise(weight)
    assert (found.kind, found.period) == (Kind.HETCONV, period)
    assert found.block == (64 // period, 48 // period)
    ordered = (weight[found.rows][:, found.cols] != 0).reshape(period, 48 // period, period, 64 // period, kernel**2)
    assert np.array_equal(ordered.any(axis=(1, 3)), ordered.all(axis=(1, 3)))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("taps", "patterns"), [(4, 8), (4, 4), (2, 6), (5, 1)])
def test_pattern_pruned(seed: int, taps: int, patterns: int) -> None:
    random = np.random.default_rng(seed)
    drawn: set[tuple[int, ...]] = set()
    while len(drawn) < patterns:
        drawn.add(tuple(sorted(random.choice(9, taps, replace=False).tolist())))
    shapes = np.zeros((patterns, 9), bool)
    for row, kept in zip(shapes, sorted(drawn), strict=True):
        row[list(kept)] = True
    mask = shapes[random.integers(0, patterns, (32, 24))].reshape(32, 24, 3, 3)
    found = recognise(weight_of(mask, random))
    assert found.kind == Kind.PATTERN
    assert set(found.shapes) == set(shape_codes(shapes.reshape(-1, 3, 3)).tolist())
    assert f"of {taps} of 9 taps" in found.description


def test_pattern_and_connectivity_pruned() -> None:
    random = np.random.default_rng(3)
    shapes = np.array([[1, 1, 1, 1, 0, 0, 0, 0, 0], [0, 1, 0, 1, 1, 1, 0, 0, 0], [0] * 9], bool)
    mask = shapes[random.integers(0, 3, (32, 32))].reshape(32, 32, 3, 3)
    found = recognise(weight_of(mask, random))
    assert found.kind == Kind.PATTERN
    assert "some kernels empty" in found.description


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kernel", [1, 3])
def test_pruned_filters_and_channels(seed: int, kernel: int) -> None:
    random = np.random.default_rng(seed)
    filters = random.standard_normal((40, 24, kernel, kernel))
    gone = random.choice(40, 15, replace=False)
    filters[gone] = 0
    found = recognise(filters)
    assert (found.kind, found.constant_outputs, found.unused_inputs) == (Kind.FILTERS, 15, 0)
    assert set(found.rows[-15:]) == set(gone)
    found = recognise(filters.swapaxes(0, 1))
    assert (found.kind, found.constant_outputs, found.unused_inputs) == (Kind.CHANNELS, 0, 15)
    filters[:, random.choice(24, 12, replace=False)] = 0
    assert recognise(filters).description.endswith("filters and 12 of 24 input channels empty, the rest dense")


@pytest.mark.parametrize("groups", [2, 4, 8])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("hidden", [False, True])
def test_groups_stored_dense(groups: int, kernel: int, hidden: bool) -> None:
    random = np.random.default_rng(groups)
    weight = np.zeros((32, 64, kernel, kernel))
    for group in range(groups):
        rows = slice(group * 32 // groups, (group + 1) * 32 // groups)
        cols = slice(group * 64 // groups, (group + 1) * 64 // groups)
        weight[rows, cols] = random.standard_normal(weight[rows, cols].shape)
    found = recognise(shuffled(weight, random) if hidden else weight)
    assert found.kind == (Kind.BLOCK_DIAGONAL if hidden else Kind.GROUPED)
    assert (found.groups, found.block, found.permuted) == (groups, (64 // groups, 32 // groups), hidden)


def test_unequal_hidden_groups_beside_dead_channels() -> None:
    random = np.random.default_rng(1)
    weight = np.zeros((40, 40))
    weight[:10, :20] = random.standard_normal((10, 20))
    weight[10:34, 20:36] = random.standard_normal((24, 16))
    mixed = shuffled(weight, random)
    found = recognise(mixed)
    assert (found.kind, found.groups) == (Kind.BLOCK_DIAGONAL, 2)
    assert (found.constant_outputs, found.unused_inputs) == (6, 4)
    ordered = mixed[found.rows][:, found.cols]
    assert not ordered[34:].any()
    assert not ordered[:, 36:].any()


@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_stored_dense(multiplier: int) -> None:
    random = np.random.default_rng(0)
    mask = np.repeat(np.eye(32), multiplier, axis=0)[:, :, None, None] * np.ones((3, 3))
    found = recognise(weight_of(mask, random))
    assert (found.kind, found.groups) == (Kind.DEPTHWISE, 32)


def test_declared_groups() -> None:
    random = np.random.default_rng(0)
    assert recognise(random.standard_normal((8, 1, 3, 3)), groups=8).kind == Kind.DEPTHWISE
    assert recognise(random.standard_normal((8, 4, 3, 3)), groups=2).kind == Kind.GROUPED


@pytest.mark.parametrize("seed", range(30))
def test_random_zeros_have_no_structure(seed: int) -> None:
    random = np.random.default_rng(seed)
    outputs, inputs = (int(n) for n in random.integers(2, 65, 2))
    kernel = int(random.choice([1, 3, 5]))
    shape = (outputs, inputs, kernel, kernel)
    for density in (0.02, 0.1, 0.3, 0.5, 0.8):
        weight = weight_of(random.random(shape) < density, random)
        found = recognise(weight)
        assert found.kind in (Kind.UNSTRUCTURED, Kind.EMPTY) or not (weight == 0).any() or found.density >= 0.9, found
        assert recognise(weight + (weight == 0)).kind == Kind.DENSE


def test_unstructured_matmul() -> None:
    random = np.random.default_rng(0)
    found = recognise(weight_of(random.random((256, 128)) < 0.1, random))
    assert (found.kind, found.kernel) == (Kind.UNSTRUCTURED, (1, 1))


def test_a_few_stray_zeros_leave_a_weight_dense() -> None:
    weight = np.random.default_rng(0).standard_normal((16, 16, 3, 3))
    weight[3, 4, 1, 1] = 0
    found = recognise(weight)
    assert (found.kind, found.description) == (Kind.DENSE, "1 stray zeros, no structure")


def test_empty_and_impossible_weights() -> None:
    assert recognise(np.zeros((4, 4))).kind == Kind.EMPTY
    with pytest.raises(ModelError, match=r"a weight of shape \(3,\)"):
        recognise(np.zeros(3))


def test_codes_and_shapes_are_each_other() -> None:
    codes = shape_codes(RIGID_SHAPES > 0)
    assert len(set(codes.tolist())) == 15
    for code, shape in zip(codes, RIGID_SHAPES, strict=True):
        assert np.array_equal(shape_of_code(int(code), 3, 3), shape > 0)
    wide = np.random.default_rng(0).random((2, 11, 11)) < 0.5
    for code, kept in zip(shape_codes(wide), wide, strict=True):
        assert np.array_equal(shape_of_code(int(code), 11, 11), kept)


@pytest.mark.parametrize("seed", SEEDS)
def test_accidental_zeros_and_a_permutation_together(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = free_mask(0.2 - random.random((8, 8, 3, 3)), 16, 16, 128, 128)
    weight = shuffled(weight_of(mask * (random.random(mask.shape) < 0.97), random), random)
    found = recognise(weight)
    assert (found.kind, found.block, found.permuted) == (Kind.LHC_FREE, (16, 16), True)
    assert found.stray_zeros == np.count_nonzero(mask) - np.count_nonzero(weight)


def test_shapes_and_dead_channels_together() -> None:
    random = np.random.default_rng(0)
    weight = weight_of(free_mask(0.3 - random.random((4, 4, 3, 3)), 16, 16, 64, 64), random)
    weight[random.choice(64, 9, replace=False)] = 0
    found = recognise(weight)
    assert found.kind == Kind.LHC_FREE
    assert found.constant_outputs == 9
    assert not weight[found.rows[-9:]].any()
