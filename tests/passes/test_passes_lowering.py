"""From laid-out layers to calls of kernels: what is packed, which calls share a kernel, and what is recorded."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import tvm
from tvm import relax

from lhcc.ir import dialect
from lhcc.ir.graph import array_of, attributes, calls, op_name
from lhcc.ir.log import Log
from lhcc.ir.verify import Verifier
from lhcc.passes.choose_layouts import ChooseLayouts
from lhcc.passes.lower_generic import LowerGeneric
from lhcc.passes.lower_kernels import LowerKernels
from lhcc.passes.pack_tiles import PackTiles
from lhcc.targets.base import Options, Pass, parse
from tests.passes.modules import Graph, activation, conv, normal, operators

SAME = (1, 1, 1, 1)


def target_passes() -> dict[str, Any]:
    target, options = parse("cpu"), Options()
    order: list[Pass] = [*target.layout_passes(options), *target.lowering_passes(options)]
    kinds = (ChooseLayouts, PackTiles, LowerGeneric, LowerKernels)
    return {item.name: item for item in order if isinstance(item, kinds)}


def lowered(mod: tvm.IRModule) -> tuple[tvm.IRModule, LowerKernels, Log]:
    """The module after all of them; the numbers are checked after each."""
    passes, log = target_passes(), Log()
    kernels = passes["lower_kernels"]
    verifier = Verifier(mod, kernels.generate)
    for item in passes.values():
        mod = item.run(mod, log)
        relax.analysis.well_formed(mod)
        verifier.check(mod, item.name)
    return mod, kernels, log


def network() -> tvm.IRModule:
    g = Graph(x=(2, 3, 5, 4))
    half = np.ones((40, 32, 3, 3), np.float32)
    half[:16, :16] = half[16:32, 16:] = 0
    a = g("a", conv(g.x, normal(32, 3, 3, 3), normal(32), padding=SAME, activation="relu"))
    b = g("b", conv(a, normal(40, 32, 3, 3) * half, normal(40), padding=SAME, strides=(2, 2), activation="silu"))
    c = g("c", conv(b, normal(40, 1, 3, 3), normal(40), groups=40, padding=SAME))
    d = g("d", conv(c, normal(40, 40, 1, 1), normal(40), [b], activation="relu"))
    pool = {"window": (2, 2), "strides": (2, 2), "padding": (0, 0, 0, 0), "dilation": (1, 1)}
    e = g("e", dialect.call("pool2d", [d], (2, 40, 1, 1), **pool))
    f = g("f", relax.op.nn.softmax(e, axis=1))
    return g.returns(g("g", activation(f, "tanh")))


def test_every_stage_computes_the_same_and_ends_in_kernels() -> None:
    mod, kernels, log = lowered(network())
    assert {op_name(value) for _, value in calls(mod) if op_name(value)} <= {"relax.call_tir", "relax.reshape"}
    records = {record.name: record for record in kernels.layers if not record.op.endswith("_blocked")}
    assert [record.name for record in kernels.layers][:3] == ["a", "b", "c"]
    assert records["b"].op == "conv2d" and records["b"].macs == 2 * 3 * 2 * 40 * 32 * 9
    assert records["c"].encoding == "depthwise" and records["e"].op == "max_pool2d"
    functions = {gv.name_hint for gv in mod.functions}
    assert all(record.bytes_moved > 0 and record.kernel in functions for record in kernels.layers)
    assert any(reason.layer == "b" and reason.text.startswith("chosen ") for reason in log.reasons)


def test_packing_keeps_the_weights_that_are_not_zero() -> None:
    passes, log = target_passes(), Log()
    mod = passes["pack_tiles"].run(passes["choose_layouts"].run(network(), log), log)
    packed = {name: value for name, value in calls(mod) if op_name(value) == "lhcc.tiles"}
    weights = array_of(packed["b"].args[1])
    assert attributes(packed["b"])["encoding"] == "tiles" and weights is not None
    assert np.count_nonzero(weights) == 9 * (40 * 32 - 2 * 16 * 16)


def test_layers_of_equal_geometry_share_a_kernel() -> None:
    g = Graph(x=(1, 16, 4, 4))
    a = g("a", conv(g.x, normal(16, 16, 1, 1)))
    b = g("b", conv(a, normal(16, 16, 1, 1, seed=1), normal(16)))
    c = g("c", conv(b, normal(16, 16, 1, 1, seed=2), activation="relu"))
    _, kernels, _ = lowered(g.returns(c))
    used = {record.name: record.kernel for record in kernels.layers if record.op == "conv2d"}
    assert used["a"] == used["b"] != used["c"]


def test_conversions_of_different_channel_counts_do_not_share_a_kernel() -> None:
    g = Graph(x=(1, 3, 4, 4))
    a, b = g("a", conv(g.x, normal(1, 3, 1, 1))), g("b", conv(g.x, normal(2, 3, 1, 1)))
    mod, kernels, _ = lowered(g.returns(a, b))
    conversions = [record.kernel for record in kernels.layers if record.op == "from_blocked"]
    assert len(set(conversions)) == 2


def test_calls_of_different_specs_do_not_share_a_kernel() -> None:
    made: list[str] = []

    def generate(operator: str, attrs: dict[str, Any], shapes: list[tuple[int, ...]]) -> Any:
        made.append(attrs["spec"])
        return target_passes()["lower_kernels"].generate("lhcc.activation", {"activation": "relu"}, shapes)

    g = Graph(x=(4, 4))
    y = g("y", dialect.call("wide_conv2d", [g.x], (4, 4), spec="one"))
    z = g("z", dialect.call("wide_conv2d", [y], (4, 4), spec="two"))
    LowerKernels(generate).run(g.returns(g("w", dialect.call("wide_conv2d", [z], (4, 4), spec="one"))), Log())
    assert made == ["one", "two"]


def test_generic_operators_are_fused_and_scheduled() -> None:
    seen: list[Any] = []

    def schedule(function: Any, tag: str) -> Any:
        seen.append((tag, function))
        return function

    g = Graph(x=(4, 8))
    y = g("y", relax.op.nn.softmax(g("n", relax.op.negative(g.x))))
    mod = g.returns(y)
    after = LowerGeneric(partial(schedule, tag="here")).run(mod, Log())
    assert set(operators(after)) == {"relax.call_tir"} and {tag for tag, _ in seen} == {"here"}
    Verifier(mod).check(after, "lower_generic")


def test_a_module_of_kernels_only_is_not_legalised() -> None:
    g = Graph(x=(2, 16))
    mod = g.returns(g("r", relax.op.reshape(g("y", activation(g.x, "relu")), (4, 8))))
    assert LowerGeneric(lambda function: function).run(mod, Log()) is mod
