"""Maps stay blocked from layer to layer; whoever needs them planar gets them so, and nobody sees the lanes beyond."""

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
from lhcc.passes.choose_layouts import ChooseLayouts
from tests.passes.modules import (
    Graph,
    activation,
    attrs_of,
    const,
    conv,
    dialect_form,
    layer,
    normal,
    operators,
    run,
    shuffled,
)
from tests.passes.random_graphs import RandomGraph

PASS = ChooseLayouts(16)
SAME = (1, 1, 1, 1)


def short(mod: tvm.IRModule) -> list[str]:
    return [name.split(".", 1)[1] for name in operators(mod)]


def test_a_chain_converts_its_output_only() -> None:
    g = Graph(x=(2, 3, 6, 6))
    a = g("a", conv(g.x, normal(20, 3, 3, 3), normal(20), padding=SAME, activation="sigmoid"))
    after, _ = run(PASS, g.returns(g("b", conv(a, normal(5, 20, 3, 3), normal(5)))))
    assert short(after) == ["conv2d", "conv2d", "from_blocked"]
    assert attrs_of(after, "a")["source"] == "planar" and attrs_of(after, "a")["shape"] == (2, 2, 6, 6, 16)
    found = [value for _, value in relax_calls(after)][1]
    assert dict(found.attrs)["source"] == "blocked" and shape_of(found) == (2, 1, 4, 4, 16)


def test_a_conversion_takes_a_new_order_of_the_channels_along() -> None:
    rng = np.random.default_rng(0)
    g = Graph(x=(2, 20, 4, 3))

    inside = g("inside", shuffled(g.x, rng))
    a = g("a", conv(inside, normal(20, 20, 3, 3), normal(20), [inside], padding=SAME))
    outside, twice = g("outside", shuffled(a, rng)), g("twice", shuffled(g.x, rng))
    after, _ = run(PASS, g.returns(a, outside, g("planar", shuffled(twice, rng))))
    assert short(after) == ["to_blocked", "conv2d", "from_blocked", "to_blocked", "from_blocked", "from_blocked"]


def relax_calls(mod: tvm.IRModule) -> list[tuple[str, Any]]:
    from lhcc.ir.graph import calls, op_name

    return [(name, value) for name, value in calls(mod) if op_name(value)]


