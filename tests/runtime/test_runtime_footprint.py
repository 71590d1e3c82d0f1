"""Memory by layer, and budgets: what is counted, and which layer is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lhcc.errors import TargetError
from lhcc.runtime import footprint
from lhcc.runtime.footprint import Budget, Footprint, LayerMemory, OverBudget


def model(code: int | None = 500) -> Footprint:
    layers = [LayerMemory("first", "a", 100, 64), LayerMemory("big", "b", 4000, 640), LayerMemory("last", "c", 50, 128)]
    return Footprint(tuple(layers), 640, 30, 10, 4150, code)


@pytest.mark.parametrize("budget", [Budget(), Budget(680, 4650), Budget(ram=680), Budget(flash=10_000)])
def test_what_fits(budget: Budget) -> None:
    budget.check(model())


@pytest.mark.parametrize(
    ("budget", "complaint"),
    [
        (Budget(ram=679), "needs 680 bytes of RAM, 679 are allowed: too many in layer 'big'\n  640 bytes of maps"),
        (Budget(ram=200), "too many in layer 'big'"),
        (Budget(ram=0), "too many in layer 'first'"),
        (Budget(flash=99), "needs 4,650 bytes of flash, 99 are allowed: .* from layer 'first' on, which has 100"),
        (Budget(flash=4000), "from layer 'big' on, which has 4,000 bytes"),
        (Budget(flash=4200), "with 500 bytes of code the 4,150 bytes of weights are too many"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_layer(budget: Budget, complaint: str) -> None:
    with pytest.raises(OverBudget, match=complaint):
        budget.check(model())


def test_code_counts_once_it_is_there() -> None:
    Budget(flash=4200).check(model(code=None))


def test_a_compiled_model_adds_up(conv_executable: Any) -> None:
    """The sums of the layers are the whole, and no layer has more in use than the arena holds."""
    program = conv_executable.program
    need = footprint.of_program(program)
    assert need.weights == program.weights.nbytes == sum(layer.weights for layer in need.layers)
    assert need.arena == program.arena_size == max(layer.arena for layer in need.layers)
    assert need.ram == need.arena + sum(spec.nbytes for spec in (*program.inputs, *program.outputs))
    assert need.code == len(program.code) and need.flash == need.weights + need.code
    assert json.loads(json.dumps(need.json()))["total"]["ram"] == need.ram
    for layer in need.layers:
        assert layer.name in str(need)


def test_weights_that_two_layers_share_count_once(lower: Any, host_target: Any) -> None:
    from tvm import relax

    from lhcc.runtime.build import build

    x = relax.Var("x", relax.TensorType((4, 4), "float32"))
    shared = relax.const(np.eye(4, dtype="float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            once = builder.emit(relax.op.matmul(x, shared))
            out = builder.emit_output(relax.op.matmul(once, shared))
        builder.emit_func_output(out)
    need = footprint.of_program(build(lower(builder.get()), host_target, jobs=1).program)
    assert [layer.weights for layer in need.layers] == [64, 0]


def test_the_budget_is_checked_before_code_is_generated(
    lower: Any, host_target: Any, conv_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lhcc.runtime import build

    monkeypatch.setattr(build, "compile_kernels", lambda *_: pytest.fail("code was generated"))
    with pytest.raises(OverBudget, match="bytes of RAM"):
        build.build(lower(conv_module()), host_target, limits=(1000, None))


def test_limits_come_from_the_user_or_from_the_preset() -> None:
    from lhcc.targets.base import Options
    from lhcc.targets.boards import Board

    board = Board("b", "t", ram=1000)
    assert Options().limits() == (None, None)
    assert Options().limits(board) == (1000, None)
    assert Options(max_ram="2K", max_flash=7).limits(board) == (2048, 7)
    with pytest.raises(TargetError, match="'lots' is not a size"):
        Options(max_flash="lots")


def test_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lhcc.cli import main

    digits = str(Path(__file__).parents[2] / "examples" / "digits" / "vgg_lhc_rigid.onnx")
    out = tmp_path / "net.lhcc"
    assert main(["compile", digits, "-o", str(out), "--max-ram", "8K"]) == 2
    assert "too many in layer" in capsys.readouterr().err
    assert main(["compile", digits, "-o", str(out), "--max-flash", "8K"]) == 2
    assert "bytes of flash" in capsys.readouterr().err
    assert not out.exists()
    assert main(["compile", digits, "-o", str(out), "--max-ram", "256K", "--max-flash", "1M"]) == 0
    capsys.readouterr()
    assert main(["inspect", str(out), "--json"]) == 0
    total = json.loads(capsys.readouterr().out)["total"]
    assert total["ram"] <= 256 << 10 and total["flash"] <= 1 << 20
    assert main(["inspect", str(out)]) == 0
    assert "arena in use" in capsys.readouterr().out
    assert main(["inspect", digits, "--target", "x86-64-v3", "--json"]) == 0
    both = json.loads(capsys.readouterr().out)
    assert both["layers"][0]["weight_shape"] and both["memory"]["total"]["arena"] == total["arena"]
