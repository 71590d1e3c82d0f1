"""Channels that nobody reads or that are constant go, in every form in which maps meet; what stays says why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from lhcc.ir import dialect
from lhcc.ir.graph import shape_of
from lhcc.ir.log import Log
from lhcc.ir.verify import same_numbers
from lhcc.passes.remove_dead_channels import RemoveDeadChannels
from tests.passes.modules import (
    Graph,
    activation,
    attrs_of,
    bias_of,
    const,
    conv,
    dense,
    dialect_form,
    layer,
    normal,
    operators,
    run,
    weight_of,
)
from tests.passes.random_graphs import RandomGraph

PASS = RemoveDeadChannels()
SAME = (1, 1, 1, 1)


def dead(weight: Any, outputs: Any = (), inputs: Any = ()) -> Any:
    """`weight` without its listed rows and columns."""
    weight = weight.copy()
    weight[list(outputs)] = 0
    weight[:, list(inputs)] = 0
    return weight


def global_average(x: Any) -> Any:
    return dialect.call("global_average", [x], (*shape_of(x)[:2], 1, 1))


def max_pool(x: Any) -> Any:
    images, channels, height, width = shape_of(x)
    attrs = {"window": (2, 2), "strides": (2, 2), "padding": (0, 0, 0, 0), "dilation": (1, 1)}
    return dialect.call("pool2d", [x], (images, channels, height // 2, width // 2), **attrs)


def test_unused_channels_go_with_the_rows_that_make_them() -> None:
    g = Graph(x=(2, 3, 6, 6))
    a = g("a", conv(g.x, normal(8, 3, 3, 3), normal(8), padding=SAME, activation="relu"))
    b = g("b", conv(a, dead(normal(5, 8, 3, 3), inputs=[1, 6]), padding=SAME))
    after, notes = run(PASS, g.returns(b))
    rest = [0, 2, 3, 4, 5, 7]
    np.testing.assert_array_equal(weight_of(after, "a"), normal(8, 3, 3, 3)[rest])
    np.testing.assert_array_equal(bias_of(after, "a"), normal(8)[rest])
    np.testing.assert_array_equal(weight_of(after, "b"), normal(5, 8, 3, 3)[:, rest])
    assert notes == ["a: 2 of 8 outputs are not needed: removed"]


def test_a_module_without_dead_channels_is_returned_as_it_is() -> None:
    g = Graph(x=(1, 3, 6, 6))
    a = g("a", conv(g.x, normal(8, 3, 1, 1)))
    mod = g.returns(g("b", conv(a, normal(4, 8, 1, 1))))
    assert PASS.run(mod, Log()) is mod


@pytest.mark.parametrize("function", ["", "relu", "sigmoid", "leaky 0.1"])
def test_a_constant_channel_is_folded_into_the_bias_of_an_unpadded_reader(function: str) -> None:
    g = Graph(x=(2, 3, 6, 6))
    bias = np.linspace(-1, 1, 8).astype(np.float32)
    a = g("a", conv(g.x, dead(normal(8, 3, 3, 3), outputs=[0, 7]), bias, padding=SAME, activation=function))
    b = g("b", conv(a, normal(4, 8, 3, 3), normal(4), strides=(2, 2)))
    after, notes = run(PASS, g.returns(b))
    assert weight_of(after, "a").shape == (6, 3, 3, 3) and weight_of(after, "b").shape == (4, 6, 3, 3)
    assert not np.array_equal(bias_of(after, "b"), normal(4)) and "a: 2 of 8 outputs" in notes[0]


def test_a_padded_reader_keeps_a_constant_other_than_zero_and_says_so() -> None:
    g = Graph(x=(1, 3, 6, 6))
    bias = np.array([2, -1, 0, 1], np.float32)
    a = g("a", conv(g.x, dead(normal(4, 3, 1, 1), outputs=[0, 1]), bias, activation="relu"))
    after, notes = run(PASS, g.returns(g("b", conv(a, normal(4, 4, 3, 3), padding=SAME))))
    assert weight_of(after, "a").shape[0] == 3  # act(-1) is zero like the padding, act(2) is not
    assert "b: 1 of its inputs are constant, but not zero like the padding: kept" in notes
    assert "a: 1 of 4 outputs are constant but stay: a padded layer reads them" in notes


def test_constants_pass_through_pooling_average_and_flattening_to_a_matrix() -> None:
    g = Graph(x=(2, 3, 8, 8))
    a = g("a", conv(g.x, dead(normal(6, 3, 3, 3), outputs=[2]), normal(6, seed=4) + 3, padding=SAME))
    pooled = g("pool", max_pool(a))
    flat = g("flat", relax.op.reshape(pooled, (2, 6 * 16)))
    after, _ = run(PASS, g.returns(g("fc", dense(flat, normal(10, 96)))))
    assert weight_of(after, "a").shape[0] == 5 and weight_of(after, "fc").shape == (10, 80)
    g = Graph(x=(2, 3, 8, 8))
    a = g("a", conv(g.x, dead(normal(6, 3, 3, 3), outputs=[2]), normal(6, seed=4) + 3, padding=SAME))
    flat = g("flat", relax.op.reshape(g("mean", global_average(a)), (2, 6)))
    after, _ = run(PASS, g.returns(g("fc", dense(flat, normal(10, 6)))))
    assert weight_of(after, "a").shape[0] == 5 and weight_of(after, "fc").shape == (10, 5)


def test_a_row_of_constants_is_constant_and_folds_on() -> None:
    g = Graph(x=(1, 3, 4, 4))
    a = g("a", conv(g.x, dead(normal(4, 3, 1, 1), outputs=[0, 1]), normal(4)))
    middle = normal(4, 4, 1, 1)
    middle[3, 2:] = 0  # reads constants only
    b = g("b", conv(a, middle, normal(4)))
    after, _ = run(PASS, g.returns(g("c", conv(b, normal(4, 4, 1, 1)))))
    assert [weight_of(after, name).shape[:2] for name in "abc"] == [(2, 3), (3, 2), (4, 3)]


def residual_block(first_dead: list[int], second_dead: list[int], unread: list[int]) -> tvm.IRModule:
    g = Graph(x=(1, 3, 4, 4))
    a = g("a", conv(g.x, dead(normal(8, 3, 1, 1), outputs=first_dead), activation="relu"))
    inner = g("inner", conv(a, normal(8, 8, 3, 3), padding=SAME, activation="relu"))
    joined = g("joined", conv(inner, dead(normal(8, 8, 1, 1), outputs=second_dead), residual=[a]))
    return g.returns(g("head", conv(joined, dead(normal(4, 8, 1, 1), inputs=unread))))


def test_a_residual_channel_goes_only_if_it_is_dead_on_both_sides() -> None:
    after, _ = run(PASS, residual_block([2], [2], []))
    assert [weight_of(after, name).shape[:2] for name in ("a", "joined", "head")] == [(7, 3), (7, 8), (4, 7)]
    for one_sided in (residual_block([2], [], []), residual_block([], [2], []), residual_block([], [], [2])):
        after, notes = run(PASS, one_sided)
        assert weight_of(after, "joined").shape[0] == 8
    after, notes = run(PASS, residual_block([2], [], []))
    assert notes == ["a: 1 of 8 outputs are constant but stay: they are joined with channels that vary"]


def test_depthwise_gate_concat_and_constant_operands_follow() -> None:
    g = Graph(x=(2, 3, 6, 6))
    a = g("a", conv(g.x, dead(normal(6, 3, 1, 1), outputs=[0]), activation="relu"))
    d = g("d", conv(a, normal(6, 1, 3, 3), groups=6, padding=SAME))
    gate = g("gate", conv(g("mean", global_average(d)), dead(normal(6, 6, 1, 1), inputs=[5]), activation="sigmoid"))
    gated = g("gated", relax.op.multiply(d, gate))
    scaled = g("scaled", relax.op.multiply(gated, const(normal(6, 1, 1))))
    scaled = g("act", activation(scaled, "relu"))
    both = g("both", relax.op.concat([scaled, g("e", conv(g.x, normal(2, 3, 1, 1)))], axis=1))
    head = dead(normal(4, 8, 1, 1), inputs=[5])
    after, _ = run(PASS, g.returns(g("head", conv(both, head))))
    assert attrs_of(after, "d")["groups"] == 4 and weight_of(after, "gate").shape[:2] == (4, 4)
    assert weight_of(after, "head").shape[1] == 6 and shape_of(layer(after, "both").args[0].fields[0])[1] == 4


def test_outputs_inputs_groups_and_foreign_operators_keep_their_channels() -> None:
    g = Graph(x=(1, 4, 6, 6))
    a = g("a", conv(g.x, dead(normal(4, 4, 1, 1), outputs=[1], inputs=[0]), normal(4)))
    after, notes = run(PASS, g.returns(a))
    assert weight_of(after, "a").shape == (4, 4, 1, 1)
    assert notes == ["a: 1 of 4 outputs are constant but stay: an output of the network"]
    g = Graph(x=(1, 4, 6, 6))
    a = g("a", conv(g.x, dead(normal(4, 4, 1, 1), outputs=[1]), normal(4)))
    grouped = g("b", conv(a, normal(8, 2, 1, 1), groups=2))
    after, notes = run(PASS, g.returns(g("c", relax.op.nn.softmax(grouped, axis=1))))
    assert weight_of(after, "a").shape == (4, 4, 1, 1)
    assert "stay: 'b' (lhcc.conv2d) needs every channel in its place" in notes[0]


def test_a_transposed_convolution_folds_zeros_only() -> None:
    g = Graph(x=(1, 3, 4, 4))
    a = g("a", conv(g.x, dead(normal(4, 3, 1, 1), outputs=[0, 1]), np.array([1, 0, 0, 0], np.float32)))
    b = g("b", conv(a, normal(4, 4, 2, 2), strides=(2, 2), transposed=1))
    after, _ = run(PASS, g.returns(b))
    assert weight_of(after, "a").shape[0] == 3


def test_every_map_keeps_a_channel() -> None:
    g = Graph(x=(1, 3, 4, 4))
    a = g("a", conv(g.x, normal(4, 3, 1, 1)))
    b = g("b", conv(a, np.zeros((4, 4, 1, 1), np.float32), normal(4)))
    after, _ = run(PASS, g.returns(b))
    assert weight_of(after, "b").shape == (4, 1, 1, 1) and operators(after) == ["lhcc.conv2d", "lhcc.conv2d"]


def test_blocks_of_like_zeros_are_not_torn() -> None:
    """One dead channel in the first block would shift all shapes of the others by one."""
    weight = normal(64, 64, 3, 3)
    for block in range(4):  # every 16 outputs have taps of their own
        weight[16 * block : 16 * block + 16, :, [t for t in range(3) if t != block % 3]] = 0
    for unread, left in (([3], 64), ([3, *range(49, 64)], 64), (list(range(16, 32)), 48), ([*range(16, 32), 40], 48)):
        g = Graph(x=(1, 64, 6, 6))
        a = g("a", conv(g.x, weight, padding=SAME, activation="relu"))
        after, notes = run(PASS, g.returns(g("b", conv(a, dead(normal(16, 64, 1, 1), inputs=unread)))))
        assert weight_of(after, "a").shape[0] == left
        assert left == 64 - len(unread) or any("hold others in their tiles" in note for note in notes)


@pytest.mark.parametrize("seed", range(25))
def test_random_networks_with_dead_channels_compute_the_same(seed: int) -> None:
    mod = dialect_form(RandomGraph(seed, zeros=0.5).module(12))
    after = PASS.run(mod, Log())
    relax.analysis.well_formed(after)
    same_numbers(mod, after, PASS.name)
