"""Convolutions by single weights and by patterns: every choice computes the same, and what is tuned is compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lhcc
from lhcc.runtime.library import import_tvm
from lhcc.targets import base
from lhcc.targets.base import Options
from lhcc.tuning.database import Database, Record

import_tvm()

from lhcc.frontend import import_model  # noqa: E402
from lhcc.runtime.codegen import compile_kernels  # noqa: E402
from lhcc.targets.cpu.wide_choice import WideChoice  # noqa: E402
from lhcc.tuning.space import space_of  # noqa: E402
from lhcc.tuning.worker import Code, Worker  # noqa: E402

MACHINE: Any = base.parse("cpu").machine  # type: ignore[attr-defined]


def network(size: int, kernel: int = 3, stride: int = 1, by_pattern: bool = False, added: bool = False) -> Any:
    """One convolution of 64 channels whose zeros follow no block."""
    rng = np.random.default_rng(size + kernel)
    weight = rng.standard_normal((64, 64, kernel, kernel)).astype(np.float32)
    if by_pattern:
        patterns = np.array([[1, 1, 0, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 0, 1, 1]], np.float32)
        weight *= patterns[rng.integers(0, 2, (64, 64))].reshape(weight.shape)
    else:
        weight *= rng.random(weight.shape) < 0.1
    out = (size + stride - 1) // stride
    node = helper.make_node("Conv", ["x", "w"], ["c"], pads=[kernel // 2] * 4, strides=[stride] * 2, name="conv")
    last = helper.make_node("Add", ["c", "r"], ["y"]) if added else helper.make_node("Relu", ["c"], ["y"])
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64, size, size])]
    inputs += [helper.make_tensor_value_info("r", TensorProto.FLOAT, [1, 64, out, out])] * added
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64, out, out])]
    graph = helper.make_graph([node, last], "net", inputs, outputs, [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def task(model: onnx.ModelProto) -> Any:
    (found,) = space_of("cpu", Options()).tasks(import_model(model))
    return found


CASES = [network(21), network(24, stride=2), network(17, kernel=1), network(16, added=True)]


@pytest.mark.parametrize(
    "model", [*CASES, network(13, by_pattern=True)], ids=["single", "strided", "1x1", "added", "patterns"]
)
def test_every_choice_computes_the_convolution(model: onnx.ModelProto) -> None:
    work, worker = task(model), Worker()
    assert work.workload.startswith("single weights") and len(work.choices) > 2
    assert len({str(choice) for choice in work.choices}) == len(work.choices)
    worker.problem(0, work.problem())
    for number in (0, *np.random.default_rng(0).integers(1, len(work.choices), 1)):
        kernel = work.kernel(work.choices[number])
        library = compile_kernels({"k": kernel.function()}, MACHINE.tvm_target(), jobs=1)
        worker.load(int(number), 0, Code(library, "k", kernel.constants))  # raises when the result is wrong


def test_what_is_tuned_is_compiled(tmp_path: Path) -> None:
    model = CASES[0]
    work = task(model)
    plain = lhcc.compile(model)
    (before,) = [layer.schedule for layer in plain.layers if layer.op == "conv2d"]
    database = Database(tmp_path / "tuning.json")
    choice = work.choices[-1]
    where = space_of("cpu", Options()).setting(lhcc_processor())
    database.add(Record(work.workload, where, dict(choice), 1.0, 2.0, True))
    tuned = lhcc.compile(model, tuning=str(database.path))
    (after,) = [layer.schedule for layer in tuned.layers if layer.op == "conv2d"]
    assert after != before and after.startswith(f"{choice['rows']}x") and f"{choice['near']} inputs" in after
    assert any("tuned: single weights" in reason.text for reason in tuned.reasons)
    x = plain.random_inputs()
    np.testing.assert_allclose(tuned(*x), plain(*x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("change", [{"rows": 40}, {"vectors": 9}, {"near": 0}, {"rows": True}])
def test_an_impossible_choice_is_refused_with_the_reason(change: dict[str, int], tmp_path: Path) -> None:
    work = task(CASES[0])
    database = Database(tmp_path / "tuning.json")
    where = space_of("cpu", Options()).setting(lhcc_processor())
    database.add(Record(work.workload, where, {**work.choices[0], **change}, 1.0, 2.0, True))
    compiled = lhcc.compile(CASES[0], tuning=str(database.path))
    assert any("not tuned: " in reason.text for reason in compiled.reasons)


def test_a_choice_survives_being_written_down() -> None:
    choice = WideChoice(False, 3, 2, 8)
    assert WideChoice.from_dict(choice.to_dict()) == choice and "3 rows of 2 vectors" in str(choice)


def lhcc_processor() -> str:
    from lhcc.runtime.machine import processor_name

    return processor_name()
