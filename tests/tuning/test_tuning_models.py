"""lhcc.tune on a small network: the database changes what is compiled, never what is computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lhcc
from lhcc.errors import LhccError
from lhcc.tuning import search, tuner
from lhcc.tuning.database import Database


@pytest.fixture(scope="module")
def model() -> Any:
    """Three convolutions of equal geometry, one of them with another density, on 6x6 maps of 16 channels."""
    rng = np.random.default_rng(0)
    nodes, constants = [], []
    places = rng.random((1, 4, 3, 3)).repeat(16, 0).repeat(4, 1)
    for number, density in enumerate((0.2, 0.2, 1.0)):
        kept = places < density
        weight = (rng.standard_normal((16, 16, 3, 3)) * kept).astype(np.float32)
        constants.append(numpy_helper.from_array(weight, f"w{number}"))
        nodes.append(helper.make_node("Conv", [f"x{number}", f"w{number}"], [f"c{number}"], pads=[1] * 4))
        nodes[-1].name = f"conv{number}"
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"x{number + 1}"], name=f"relu{number}"))
    maps = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 16, 6, 6]) for n in ("x0", "x3")]
    graph = helper.make_graph(nodes, "net", maps[:1], maps[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def tuned(model: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    path = tmp_path_factory.mktemp("tuning") / "tuning.json"
    with pytest.MonkeyPatch.context() as patch:  # a short search, however busy the machine is
        patch.setattr(tuner, "BATCH", 2)
        patch.setattr(search, "PATIENCE", 1)
        return lhcc.tune(model, budget_s=120, database=str(path)), path


def run(model: Any, **options: Any) -> tuple[Any, Any]:
    executable = lhcc.compile(model, **options)
    return executable, executable(*executable.random_inputs())


def test_every_layer_is_tuned_once_by_its_workload(tuned: tuple[Any, Path]) -> None:
    report, path = tuned
    layers = sorted(len(workload.layers) for workload in report.workloads)
    assert sum(layers) == 3 and len(layers) < 3
    assert report.measured > 0 and report.speed_up >= 1.0 and report.ended == "nothing more to gain"
    assert len([r for r in Database(path).records() if not r.final and r.us]) == report.measured


def test_the_report_is_a_table_and_plain_data(tuned: tuple[Any, Path]) -> None:
    report, _ = tuned
    assert "candidates measured" in str(report) and "conv0 and 1 more" in str(report)
    assert json.loads(json.dumps(report.json()))["measured"] == report.measured


def test_compiling_with_the_database_computes_the_same(model: Any, tuned: tuple[Any, Path]) -> None:
    plain, expected = run(model)
    fast, result = run(model, tuning=str(tuned[1]))
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
    assert sum("tuned: " in reason.text for reason in fast.reasons) == 3
    assert not any("tuned" in reason.text for reason in plain.reasons)


def test_a_written_choice_is_the_one_that_is_compiled(model: Any, tuned: tuple[Any, Path], tmp_path: Path) -> None:
    records = Database(tuned[1]).records()
    database = Database(tmp_path / "one.json")
    for record in records:
        if not record.final and record.us:
            changed = {**record.choice, "height": 1, "width": 3, "unroll": 8}
            database.add(type(record)(record.workload, record.setting, changed, 1.0, 100.0, True))
    executable, result = run(model, tuning=str(database.path))
    _, expected = run(model)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
    assert all("1x3 px" in layer.schedule for layer in executable.layers if layer.op == "conv2d")


def test_records_of_another_processor_are_left_alone_and_said_so(
    model: Any, tuned: tuple[Any, Path], tmp_path: Path
) -> None:
    other = tmp_path / "other.json"
    processor = Database(tuned[1]).records()[0].setting.processor
    other.write_text(tuned[1].read_text().replace(processor, "Imaginary 9000"))
    executable, _ = run(model, tuning=str(other))
    reasons = [reason.text for reason in executable.reasons]
    assert any("were measured on Imaginary 9000 and are not used" in reason for reason in reasons)
    assert {layer.schedule for layer in executable.layers} == {layer.schedule for layer in run(model)[0].layers}


def test_mistakes_are_one_sentence(model: Any, tmp_path: Path) -> None:
    with pytest.raises(LhccError, match="does not exist"):
        lhcc.compile(model, tuning=str(tmp_path / "none.json"))
    with pytest.raises(LhccError, match="no time to tune"):
        lhcc.tune(model, budget_s=0)
    with pytest.raises(LhccError, match="takes no database to compile with"):
        lhcc.tune(model, tuning="tuning.json")
    with pytest.raises(LhccError, match="precision int8 have nothing to tune"):
        lhcc.tune(model, precision="int8")
    with pytest.raises(LhccError, match="target 'fpga' has nothing to tune"):
        lhcc.tune(model, target="fpga")


def test_the_model_was_made_right(model: Any) -> None:
    onnx.checker.check_model(model)
