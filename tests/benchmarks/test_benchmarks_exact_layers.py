"""The command that compares dyadic layers over all targets, on a few of them."""

from __future__ import annotations

import shutil

import pytest

from benchmarks import exact_layers


def test_both_forms_of_the_cpu_equal_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    assert exact_layers.main(["--count", "2", "--circuits", "0"]) == 0
    assert "2 layers, 0 of them also as circuits: 0 differ" in capsys.readouterr().out


def test_a_difference_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(exact_layers, "on_cpu", lambda program, x, arith: program.run(x)[0] + (arith == "shift"))
    assert exact_layers.main(["--count", "1", "--circuits", "0", "--seed", "5"]) == 1
    assert "layer 5: shift differs" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.verilator
@pytest.mark.skipif(shutil.which("verilator") is None, reason="Verilator is not installed")
def test_more_layers_and_circuits() -> None:
    assert exact_layers.main(["--count", "40", "--circuits", "8", "--seed", "1000"]) == 0
