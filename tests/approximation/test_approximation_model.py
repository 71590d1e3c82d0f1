"""Approximating whole ONNX models: what comes out is dyadic, runs, keeps its budget, and says what it did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from lhcc.approximation import BudgetError, approximate
from lhcc.approximation.calibrate import run
from lhcc.approximation.graph import Graph
from lhcc.approximation.weights import Scale
from lhcc.encodings import dyadic
from lhcc.errors import InputError, LhccError, ModelError
from tests.approximation.networks import images, network


@pytest.mark.parametrize("head", ["Gemm", "MatMul"])
@pytest.mark.parametrize("scale", ["shift", "folded"])
def test_every_weight_becomes_dyadic(scale: Scale, head: str) -> None:
    answer = approximate(network(head=head), set="half", scale=scale, calibrate=images(1))
    graph = Graph(answer.model)
    for layer in graph.layers():
        encoded = dyadic.from_dense(graph.filters(layer).astype(np.float32), max_bits=8)
        if scale == "shift":
            assert encoded.exponents is not None
    assert not any(node.op_type == "BatchNormalization" for node in answer.model.graph.node)
    assert [row.name for row in answer.report.layers] == ["first", "second", "head"]
    y = run(answer.model, images(2))[0]
    assert np.isfinite(y).all()


def test_the_richer_the_set_the_closer_the_output() -> None:
    x, errors = images(3), dict.fromkeys(("ternary", "digits:2:4", "digits:3:6"), 0.0)
    for seed in range(3):
        exact = run(network(seed), x)[0]
        for which in errors:
            output = run(approximate(network(seed), set=which).model, x)[0]
            errors[which] += float(np.abs(output - exact).mean() / np.abs(exact).mean()) / 3
    assert errors["ternary"] > 2 * errors["digits:2:4"] > 4 * errors["digits:3:6"]
    assert errors["digits:3:6"] < 0.06


def test_calibration_takes_back_the_shift_of_the_means() -> None:
    model, x = network(activation="Relu"), images(4, 200)
    exact = run(model, x)[0]
    plain = run(approximate(model, set="ternary").model, x)[0]
    for scale in ("shift", "folded"):
        corrected = run(approximate(model, set="ternary", calibrate=x, scale=scale).model, x)[0]
        assert np.abs(corrected.mean(axis=0) - exact.mean(axis=0)).max() < 0.01
        assert ((corrected - exact) ** 2).mean() < 0.5 * ((plain - exact) ** 2).mean()


@pytest.mark.parametrize("kind", ["Tanh", "Sigmoid", "Silu", "Gelu", "HardSwish"])
def test_smooth_activations_become_dyadic_lines(kind: str) -> None:
    model, x = network(activation=kind), images(5)
    kept = approximate(model, set="digits:3:6", activation_error=None)
    lines = approximate(model, set="digits:3:6", activation_error=1 / 128)
    left = {node.op_type for node in lines.model.graph.node}
    assert left <= {"Conv", "Clip", "Sub", "Mul", "Add", "Flatten", "Gemm"}
    assert len([row for row in lines.report.functions if row.max_error <= 1 / 128]) >= 2
    assert np.abs(run(kept.model, x)[0] - run(lines.model, x)[0]).max() < 0.2
    for node in lines.model.graph.node:
        if node.op_type == "Mul":
            slope = next(numpy_helper.to_array(t) for t in lines.model.graph.initializer if t.name == node.input[1])
            assert dyadic.digit_count(round(abs(float(slope)) * 2**16)) <= 2


def test_pool_coefficients_become_dyadic() -> None:
    answer = approximate(network(), set="half")
    row = next(row for row in answer.report.functions if row.name == "pool")
    assert row.max_error < 0.003 / 35
    pool = next(node for node in answer.model.graph.node if node.name == "pool")
    assert pool.op_type == "Conv"


def test_budgets_choose_sets_per_layer() -> None:
    model, x = network(), images(6, 80)
    labels = run(model, x)[0].argmax(axis=1)
    for limit in (0.4, 0.2, 0.08):
        answer = approximate(model, max_error=limit)
        assert answer.report.error <= limit + 1e-9
    costs = [approximate(model, max_error=limit).report.additions for limit in (0.4, 0.2, 0.08)]
    assert costs == sorted(costs)
    few = approximate(model, max_adds=costs[0])
    assert few.report.additions <= costs[0]
    kept = approximate(model, calibrate=(x, labels), max_drop=2.5)
    assert kept.report.drop is not None and kept.report.drop <= 2.5 + 1e-9
    path = kept.report.pareto
    assert [p.additions for p in path] == sorted((p.additions for p in path), reverse=True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_error": 1e-6}, "no choice of sets reaches an error of 1e-06; the best reaches 0\\.0"),
        ({"max_adds": 10}, "10 additions or fewer; the cheapest needs [\\d,]+"),
        ({"max_drop": 1.0}, "needs labelled calibration data"),
    ],
)
def test_budgets_out_of_reach_say_the_best(options: dict[str, Any], says: str) -> None:
    with pytest.raises(BudgetError, match=says):
        approximate(network(), **options)


def test_a_drop_out_of_reach_says_the_smallest_within_reach() -> None:
    model, x = network(), images(6, 80)
    data = (x, run(model, x)[0].argmax(axis=1))
    with pytest.raises(BudgetError, match="loses at most 0 points; the best loses [\\d.]+") as caught:
        approximate(model, sets=["ternary"], calibrate=data, max_drop=0.0)
    best = float(str(caught.value).split("the best loses ")[1].split()[0])
    kept = approximate(model, sets=["ternary"], calibrate=data, max_drop=best)
    assert best > 0 and kept.report.drop == pytest.approx(best, abs=0.01)


def test_the_report_says_it_as_text_json_and_plot(tmp_path: Path) -> None:
    answer = approximate(network(), max_error=0.2)
    assert "first" in str(answer.report) and "-> 0" in str(answer.report)
    assert json.loads(answer.report.to_json())["total"]["additions"] == answer.report.additions
    assert answer.report.pareto_table().count("\n") == len(answer.report.pareto)
    pytest.importorskip("matplotlib")
    answer.report.plot(tmp_path / "pareto.png")
    assert (tmp_path / "pareto.png").stat().st_size > 5000


def test_additions_are_counted_per_inference() -> None:
    answer = approximate(network(batch_norm=False), set="ternary")
    graph = Graph(answer.model)
    rows = {row.name: row for row in answer.report.layers}
    for layer in graph.layers():
        if layer.name == "pool":
            continue
        row = rows[layer.name]
        filters = graph.filters(layer).reshape(graph.filters(layer).shape[0], -1)
        expected = sum(max(int(np.count_nonzero(f)) - 1, 0) for f in filters) * (35 if layer.op == "Conv" else 1)
        assert row.additions == expected


def test_paths_and_files(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(network(), path)
    np.savez(tmp_path / "x.npz", x=images(7))
    answer = approximate(path, calibrate=tmp_path / "x.npz", set="two")
    answer.save(tmp_path / "out.onnx")
    assert onnx.load(tmp_path / "out.onnx") == answer.model


def _unchecked(value: Any) -> Any:
    """What a user may pass and no type checker would."""
    return value


def _with_weight(value: float) -> onnx.ModelProto:
    model = network()
    weight = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "w2")).copy()
    weight[0, 0, 0, 0] = value
    next(t for t in model.graph.initializer if t.name == "w2").CopyFrom(numpy_helper.from_array(weight, "w2"))
    return model


@pytest.mark.parametrize(
    ("call", "kind", "says"),
    [
        (lambda: approximate(_with_weight(np.nan)), ModelError, "layer 'second': the weights hold Inf or NaN"),
        (lambda: approximate(_with_weight(np.inf)), ModelError, "layer 'second': the weights hold Inf or NaN"),
        (lambda: approximate(network(), calibrate=np.zeros((4, 3, 7, 6))), InputError, "takes \\(N, 3, 7, 5\\)"),
        (lambda: approximate(network(), calibrate=(images(1), [1, 2])), InputError, "40 .* inputs come with 2 labels"),
        (lambda: approximate(network(), calibrate={"z": 1}), InputError, "needs 'x'"),
        (lambda: approximate("nowhere.onnx"), ModelError, "no file 'nowhere.onnx'"),
        (lambda: approximate(3), ModelError, "int is no model"),
        (lambda: approximate(network(), scale="folded", per="kernel"), LhccError, "cannot be folded onward"),
        (lambda: approximate(network(), scale=_unchecked("loose")), LhccError, "'shift' or 'folded'"),
    ],
)
def test_mistakes_are_named(call: Any, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        call()


@pytest.mark.slow
@pytest.mark.torch
def test_torch_modules_are_exported_first() -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3))
    answer = approximate(module, torch.zeros(1, 1, 8, 8), set="digits:2:4")
    x = np.random.default_rng(0).normal(size=(1, 1, 8, 8)).astype(np.float32)
    expected = module(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(run(answer.model, x)[0], expected, atol=0.2)
