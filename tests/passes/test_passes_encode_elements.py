"""A layer by single weights takes in what reorders its channels; it is the same layer for it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from lhcc.ir.graph import calls, op_name
from lhcc.ir.log import Log
from lhcc.ir.verify import Verifier
from lhcc.passes.encode_elements import EncodeElements
from lhcc.targets import base
from lhcc.targets.cpu.encode import encode
from tests.passes.modules import Graph, conv, normal, shuffled


def few(outputs: int, inputs: int) -> Any:
    rng = np.random.default_rng(0)
    return normal(outputs, inputs, 3, 3) * (rng.random((outputs, inputs, 3, 3)) < 0.05)


@pytest.mark.parametrize("kind", ["both ends", "residual", "read twice"])
def test_what_reorders_its_channels_goes_into_its_weights(kind: str) -> None:
    rng = np.random.default_rng(1)
    g = Graph(x=(2, 40, 6, 9))

    inside = g("inside", shuffled(g.x, rng))
    residual = [g.x] if kind == "residual" else []
    y = g("y", conv(inside, few(40, 40), normal(40), residual, padding=(1, 1, 1, 1), activation="relu"))
    outside = g("outside", shuffled(y, rng))
    mod = g.returns(outside, y) if kind == "read twice" else g.returns(outside)
    target: Any = base.parse("cpu:mcpu=x86-64-v3")
    options = base.Options()
    lowering = target.lowering_passes(options)[-1]
    verifier = Verifier(mod, lowering.generate)
    after = EncodeElements(partial(encode, machine=target.machine, options=options)).run(mod, Log())
    verifier.check(after, "encode_elements")
    left = ["lhcc.widen", "lhcc.wide_conv2d"] + ["lhcc.reorder"] * (kind != "both ends")
    assert [op_name(value) for _, value in calls(after) if op_name(value)] == left
