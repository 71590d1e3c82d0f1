"""The choices about a layer: all are legal, all compute the same, and the estimate is cheap and sensible."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lhcc.ir.layer import ConvLayer
from lhcc.ir.reference_ops import convolve, from_blocked, max_pool, to_blocked
from lhcc.targets.base import Options
from lhcc.targets.cpu import machine as machines
from lhcc.targets.cpu.ahead import LINE_WEIGHTS, NEXT_BLOCK, PREFETCH, lines_asked, share_starts
from lhcc.targets.cpu.choice import TOGETHER, Choice
from lhcc.targets.cpu.conv import conv_kernel
from lhcc.targets.cpu.geometry import conv_lines, transposed_lines
from lhcc.targets.cpu.machine import Machine
from lhcc.targets.cpu.pack import Problem, pack, preferred
from lhcc.targets.cpu.plan import ConvSpec
from lhcc.targets.cpu.taps import best_order
from lhcc.targets.cpu.tiling import Axes, cover, divisions
from lhcc.targets.cpu.variants import ranked
from lhcc.targets.cpu.workload import workload

OPTIONS = Options()
WIDE = Machine("skylake-avx512", "", (), 16, 32)


def conv(
    inputs: int = 32,
    outputs: int = 48,
    size: int = 9,
    kernel: int = 3,
    stride: int = 1,
    density: float = 0.3,
    seed: int = 0,
) -> ConvLayer:
    """A layer whose zeros come in groups of four inputs and eight outputs."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((outputs, inputs, kernel, kernel)).astype(np.float32)
    kept = rng.random((-(-outputs // 8), -(-inputs // 4), kernel, kernel)) < density
    weight *= kept.repeat(8, 0).repeat(4, 1)[:outputs, :inputs]
    pad, out = kernel // 2, (size + 2 * (kernel // 2) - kernel) // stride + 1
    bias = rng.standard_normal(outputs).astype(np.float32)
    return ConvLayer(
        "conv", "conv2d", weight, bias, (kernel, kernel), 1, (1, inputs, size, size), (1, outputs, out, out),
        (stride, stride), (pad, pad, pad, pad), (1, 1), False, "blocked", "blocked", "relu", "",
    )  # fmt: skip


def run_choice(layer: ConvLayer, machine: Machine, choice: Choice, x: Any) -> Any:
    """The result of the compiled kernel, logical layout."""
    import tvm

    from lhcc.ir import tir_pipeline

    packed = pack(layer, machine, OPTIONS, choice)
    function = conv_kernel(ConvSpec.from_json(packed.spec)).with_attr("global_symbol", "main")
    module = tvm.tirx.build(tvm.IRModule({"main": function}), machine.tvm_target(), pipeline=tir_pipeline.NAME)
    _, outputs, height, width = layer.result
    blocks = -(-outputs // machine.block)
    out = tvm.runtime.empty((1, blocks, height, width, machine.block), "float32")
    operands = [np.ascontiguousarray(to_blocked(x, machine.block, 7.0)), *packed.constants]
    module["main"](*map(tvm.runtime.tensor, operands), out)
    return from_blocked(out.numpy(), outputs)


@pytest.mark.parametrize(
    ("layer", "seed"),
    [(conv(size=6), 0), (conv(20, 16, 7, stride=2), 1), (conv(33, 32, 5, kernel=1), 2)],
    ids=["3x3", "strided", "1x1"],
)
def test_every_choice_computes_the_convolution(layer: ConvLayer, seed: int) -> None:
    machine = machines.create({})
    found = ranked(Problem(layer, machine, OPTIONS))
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(layer.image).astype(np.float32)
    assert layer.weight is not None and layer.bias is not None
    exact = convolve(
        x.astype(np.float64), layer.weight, layer.result[2:], layer.strides, layer.padding, layer.dilation, 1
    )
    expected = np.maximum(exact + layer.bias[:, None, None], 0)
    picked = [found[0], *(found[i] for i in rng.integers(0, len(found), 2))]
    for candidate in picked:
        np.testing.assert_allclose(
            run_choice(layer, machine, candidate.choice, x), expected, rtol=1e-4, atol=1e-4, err_msg=str(candidate)
        )


def test_the_order_of_the_loops_is_data_and_prefetching_changes_no_result() -> None:
    layer, machine = conv(size=13), machines.create({})
    x = np.random.default_rng(7).standard_normal(layer.image).astype(np.float32)
    problem = Problem(layer, machine, OPTIONS)
    choice = replace(preferred(problem)[0].choice, height=1, width=3)
    orders = [replace(choice, together=together) for together in (0, *TOGETHER)]
    assert len({problem.pack(order, ()).spec for order in orders}) == 1
    asking = [replace(choice, prefetch=PREFETCH), *(replace(order, prefetch=NEXT_BLOCK) for order in orders)]
    expected, *others = (run_choice(layer, machine, c, x) for c in [*orders, *asking])
    for result in others:
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(("tile", "sharing"), [(256, 4), (256, 6), (256, 16), (32, 1), (64, 3)])
def test_tiles_that_share_weights_ask_for_all_of_the_next_block(tile: int, sharing: int) -> None:
    begin, end, following, lines = 10, 17, 24, tile // LINE_WEIGHTS
    asked, _ = lines_asked(NEXT_BLOCK, tile, sharing)
    starts = [share_starts(number, begin, end, lines, asked) for number in range(sharing)]
    found = [start + entry * asked + i for start in starts for entry in range(begin, end) for i in range(asked)]
    assert set(found) >= set(range(end * lines, following * lines))
    assert len(found) == len(set(found))
    if lines % sharing == 0:
        assert len(found) == (following - end) * lines


def test_a_pooling_choice_computes_the_maximum() -> None:
    machine = machines.create({})
    layer = ConvLayer(
        "pool", "max_pool2d", None, None, (3, 3), 24, (1, 24, 8, 8), (1, 24, 4, 4), (2, 2), (1, 1, 1, 1), (1, 1),
        False, "blocked", "blocked", "", "",
    )  # fmt: skip
    x = np.random.default_rng(5).standard_normal(layer.image).astype(np.float32)
    expected = max_pool(x, (4, 4), (3, 3), (2, 2), (1, 1), (1, 1))
    found = ranked(Problem(layer, machine, OPTIONS))
    for candidate in (found[0], found[-1]):
        np.testing.assert_array_equal(run_choice(layer, machine, candidate.choice, x), expected.astype(np.float32))


def test_the_first_choice_is_what_the_compiler_takes() -> None:
    problem = Problem(conv(), WIDE, OPTIONS)
    assert ranked(problem)[0].choice == preferred(problem)[0].choice
    assert pack(problem.layer, WIDE, OPTIONS).spec == pack(problem.layer, WIDE, OPTIONS, ranked(problem)[0].choice).spec


def test_all_choices_are_different_and_allowed() -> None:
    problem = Problem(conv(), WIDE, Options(threads=2))
    found = [candidate.choice for candidate in ranked(problem)]
    assert len(set(found)) == len(found) > 100
    assert all(problem.allows(choice) for choice in found)
    assert {choice.threads for choice in found} <= {1, 2}


@pytest.mark.parametrize(
    "change",
    [
        {"vectors": 3},
        {"depth": 32},
        {"height": 9, "width": 9},
        {"unroll": 3},
        {"threads": 2},
        {"height": 0},
        {"together": 5},
        {"prefetch": 7},
    ],
)
def test_a_choice_of_another_machine_or_layer_is_refused(change: dict[str, Any]) -> None:
    problem = Problem(conv(), WIDE, OPTIONS)
    assert not problem.allows(replace(ranked(problem)[0].choice, **change))


def test_the_dense_baseline_has_dense_choices_only() -> None:
    problem = Problem(conv(), WIDE, Options(encoding="dense"))
    assert all(candidate.choice.dense for candidate in ranked(problem))


def test_a_choice_survives_being_written_down() -> None:
    choice = ranked(Problem(conv(), WIDE, OPTIONS))[3].choice
    assert Choice.from_dict(choice.to_dict()) == choice
    for damaged in ({**choice.to_dict(), "depth": "16"}, {"depth": 16}, {**choice.to_dict(), "dense": 1}):
        with pytest.raises(ValueError, match="is not a choice"):
            Choice.from_dict(damaged)


@pytest.mark.parametrize("seed", range(12))
def test_counting_tiles_agrees_with_making_them(seed: int) -> None:
    from lhcc.encodings import tiles

    rng = np.random.default_rng(seed)
    layer = conv(int(rng.integers(1, 70)), int(rng.integers(1, 70)), 5, int(rng.choice([1, 3])), seed=seed)
    problem = Problem(layer, WIDE, OPTIONS)
    assert layer.weight is not None
    for vectors in (1, 2):
        for depth in (1, 2, 4, 8, 16):
            made = tiles.from_dense(layer.weight, 16 * vectors, depth)
            per_tap = np.bincount(made.index[:, 0], minlength=made.taps)
            np.testing.assert_array_equal(problem.counts(vectors, depth, False), per_tap)
            assert problem.counts(vectors, depth, True).sum() == made.out_blocks * made.in_blocks * made.taps


def test_more_zeros_cost_less() -> None:
    estimates = [preferred(Problem(conv(64, 64, 16, density=d), WIDE, OPTIONS))[0].cycles for d in (1.0, 0.5, 0.1)]
    assert estimates == sorted(estimates, reverse=True)
    assert estimates[2] < 0.4 * estimates[0]


@pytest.mark.parametrize("seed", range(10))
def test_divisions_count_what_the_tiles_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines = transposed_lines if seed % 3 == 2 else conv_lines
    size, out, kernel, stride = (int(rng.integers(*r)) for r in ((3, 20), (3, 20), (1, 5), (1, 4)))
    axis = tuple(lines(size, out, kernel, stride, kernel // 2, 1))
    axes = Axes(axis, axis)
    divided = divisions(axes, 12)
    for number in range(len(divided.heights)):
        height, width = int(divided.heights[number]), int(divided.widths[number])
        made = cover(axes, height, width)
        assert len(made) == divided.tiles[number]
        assert max(tile.height for tile in made) == height and max(tile.width for tile in made) == width
        assert sum(t.height * t.width for t in made) == (divided.many[number] * divided.pixels[number]).sum()
        area = sum((r[1] - r[0]) * (r[3] - r[2]) for t in made for r in t.rects if r is not None)
        assert area == (divided.many[number] @ divided.area[number]).sum()
        order = best_order(made, kernel, kernel)
        met = [[t.rects[tap] for tap in order] for t in made]
        runs = sum(rect is not None and (not i or rect != each[i - 1]) for each in met for i, rect in enumerate(each))
        assert runs == (divided.many[number] * divided.runs[number]).sum()


def test_a_network_of_large_layers_is_packed_quickly() -> None:
    layers = [conv(512, 512, 4, seed=seed, density=0.1) for seed in range(4)]
    pack(layers[0], WIDE, OPTIONS)
    started = time.process_time()
    for layer in layers:
        pack(layer, WIDE, OPTIONS)
    assert time.process_time() - started < 4 * 0.15


def test_workloads_are_told_apart_by_what_matters() -> None:
    def key(**changes: Any) -> str:
        layer: dict[str, Any] = {"inputs": 64, "outputs": 64, "density": 0.3, **changes}
        return workload(Problem(conv(**layer), WIDE, OPTIONS))

    assert key() == key(seed=7), "other zeros of the same kind"
    assert len({key(), key(size=10), key(density=0.6), key(stride=2), key(inputs=32)}) == 5
    assert workload(Problem(conv(64, 64, density=0.3), WIDE, Options(encoding="dense"))) != key()
