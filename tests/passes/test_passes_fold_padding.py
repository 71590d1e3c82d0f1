"""A border of zeros goes into the convolution that reads it, and only such a border."""

from __future__ import annotations

from typing import Any

import pytest
from tvm import relax

from lhcc.ir.log import Log
from lhcc.passes.fold_padding import FoldPadding
from tests.passes.modules import Graph, attrs_of, conv, normal, operators, run

PASS = FoldPadding()


def padded(widths: tuple[int, ...], **options: Any) -> Any:
    g = Graph(x=(2, 3, 6, 5))
    border = g("border", relax.op.nn.pad(g.x, widths, **options.pop("pad", {})))
    outputs = [g("y", conv(border, normal(4, 3, 3, 3), normal(4), **options.pop("conv", {})))]
    return run(PASS, g.returns(*outputs, *([border] if options.get("shared") else [])))


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_the_border_is_added_to_the_padding(strides: tuple[int, int]) -> None:
    after, _ = padded((0, 0, 0, 0, 1, 2, 0, 3), conv={"padding": (1, 0, 0, 1), "strides": strides})
    assert operators(after) == ["lhcc.conv2d"]
    assert attrs_of(after, "y")["padding"] == (2, 0, 2, 4)  # top, left, bottom, right


def test_other_readers_keep_the_border() -> None:
    after, _ = padded((0, 0, 0, 0, 1, 1, 1, 1), shared=True)
    assert sorted(operators(after)) == ["lhcc.conv2d", "relax.nn.pad"]
    assert attrs_of(after, "y")["padding"] == (1, 1, 1, 1)


def test_other_borders_stay_and_say_why() -> None:
    cases: list[tuple[tuple[int, ...], dict[str, Any], str]] = [
        ((0, 0, 0, 0, 1, 1, 1, 1), {"pad": {"pad_value": 0.5}}, "its border is not of zeros (constant)"),
        ((0, 0, 0, 0, 1, 1, 1, 1), {"pad": {"pad_mode": "reflect"}}, "its border is not of zeros (reflect)"),
        ((0, 1, 0, 0, 1, 1, 1, 1), {}, "its border (0, 1, 0, 0, 1, 1, 1, 1) is not around the image"),
        ((0, 0, 0, 0, 1, 1, 1, 1), {"conv": {"transposed": 1}}, "a transposed convolution crops by its padding"),
    ]
    for widths, options, reason in cases:
        after, notes = padded(widths, **options)
        assert operators(after) == ["relax.nn.pad", "lhcc.conv2d"] and notes == [f"y: {reason}"]


def test_a_network_without_borders_is_returned_as_it_is() -> None:
    g = Graph(x=(1, 3, 6, 6))
    mod = g.returns(g("y", conv(g.x, normal(4, 3, 3, 3))))
    assert PASS.run(mod, Log()) is mod
