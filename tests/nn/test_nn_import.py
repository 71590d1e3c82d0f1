"""A module with masked layers is compiled as it is: its masks are folded while it is imported."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")

from torch import nn  # noqa: E402

from lhcc.frontend import import_model  # noqa: E402
from lhcc.inspection import Kind, inspect_module  # noqa: E402
from lhcc.nn import HetConv2d, LHConv2d  # noqa: E402

pytestmark = pytest.mark.torch


def test_masked_layers_become_constants() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        LHConv2d(16, 32, 3, group_in=8, group_out=8),
        LHConv2d(32, 32, 3, group_in=8, group_out=8, shapes="rigid"),
        HetConv2d(32, 32, 3, p=4),
    )
    report = inspect_module(import_model(model.eval(), torch.zeros(1, 16, 9, 9)))
    kinds = [layer.structure.kind for layer in report.layers]
    assert kinds == [Kind.LHC_FREE, Kind.LHC_RIGID, Kind.HETCONV]
    assert report.layers[0].structure.density == pytest.approx(model[0].density())
    assert report.layers[2].structure.period == 4
