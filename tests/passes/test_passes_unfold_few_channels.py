"""Convolutions of a few channels become ones of many: whole windows or only their rows are unfolded; equal numbers."""

from __future__ import annotations

from typing import Any

import pytest
import tvm

from lhcc.ir.graph import attributes, calls, op_name
from lhcc.passes.unfold_few_channels import UnfoldFewChannels
from tests.passes.modules import Graph, conv, normal, run

Pair = tuple[int, int]


def unfolded(channels: int, kernel: Pair, size: Pair, **geometry: Any) -> tuple[list[Pair], list[str]]:
    """The windows that became channels, and the pass's reasons; `run` compares the numbers."""
    g = Graph(x=(2, channels, *size))
    mod = g.returns(g("conv", conv(g.x, normal(5, channels, *kernel), normal(5, seed=1), **geometry)))
    after, reasons = run(UnfoldFewChannels(32), mod)
    return windows(after), reasons


def windows(mod: tvm.IRModule) -> list[Pair]:
    return [tuple(attributes(call)["kernel"]) for _, call in calls(mod) if op_name(call) == "lhcc.unfold"]


@pytest.mark.parametrize(
    ("channels", "kernel", "size", "geometry", "expected"),
    [
        (3, (7, 7), (33, 30), {"strides": (2, 2), "padding": (3, 3, 3, 3)}, (1, 7)),
        (3, (3, 3), (9, 9), {"padding": (1, 1, 1, 1)}, (3, 3)),
        (1, (5, 5), (12, 11), {}, (5, 5)),
        (3, (5, 5), (12, 11), {"padding": (2, 1, 2, 0), "dilation": (1, 2)}, (1, 5)),
        (4, (9, 2), (20, 9), {"strides": (1, 2), "padding": (4, 0, 3, 1)}, (1, 2)),
        (3, (1, 7), (8, 9), {"padding": (0, 3, 0, 3)}, (1, 7)),
    ],
)
def test_the_smaller_map_is_made(channels: int, kernel: Pair, size: Pair, geometry: Any, expected: Pair) -> None:
    found, reasons = unfolded(channels, kernel, size, **geometry)
    assert found == [expected] and reasons == []


@pytest.mark.parametrize(("channels", "kernel"), [(9, (3, 3)), (3, (1, 1))])
def test_many_channels_and_single_taps_stay(channels: int, kernel: Pair) -> None:
    assert unfolded(channels, kernel, (8, 9)) == ([], [])


def test_where_nothing_is_gained_the_reason_is_said() -> None:
    found, reasons = unfolded(8, (9, 1), (20, 9))
    assert found == [] and reasons == ["conv: unfolding its 8 channels fills no fewer blocks of 32"]
