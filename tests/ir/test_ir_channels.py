"""Classes of channels: what is one and the same, what is fixed, and which stand together."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import relax

from lhcc.ir.channels import Channels
from lhcc.ir.constant_channels import ConstantChannels
from tests.passes.modules import Graph, activation, const, conv, dialect_form, normal
from tests.passes.random_graphs import RandomGraph


def test_maps_that_meet_share_their_classes() -> None:
    g = Graph(x=(1, 3, 4, 4))
    a = g("a", conv(g.x, normal(8, 3, 1, 1)))
    b = g("b", conv(a, normal(8, 8, 1, 1), residual=[a]))
    c = g("c", activation(b, "relu"))
    d = g("d", conv(c, normal(5, 8, 1, 1)))
    channels = Channels(g.returns(d))
    assert channels.ids[a].tolist() == channels.ids[b].tolist() == channels.ids[c].tolist()
    assert set(channels.fixed.values()) == {"an input of the network", "an output of the network"}
    assert [len(segment) for segment in channels.segments()] == [8]
    assert [layer.name for layer in channels.layers] == ["a", "b", "d"]


def test_concat_and_flattening_line_up() -> None:
    g = Graph(x=(2, 3, 2, 2))
    a, b = g("a", conv(g.x, normal(4, 3, 1, 1))), g("b", conv(g.x, normal(2, 3, 1, 1)))
    both = g("both", relax.op.concat([a, b], axis=1))
    flat = g("flat", relax.op.reshape(both, (2, 24)))
    channels = Channels(g.returns(g("y", relax.op.matmul(flat, const(normal(24, 3))))))
    assert channels.ids[both].tolist() == [*channels.ids[a], *channels.ids[b]]
    assert channels.ids[flat].tolist() == np.repeat(channels.ids[both], 4).tolist()
    assert channels.fixed[int(channels.ids[a][0])] == "'y' (relax.matmul) needs every channel in its place"


def test_borders_and_resizing_keep_the_channels_apart() -> None:
    g = Graph(x=(1, 3, 4, 4))
    a = g("a", conv(g.x, normal(6, 3, 1, 1)))
    around = g("around", relax.op.nn.pad(a, (0, 0, 0, 0, 1, 1, 1, 1)))
    larger = g("larger", relax.op.image.resize2d(around, relax.ShapeExpr([12, 12]), layout="NCHW"))
    more = g("more", relax.op.nn.pad(larger, (0, 0, 1, 0, 0, 0, 0, 0)))
    channels = Channels(g.returns(more))
    assert channels.ids[a].tolist() == channels.ids[around].tolist() == channels.ids[larger].tolist()
    assert channels.fixed[int(channels.ids[a][0])] == "'more' (relax.nn.pad) needs every channel in its place"


def test_segments_part_where_maps_do() -> None:
    g = Graph(x=(1, 3, 4, 4))
    a, b = g("a", conv(g.x, normal(4, 3, 1, 1))), g("b", conv(g.x, normal(2, 3, 1, 1)))
    both = g("both", relax.op.concat([a, b, a], axis=1))
    channels = Channels(g.returns(g("y", conv(both, normal(3, 10, 1, 1)))))
    assert sorted(len(segment) for segment in channels.segments()) == [2, 4]
    place = np.arange(channels.count)
    place[channels.ids[a]] = channels.ids[a][::-1]
    assert channels.taken(both, place).tolist() == [3, 2, 1, 0, 4, 5, 9, 8, 7, 6]
    alive = np.ones(channels.count, bool)
    alive[channels.ids[a][1]] = False
    assert channels.taken(both, np.arange(channels.count), alive).tolist() == [0, 2, 3, 4, 5, 6, 8, 9]


def test_constants_of_channels() -> None:
    g = Graph(x=(1, 2, 4, 4))
    weight = normal(3, 2, 1, 1)
    weight[1] = 0
    a = g("a", conv(g.x, weight, np.array([1, -2, 3], np.float32), activation="leaky 0.5"))
    b = g("b", relax.op.multiply(a, const([[[2.0]], [[3.0]], [[0.0]]])))
    c = g("c", relax.op.maximum(b, const(np.zeros((1, 1, 4, 4)))))
    values = ConstantChannels(g.returns(c)).values
    np.testing.assert_array_equal(values[a], [np.nan, -1, np.nan])
    np.testing.assert_array_equal(values[b], [np.nan, -3, 0])
    np.testing.assert_array_equal(values[c], [np.nan, 0, 0])


@pytest.mark.parametrize("seed", range(15))
def test_constant_channels_are_constant(seed: int) -> None:
    """What is called constant is so on random inputs, at every place of every map."""
    from lhcc.ir.reference import Reference
    from lhcc.ir.verify import random_inputs

    mod = dialect_form(RandomGraph(seed, zeros=0.6).module(10))
    values = ConstantChannels(mod).values
    reference = Reference()
    reference.run(mod, random_inputs(mod, seed))
    for var, known in values.items():
        actual = np.moveaxis(reference.values[var], 1, 0).reshape(len(known), -1)
        constant = ~np.isnan(known)
        expected = np.broadcast_to(known[constant, None], actual[constant].shape)
        np.testing.assert_allclose(actual[constant], expected, rtol=1e-6, atol=1e-9)


def test_values_without_channels_have_no_classes() -> None:
    """Scalars and vectors beside layers, as in a clip with bounds that are inputs."""
    from lhcc.ir.log import Log
    from lhcc.passes.permute_channels import PermuteChannels
    from lhcc.passes.remove_dead_channels import RemoveDeadChannels
    from tests.passes.modules import run

    g = Graph(x=(3,), low=(), high=(), image=(1, 3, 4, 4))
    y = g("y", relax.op.minimum(g("m", relax.op.maximum(g.x, g.low)), g.high))
    z = g("z", relax.op.multiply(g("n", relax.op.negative(y)), const([1.0, 2.0, 0.0])))
    weight = normal(4, 3, 1, 1)
    weight[1] = 0
    a = g("a", conv(g.image, weight))
    b = g("b", relax.op.add(g("conv", conv(a, normal(2, 4, 1, 1))), g("peak", relax.op.max(z))))
    mod = g.returns(z, b)
    assert not {str(var.name) for var in Channels(mod).ids} & {"x", "low", "high", "y", "m", "n", "z", "peak"}
    after, notes = run(RemoveDeadChannels(), mod)
    assert notes == ["a: 1 of 4 outputs are not needed: removed"]
    assert PermuteChannels().run(after, Log()) is after
