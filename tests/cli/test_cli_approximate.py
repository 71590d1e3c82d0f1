"""`lhcc approximate` and `--arith`: what each flag does, and one sentence for every mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from lhcc.approximation.calibrate import run
from lhcc.cli import main


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    np.savez(tmp_path / "x.npz", x=rng.standard_normal((6, 3, 8, 8)).astype("float32"), y=np.arange(6))
    return tmp_path / "x.npz"


def report(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    assert main(["approximate", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and captured.err.count("\n") <= 2
    return captured.err


def test_sets_scales_and_widths(small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "dyadic.onnx"
    named = report(capsys, small_onnx, "-o", out, "--set", "ternary", "--weight-bits", "6", "--bias-bits", "12")
    assert [row["set"] for row in named["layers"]] == ["ternary"] * 2
    assert max(row["weight_bits"] for row in named["layers"]) <= 6 and named["scale"] == "shift"
    listed = report(capsys, small_onnx, "-o", out, "--set", "0,1,-1,3,-3", "--scale", "folded", "--per", "layer")
    assert (listed["scale"], listed["per"]) == ("folded", "layer")
    assert len(onnx.load(out).graph.node) == 3


def test_budgets_calibration_and_the_chart(
    small_onnx: Path, calibration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    out, chart = tmp_path / "dyadic.onnx", tmp_path / "pareto.svg"
    answer = report(capsys, small_onnx, "-o", out, "--max-error", "0.1", "--calibrate", calibration, "--plot", chart)
    assert answer["total"]["error"] <= 0.1 and len(answer["pareto"]) > 1
    assert "<svg" in chart.read_text()
    few = report(capsys, small_onnx, "-o", out, "--max-adds", str(answer["pareto"][-1]["additions"]))
    assert few["total"]["additions"] == answer["pareto"][-1]["additions"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--set", "0"], "holds no number but 0"),
        (["--set", ""], "holds no number but 0"),
        (["--set", "0,0.1"], "0.1 is not dyadic"),
        (["--set", "quaternary"], "no set of weights is called 'quaternary'"),
        (["--scale", "loose"], "scale is 'shift' or 'folded', not 'loose'"),
        (["--per", "tap"], "per is 'kernel', 'filter' or 'layer', not 'tap'"),
        (["--max-error", "1e-9"], "no choice of sets reaches an error of 1e-09; the best reaches 0.0"),
        (["--max-adds", "1"], "no choice of sets needs 1 additions or fewer; the cheapest needs"),
        (["--max-drop", "1"], "needs labelled calibration data"),
        (["--weight-bits", "1"], "weights need at least 2 bits"),
        (["--weight-bits", "99"], "have at most 24, not 99"),
        (["--bias-bits", "99"], "have at most 24, not 99"),
        (["--plot", "chart.xyz"], "a chart cannot be written as 'chart.xyz'"),
        (["--activation-error", "0.7"], "an activation's error must lie in"),
        (["--calibrate", "nowhere.npz"], "there is no calibration file 'nowhere.npz'"),
    ],
)
def test_mistakes(
    flags: list[str], says: str, small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "dyadic.onnx"
    assert says in complaint(capsys, "approximate", small_onnx, "-o", out, *flags)
    assert not out.exists()


def test_calibration_of_the_wrong_shape_and_broken_weights(
    small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "dyadic.onnx"
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 3, 9, 8), "float32"))
    says = complaint(capsys, "approximate", small_onnx, "-o", out, "--calibrate", tmp_path / "x.npz")
    assert "has shape (4, 3, 9, 8); the model takes (N, 3, 8, 8)" in says
    model = onnx.load(small_onnx)
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    weight[0, 0, 0, 0] = np.nan
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, model.graph.initializer[0].name))
    onnx.save(model, tmp_path / "nan.onnx")
    assert "layer 'first': the weights hold Inf or NaN" in complaint(
        capsys, "approximate", tmp_path / "nan.onnx", "-o", out
    )


def test_a_limit_on_the_drop_holds_or_the_best_drop_is_told(
    small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, x = tmp_path / "dyadic.onnx", np.random.default_rng(3).standard_normal((40, 3, 8, 8)).astype("float32")
    named = run(onnx.load(small_onnx), x)[0].reshape(len(x), -1).argmax(axis=1)
    np.savez(tmp_path / "data.npz", x=x, y=named)
    flags: list[str | Path] = ["-o", out, "--calibrate", tmp_path / "data.npz", "--max-drop"]
    assert report(capsys, small_onnx, *flags, "20")["drop"] <= 20
    np.savez(tmp_path / "data.npz", x=x, y=np.where(np.arange(len(x)) % 2, named, -1))
    says = complaint(capsys, "approximate", small_onnx, *flags, "-60")
    assert "no choice of sets loses at most -60 points; the best loses " in says


def test_arith_shift_gives_the_same_numbers(
    small_onnx: Path, small_input: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dyadic, x = tmp_path / "dyadic.onnx", tmp_path / "x.npy"
    report(capsys, small_onnx, "-o", dyadic, "--set", "half")
    np.save(x, small_input)
    answers = []
    for arith in ("multiply", "shift"):
        out = tmp_path / f"{arith}.npy"
        flags = ["--precision", "int8", "--arith", arith, "--input", str(x), "--output", str(out)]
        assert main(["run", str(dyadic), *flags]) == 0
        answers.append(np.load(out))
    np.testing.assert_array_equal(*answers)


def test_arith_needs_integers(small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model.lhcc"
    wrong = complaint(capsys, "compile", small_onnx, "-o", out, "--arith", "divide")
    assert "arith 'divide' is unknown" in wrong
    floats = complaint(capsys, "compile", small_onnx, "-o", out, "--arith", "shift")
    assert "compile it with precision int8" in floats


def test_files_that_are_something_else(small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, text, artifact = tmp_path / "dyadic.onnx", tmp_path / "text.npz", tmp_path / "model.lhcc"
    text.write_text("hello")
    said = complaint(capsys, "approximate", small_onnx, "-o", out, "--calibrate", text)
    assert "text.npz' is not an array file of numpy" in said
    assert main(["compile", str(small_onnx), "-o", str(artifact)]) == 0
    capsys.readouterr()
    assert "model.lhcc' is compiled already" in complaint(capsys, "approximate", artifact, "-o", out)
    assert not out.exists()
