"""The units of any range, for any grouping of tiles, come in the order that the numbering of units promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lhcc.ir.tir import flat, function, get, integer, put, tensor, var
from lhcc.targets.cpu import machine as machines
from lhcc.targets.cpu.units import each_unit


def numbered(blocks: int, group: int, places: int) -> list[tuple[int, int, int]]:
    """Output block, tile and number in its group of every unit."""
    groups = [range(begin, min(begin + group, places)) for begin in range(0, places, group)]
    return [(out, tile, tile - tiles[0]) for tiles in groups for out in range(blocks) for tile in tiles]


@pytest.mark.parametrize("seed", range(3))
def test_a_range_of_units_is_walked_in_order(seed: int) -> None:
    import tvm
    from tvm import tirx as T

    from lhcc.ir import tir_pipeline

    plan, target = tensor("plan", [integer(5)], "int32"), tensor("target", [var("size")], "int32")
    y, see = flat(target, "y", "int32")
    first, last, blocks, group, places = (get(plan, integer(i)) for i in range(5))

    def note(*unit: Any) -> list[Any]:
        at = var("count")
        fields = [put(y, value, at + integer(i)) for i, value in enumerate(unit)]
        return [T.Bind(at, get(y, integer(0))), *fields, put(y, at + integer(3), integer(0))]

    code = [see, put(y, integer(1), integer(0)), each_unit(first, last, blocks, group, places, note)]
    built = function([plan, target], code).with_attr("global_symbol", "main")
    module = tvm.tirx.build(tvm.IRModule({"main": built}), machines.create({}).tvm_target(), pipeline=tir_pipeline.NAME)
    rng = np.random.default_rng(seed)
    for _ in range(20):
        counts = rng.integers(1, 6), rng.integers(1, 9), rng.integers(1, 9)
        expected = numbered(*map(int, counts))
        cuts = np.sort(rng.integers(0, len(expected) + 1, 2))
        out = tvm.runtime.empty((1 + 3 * len(expected) + 3,), "int32")
        module["main"](tvm.runtime.tensor(np.array([*cuts, *counts], np.int32)), out)
        found = out.numpy()
        assert found[0] == 1 + 3 * (cuts[1] - cuts[0])
        walked = found[1 : found[0]].reshape(-1, 3).tolist()
        assert walked == [list(unit) for unit in expected[cuts[0] : cuts[1]]]
