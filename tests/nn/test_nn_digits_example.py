"""The shipped digit networks are what their table says: accuracy, density and cost, measured again from the files."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from lhcc.inspection import Kind, recognise  # noqa: E402

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "digits"
RESULTS = json.loads((EXAMPLE / "results.json").read_text())["networks"]


def data_module() -> Any:
    spec = importlib.util.spec_from_file_location("digits_data", EXAMPLE / "data.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def weights(file: str) -> dict[str, Any]:
    tensors = onnx.load(EXAMPLE / file).graph.initializer
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in tensors}
    return {name: array for name, array in arrays.items() if array.ndim == 4}


def correct(file: str) -> int:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(EXAMPLE / file))
    (name,) = (node.name for node in session.get_inputs())
    images, labels = data_module().held_out()
    named = np.array([np.argmax(session.run(None, {name: image[None]})[0]) for image in images])
    return int(np.sum(named == labels))


@pytest.mark.parametrize("row", RESULTS, ids=lambda row: row["file"])
def test_accuracy(row: dict[str, Any]) -> None:
    # Another processor may round a digit on the border of two classes the other way.
    assert abs(correct(row["file"]) - row["correct"]) <= 1
    assert abs(correct(row["dense_file"]) - row["correct_dense"]) <= 1
    assert row["correct_dense"] > 0.97 * row["held_out"]
    assert row["correct"] > 0.97 * row["held_out"]


@pytest.mark.parametrize("row", RESULTS, ids=lambda row: row["file"])
def test_density_and_structure(row: dict[str, Any]) -> None:
    first, *shaped = weights(row["file"]).values()
    assert recognise(first).kind == Kind.DENSE
    kept = sum(np.count_nonzero(weight) for weight in shaped)
    assert kept / sum(weight.size for weight in shaped) == pytest.approx(row["density"], abs=1e-4)
    kinds = [recognise(weight).kind for weight in shaped if weight.shape[2:] == (3, 3)]
    expected = Kind.LHC_FREE if row["shapes"] == "free" else Kind.LHC_RIGID
    # A layer may have become empty, or have kept so few blocks that another name is as good.
    assert kinds.count(expected) >= len(kinds) - 2
    assert set(kinds) <= {expected, Kind.EMPTY, Kind.LHC_FREE}


@pytest.mark.parametrize("row", RESULTS, ids=lambda row: row["file"])
def test_multiply_adds(row: dict[str, Any]) -> None:
    pytest.importorskip("tvm")
    from lhcc.frontend import import_model
    from lhcc.inspection import inspect_module

    report = inspect_module(import_model(EXAMPLE / row["file"]))
    assert (report.macs, report.macs_kept) == (row["macs"], row["macs_kept"])
    assert inspect_module(import_model(EXAMPLE / row["dense_file"])).macs_kept == row["macs"]


def test_files_are_small_and_name_no_machine() -> None:
    files = list(EXAMPLE.glob("*.onnx"))
    assert len(files) == 6
    for file in files:
        assert file.stat().st_size < 2_000_000
        assert b".py" not in file.read_bytes()


def test_the_held_out_digits_come_from_the_seed() -> None:
    pytest.importorskip("sklearn")
    module = data_module()
    train_images, _, images, labels = module.split()
    stored_images, stored_labels = module.held_out()
    assert np.array_equal(images, stored_images)
    assert np.array_equal(labels, stored_labels)
    assert (len(train_images), len(images)) == (1437, 360)
