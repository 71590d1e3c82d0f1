"""What bounds the layers of a network: the figures fit together, and every microsecond has a cause."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.layer_rates import Bounds, causes, compiled, layer_rates, layer_times, losses, table
from benchmarks.models import NetworkWriter, Recipe, write


@pytest.mark.parametrize(
    ("time", "alone", "bounds", "expected"),
    [
        (31.0, 23.0, Bounds(9, 19, 21, 20, 1), {"tile": 10, "weights": 8, "loops": 2, "near": 2}),
        (130.0, 129.0, Bounds(17, 39, 45, 130, 1), {"tile": 22, "weights": 91, "loops": 0, "near": 0}),
        (200.0, 190.0, Bounds(100, 100, 150, 1, 90), {"tile": 0, "maps": 10, "loops": 50, "near": 40}),
        (50.0, 60.0, Bounds(40, 55, 70, 1, 2), {"tile": 10, "maps": 0, "loops": 0, "near": 0}),
    ],
)
def test_what_is_lost_has_a_cause(time: float, alone: float, bounds: Bounds, expected: dict[str, float]) -> None:
    lost = losses(time, alone, bounds)
    assert lost == pytest.approx(expected)
    assert sum(lost.values()) == pytest.approx(time - bounds.arithmetic)
    assert causes(lost).startswith(max(lost, key=lambda cause: lost[cause]))


def test_a_network_layer_by_layer(tmp_path: Path) -> None:
    from lhcc.runtime.peak import Peak

    net = NetworkWriter("small", 3, 16, Recipe(density=0.3))
    net.classifier(net.conv("second", net.conv("first", net.input, 32, 3), 48, 3, 2), 10)
    executable, cycles = compiled(write(net, tmp_path / "small.onnx"))
    rates = layer_rates(executable, cycles, layer_times(executable), Peak(50.0, ((1 << 30, 20.0),)))
    by_name = {rate.layer: rate for rate in rates}
    second = by_name["second"]
    assert second.bounds.loops > second.bounds.tile >= second.bounds.arithmetic > 0 and second.peak > 0
    assert second.map_bytes == 4 * (32 * 16 * 16 + 2 * 48 * 8 * 8)
    assert second.bounds.maps == pytest.approx(second.map_bytes / 20e3)
    assert sum(rate.share for rate in rates) == pytest.approx(1)
    assert "second" in table(rates)
