"""Reordered channels reach the tiles that the kept weights permit, wherever maps meet, and change no number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from tvm import relax

from benchmarks import masks
from lhcc.ir import dialect
from lhcc.ir.graph import calls, op_name, shape_of
from lhcc.ir.grouping import alike_order
from lhcc.ir.log import Log
from lhcc.ir.tile_cost import kept_tiles, least_cost, tile_cost
from lhcc.ir.verify import same_numbers
from lhcc.passes.permute_channels import PermuteChannels
from tests.passes.modules import (
    Graph,
    activation,
    const,
    conv,
    dense,
    dialect_form,
    normal,
    run,
    weight_of,
)
from tests.passes.random_graphs import RandomGraph

PASS = PermuteChannels()
SAME = (1, 1, 1, 1)
RNG = np.random.default_rng(0)


def cost(mod: tvm.IRModule, name: str) -> float:
    return tile_cost(weight_of(mod, name))


def shuffled(pattern: NDArray[Any]) -> NDArray[Any]:
    rng = np.random.default_rng(1)
    outputs, inputs = pattern.shape[:2]
    return np.asarray(pattern[rng.permutation(outputs)][:, rng.permutation(inputs)], np.float32)


def block_diagonal(count: int, size: int, kernel: int) -> NDArray[Any]:
    return np.kron(np.eye(count), np.ones((size, size)))[:, :, None, None] * np.ones((1, 1, kernel, kernel))


def chain(*patterns: NDArray[Any]) -> tvm.IRModule:
    """Dense, then layers with these zeros, then dense."""
    g = Graph(x=(1, 8, 4, 4))
    x = g("first", conv(g.x, normal(patterns[0].shape[1], 8, 3, 3), padding=SAME, activation="relu"))
    for number, pattern in enumerate(patterns):
        kernel = pattern.shape[2]
        weight = normal(*pattern.shape, seed=number) * pattern.astype(np.float32)
        x = g(f"layer{number}", conv(x, weight, normal(len(weight)), padding=(kernel // 2,) * 4, activation="relu"))
    return g.returns(g("last", conv(x, normal(8, shape_of(x)[1], 1, 1))))


@pytest.mark.parametrize("period", [2, 4, 8])
def test_hetconv_reaches_its_ideal(period: int) -> None:
    """1/P of the inputs keep the whole kernel, the others one tap of nine."""
    after, notes = run(PASS, chain(masks.hetconv((256, 256, 3, 3), period)))
    ideal = (1 / period + (1 - 1 / period) / 9) * 256 * 256 * 9
    assert cost(after, "layer0") <= 1.02 * ideal
    assert any(note.startswith("layer0: channels reordered: 599,040 ->") for note in notes)


def test_two_hetconvs_in_a_row_share_the_order_between_them() -> None:
    pattern = masks.hetconv((64, 64, 3, 3), 4)
    after, _ = run(PASS, chain(pattern, pattern))
    assert cost(after, "layer0") == cost(after, "layer1") <= 1.02 * least_cost(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        shuffled(block_diagonal(4, 32, 1)),
        shuffled(block_diagonal(8, 16, 3)),
        shuffled(masks.lhc(RNG, (128, 128, 3, 3), 0.15)),
        masks.patterns(RNG, (128, 64, 3, 3), per="filter", count=4),
    ],
    ids=["block diagonal 1x1", "block diagonal 3x3", "learned shapes, shuffled", "four patterns of filters"],
)
def test_scattered_structure_is_gathered(pattern: NDArray[Any]) -> None:
    mod = chain(pattern)
    after, _ = run(PASS, mod)
    assert cost(after, "layer0") <= 1.25 * least_cost(pattern) < 0.7 * cost(mod, "layer0")


def test_what_is_in_order_or_dense_stays_as_it_is() -> None:
    for pattern in (np.ones((32, 32, 3, 3)), masks.lhc(RNG, (64, 64, 3, 3), 0.2), block_diagonal(4, 16, 1)):
        mod, log = chain(pattern), Log()
        assert PASS.run(mod, log) is mod and not log.reasons


def test_random_zeros_are_left_alone_with_the_figures() -> None:
    mod, log = chain(masks.unstructured(RNG, (64, 64, 3, 3), 0.5)), Log()
    assert PASS.run(mod, log) is mod
    (text,) = [reason.text for reason in log.reasons]
    assert text.startswith("37,440 multiply-adds per pixel in kept tiles, ")
    assert text.endswith(" at the very least, but no order that was tried keeps fewer than 97% of them")


def scattered(outputs: int, inputs: int, kernel: int = 1, seed: int = 0) -> NDArray[np.float32]:
    """Four hidden blocks: output o reads the inputs of equal remainder."""
    alike = np.arange(outputs)[:, None] % 4 == np.arange(inputs) % 4
    return np.asarray(normal(outputs, inputs, kernel, kernel, seed=seed) * alike[:, :, None, None], np.float32)


def ends(mod: tvm.IRModule) -> list[str]:
    """The maps that are reordered on their way in or out."""
    return [name for name, value in calls(mod) if op_name(value) == "lhcc.reorder"]


def test_inputs_and_outputs_of_the_network_are_reordered_on_the_way() -> None:
    g = Graph(x=(3, 64, 4, 4))
    mod = g.returns(g("only", conv(g.x, scattered(64, 64))))
    after, _ = run(PASS, mod)
    assert cost(after, "only") <= 1.02 * least_cost(weight_of(mod, "only")) < 0.3 * cost(mod, "only")
    assert ends(after) == ["x", "only"]


def test_a_residual_ties_the_order_of_an_input_to_that_of_every_output() -> None:
    g = Graph(x=(2, 64, 4, 4))
    a = g("a", conv(g.x, scattered(64, 64, 3), normal(64), [g.x], padding=SAME))
    b = g("b", activation(g("sum", relax.op.add(a, g.x)), "relu"))
    mod = g.returns(a, b, a, g.x)
    after, _ = run(PASS, mod)
    assert cost(after, "a") < 0.3 * cost(mod, "a")
    assert ends(after) == ["x", "a", "b"], "once each, and the input is returned as it came"
    mod = g.returns(a, g("foreign", relax.op.nn.softmax(b, axis=1)))
    assert PASS.run(mod, Log()) is mod, "a foreign operator reads the same channels"


@pytest.mark.parametrize(("few", "moved"), [(1, False), (8, True)])
def test_an_end_moves_only_for_more_than_moving_it_costs(few: int, moved: bool) -> None:
    """Every second output lacks `few` of the inputs: grouped, half the blocks of outputs save so much per pixel."""
    pattern = np.ones((64, 32, 1, 1), np.float32)
    pattern[::2, :few] = 0
    g = Graph(x=(1, 32, 4, 4))
    mod = g.returns(g("only", conv(g.x, normal(64, 32, 1, 1) * pattern)))
    after, _ = run(PermuteChannels(gain=0.0), mod)
    assert ends(after) == ["only"] * moved and (after is mod) == (not moved)


def test_an_image_of_one_pixel_keeps_its_order() -> None:
    """No layout is converted there that could take the order along."""
    g = Graph(x=(1, 64, 1, 1))
    mod, log = g.returns(g("only", conv(g.x, scattered(64, 64)))), Log()
    assert PASS.run(mod, log) is mod
    assert log.reasons[0].text.endswith(
        "but its inputs stay in order (an input of the network), its outputs stay in order (an output of the network)"
    )


def test_only_the_outputs_of_a_layer_that_reads_the_input_move() -> None:
    g = Graph(x=(1, 8, 4, 4))
    pattern = (np.arange(64)[:, None, None, None] % 4 == np.arange(8)[None, :, None, None] % 4) * np.ones((1, 1, 3, 3))
    first = g("first", conv(g.x, normal(64, 8, 3, 3) * pattern.astype(np.float32), padding=SAME))
    mod = g.returns(g("last", conv(first, normal(8, 64, 1, 1))))
    after, _ = run(PASS, mod)
    assert cost(after, "first") < 0.4 * cost(mod, "first")
    assert sorted(map(bytes, weight_of(mod, "first"))) == sorted(map(bytes, weight_of(after, "first")))


def test_the_order_follows_pooling_residual_gate_depthwise_and_flattening() -> None:
    g = Graph(x=(2, 4, 6, 6))
    a = g("a", conv(g.x, normal(64, 4, 1, 1), activation="relu"))
    inner = g("inner", conv(a, scattered(64, 64), activation="relu"))
    joined = g("joined", conv(inner, scattered(64, 64, 3), normal(64), [a], padding=SAME, activation="relu"))
    depthwise = g("depthwise", conv(joined, normal(64, 1, 3, 3), normal(64), groups=64, padding=SAME))
    mean = g("mean", dialect.call("global_average", [depthwise], (2, 64, 1, 1)))
    gate = g("gate", conv(mean, scattered(64, 64), activation="sigmoid"))
    gated = g("gated", relax.op.multiply(depthwise, gate))
    shifted = g("act", activation(g("shifted", relax.op.add(gated, const(normal(64, 1, 1)))), "relu"))
    pool = {"window": (2, 2), "strides": (2, 2), "padding": (0, 0, 0, 0), "dilation": (1, 1)}
    pooled = g("pooled", dialect.call("pool2d", [shifted], (2, 64, 3, 3), **pool))
    flat = g("flat", relax.op.reshape(pooled, (2, 64 * 9)))
    mod = g.returns(g("fc", dense(flat, normal(10, 64 * 9), normal(10))))
    after, _ = run(PASS, mod)
    for name in ("inner", "joined", "gate"):
        assert cost(after, name) <= 1.02 * least_cost(weight_of(mod, name)) < cost(mod, name)


def test_operands_of_a_concat_move_each_in_its_own_part() -> None:
    g = Graph(x=(1, 4, 4, 4))
    a, b = (g(name, conv(g.x, normal(32, 4, 1, 1), activation="relu")) for name in "ab")
    both = g("both", relax.op.concat([a, b], axis=1))
    mod = g.returns(g("last", conv(g("mixed", conv(both, scattered(64, 64))), normal(8, 64, 1, 1))))
    after, _ = run(PASS, mod)
    assert cost(after, "mixed") < 0.6 * cost(mod, "mixed")


def test_a_foreign_operator_keeps_the_order_of_what_it_reads() -> None:
    g = Graph(x=(1, 4, 4, 4))
    a = g("a", conv(g.x, normal(64, 4, 1, 1)))
    b = g("b", conv(g("soft", relax.op.nn.softmax(a, axis=1)), scattered(64, 64)))
    mod = g.returns(g("c", conv(b, normal(4, 64, 1, 1))))
    after, _ = run(PASS, mod)
    np.testing.assert_array_equal(weight_of(after, "a"), weight_of(mod, "a"))
    assert not np.array_equal(weight_of(after, "b"), weight_of(mod, "b"))


@pytest.mark.parametrize("seed", range(20))
def test_random_networks_compute_the_same_in_any_order(seed: int) -> None:
    """Every segment in a random order: what the search may choose at the utmost."""
    from lhcc.ir.channels import Channels
    from lhcc.ir.rebuild import rebuild
    from lhcc.ir.seams import with_seams

    mod = with_seams(dialect_form(RandomGraph(1000 + seed).module(14)))
    channels = Channels(mod, open_seams=True)
    place, rng = np.arange(channels.count), np.random.default_rng(seed)
    for segment in channels.segments():
        place[segment] = rng.permutation(segment)
    takes = {var: channels.taken(var, place) for var in channels.ids}
    after = rebuild(mod, Log(), "any order", takes, {})
    relax.analysis.well_formed(after)
    same_numbers(mod, after, "any order")


def test_costs_count_tiles() -> None:
    pattern = np.zeros((32, 32, 1, 2), np.float32)
    pattern[0, 0, 0, 0] = pattern[0, 5, 0, 0] = pattern[20, 31, 0, 1] = 1
    assert kept_tiles(pattern).tolist() == [3, 3, 2]
    assert tile_cost(pattern) == 16 * 3 * 1.25
    assert least_cost(pattern) == 16 * 3 * 1.25
    assert kept_tiles(np.zeros((0, 3, 1, 1))).tolist() == [0, 0, 0]


@pytest.mark.parametrize("seed", range(10))
def test_no_order_beats_the_least_cost(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pattern = rng.random(rng.integers(1, 70, 2).tolist() + [1, 3]) < rng.random()
    pattern &= rng.random((len(pattern), 1, 1, 3)) < 0.7
    for _ in range(5):
        ordered = pattern[rng.permutation(len(pattern))][:, rng.permutation(pattern.shape[1])]
        assert tile_cost(ordered) >= least_cost(pattern) == least_cost(ordered)
    assert tile_cost(np.ones(pattern.shape)) == least_cost(np.ones(pattern.shape))


def test_like_channels_stand_together() -> None:
    rows = np.zeros((12, 6), bool)
    rows[np.arange(12), np.arange(12) % 3] = True
    order = alike_order([(rows, 1.0)], 4)
    assert [sorted(set(order[start : start + 4] % 3)) for start in (0, 4, 8)] in (
        [[a], [b], [c]] for a, b, c in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    )
    assert sorted(order) == list(range(12))