def test_an_input_of_many_channels_and_a_depthwise_layer_read_blocked_maps() -> None:
    for channels, groups in ((5, 1), (4, 4)):
        g = Graph(x=(1, channels, 6, 6))
        weight = normal(channels, channels // groups, 3, 3)
        after, _ = run(PASS, g.returns(g("a", conv(g.x, weight, groups=groups))))
        assert short(after) == ["to_blocked", "conv2d", "from_blocked"]


def test_conversions_are_made_once() -> None:
    g = Graph(x=(1, 8, 4, 4))
    a, b = (g(name, conv(g.x, normal(8, 8, 1, 1))) for name in "ab")
    after, _ = run(PASS, g.returns(a, g("s", relax.op.add(a, b)), g("t", relax.op.nn.softmax(a, axis=1))))
    assert short(after).count("to_blocked") == 1 and short(after).count("from_blocked") == 2


@pytest.mark.parametrize(
    ("constants", "stays"),
    [((), True), ((1,), True), ((20, 1, 1), True), ((1, 20, 1, 1), True), ((1, 20, 4, 4), True), ((4, 4), True),
     ((2, 20, 4, 4), True), ((1, 1, 1, 20, 1, 1), False)],
)  # fmt: skip
def test_elementwise_operators_with_constants_stay_blocked(constants: tuple[int, ...], stays: bool) -> None:
    g = Graph(x=(2, 3, 4, 4))
    y = g("y", conv(g.x, normal(20, 3, 1, 1)))
    z = g("z", relax.op.multiply(const(normal(*constants)), y))
    if not stays:
        after, _ = run(PASS, g.returns(z))
        assert short(after) == ["conv2d", "from_blocked", "multiply"]
        return
    w = g("w", conv(z, normal(3, 20, 1, 1)))
    after, _ = run(PASS, g.returns(w))
    assert short(after) == ["conv2d", "multiply", "conv2d", "from_blocked"]


@pytest.mark.parametrize("other", [(2, 20, 4, 4), (2, 20, 1, 1), (1, 20, 4, 4), (2, 20, 4, 1)])
def test_elementwise_operators_on_two_maps_stay_blocked(other: tuple[int, ...]) -> None:
    g = Graph(x=(2, 3, 4, 4), o=other)
    y = g("y", conv(g.x, normal(20, 3, 1, 1)))
    after, _ = run(PASS, g.returns(g("z", relax.op.maximum(g.o, y))))
    assert short(after) in (["conv2d", "to_blocked", "maximum", "from_blocked"],
                            ["to_blocked", "conv2d", "maximum", "from_blocked"])  # fmt: skip


@pytest.mark.parametrize("other", [(2, 1, 4, 4), (2, 1, 1, 1), (4, 4), (4,)])
def test_a_map_of_one_channel_spread_over_all_is_added_planar(other: tuple[int, ...]) -> None:
    g = Graph(x=(2, 3, 4, 4), o=other)
    y = g("y", conv(g.x, normal(20, 3, 1, 1)))
    after, _ = run(PASS, g.returns(g("z", relax.op.add(y, g.o))))
    assert short(after) == ["conv2d", "from_blocked", "add"]


def test_division_is_planar_for_the_sake_of_the_lanes_beyond() -> None:
    g = Graph(x=(1, 3, 4, 4))
    y = g("y", conv(g.x, normal(20, 3, 1, 1)))
    after, _ = run(PASS, g.returns(g("z", relax.op.divide(y, y))))
    assert short(after) == ["conv2d", "from_blocked", "divide"]


def test_concat_of_whole_blocks_stays_blocked() -> None:
    for first, blocked in ((16, True), (32, True), (20, False)):
        g = Graph(x=(1, 3, 4, 4))
        a, b = g("a", conv(g.x, normal(first, 3, 1, 1))), g("b", conv(g.x, normal(5, 3, 1, 1)))
        joined = g("joined", relax.op.concat([a, b], axis=1))
        after, notes = run(PASS, g.returns(g("c", conv(joined, normal(4, first + 5, 1, 1)))))
        if blocked:
            assert short(after) == ["conv2d", "conv2d", "concat", "conv2d", "from_blocked"] and not notes
        else:
            assert short(after).count("from_blocked") == 3 and short(after).count("to_blocked") == 1
            assert notes == ["joined: its operands do not end at whole blocks of 16 channels"]


def test_concat_along_the_image_and_of_inputs_is_planar() -> None:
    g = Graph(x=(1, 3, 4, 4))
    a = g("a", conv(g.x, normal(16, 3, 1, 1)))
    after, notes = run(PASS, g.returns(g("j", relax.op.concat([a, a], axis=2))))
    assert short(after) == ["conv2d", "from_blocked", "concat"] and not notes
    g = Graph(x=(1, 16, 4, 4), y=(1, 16, 4, 4))
    after, _ = run(PASS, g.returns(g("j", relax.op.concat([g.x, g.y], axis=1))))
    assert short(after) == ["concat"]


def test_pixels_of_whole_blocks_are_reshaped_not_moved() -> None:
    for channels, conversion in ((32, "reshape"), (20, "from_blocked")):
        g = Graph(x=(2, 3, 4, 4))
        a = g("a", conv(g.x, normal(channels, 3, 1, 1)))
        mean = g("mean", dialect.call("global_average", [a], (2, channels, 1, 1)))
        after, _ = run(PASS, g.returns(mean))
        assert short(after) == ["conv2d", "global_average", conversion]


def test_pooling_and_activations_stay_blocked() -> None:
    g = Graph(x=(1, 3, 8, 8))
    a = g("a", conv(g.x, normal(20, 3, 1, 1)))
    pool = {"window": (2, 2), "strides": (2, 2), "padding": (0, 0, 0, 0), "dilation": (1, 1)}
    pooled = g("pool", dialect.call("pool2d", [g("act", activation(a, "gelu"))], (1, 20, 4, 4), **pool))
    after, _ = run(PASS, g.returns(pooled))
    assert short(after) == ["conv2d", "activation", "pool2d", "from_blocked"]
    assert attrs_of(after, "act")["shape"] == (1, 2, 8, 8, 16)


def test_a_residual_is_blocked_with_its_layer() -> None:
    g = Graph(x=(1, 3, 4, 4), r=(1, 20, 4, 4))
    after, _ = run(PASS, g.returns(g("a", conv(g.x, normal(20, 3, 1, 1), residual=[g.r]))))
    assert short(after) == ["to_blocked", "conv2d", "from_blocked"]
    assert shape_of(layer(after, "r").args[0]) == (1, 20, 4, 4)


def test_matrices_and_integers_are_not_laid_out() -> None:
    g = Graph(x=(4, 16))
    after, _ = run(PASS, g.returns(g("y", activation(g.x, "relu"))))
    assert short(after) == ["activation"]
    g = Graph(dtype="int32", x=(1, 16, 4, 4))
    after, _ = run(PASS, g.returns(g("y", relax.op.add(g.x, g.x))))
    assert short(after) == ["add"]


@pytest.mark.parametrize("seed", range(25))
def test_random_networks_compute_the_same(seed: int) -> None:
    """In the reference lanes beyond the channels are NaN: a result that saw one would show it."""
    mod = dialect_form(RandomGraph(500 + seed).module(12))
    after = PASS.run(mod, Log())
    relax.analysis.well_formed(after)
    same_numbers(mod, after, PASS.name)
