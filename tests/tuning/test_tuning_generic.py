"""Operators without a generator of ours: their schedules are tuned and remembered like all other choices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from lhcc.runtime.library import import_tvm
from lhcc.targets.base import Options
from lhcc.tuning.database import Database, Record

import_tvm()

from lhcc.frontend import import_model  # noqa: E402
from lhcc.targets import base  # noqa: E402
from lhcc.targets.cpu import generic_tuning  # noqa: E402
from lhcc.targets.cpu.workload import setting  # noqa: E402


@pytest.fixture(scope="module")
def model() -> Any:
    maps = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 64]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Softmax", ["x"], ["y"], axis=1)], "net", maps[:1], maps[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def functions(model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The functions that TVM lowers, as the tuner and the compiler meet them."""
    found: list[Any] = []
    monkeypatch.setattr(generic_tuning, "_task", lambda key, function, *_: found.append(function))
    target: Any = base.parse("cpu")
    generic_tuning.tasks(import_model(model, None, None), target, target.machine, Options())
    monkeypatch.undo()
    return found


def test_the_compiler_takes_the_trace_that_is_known(
    model: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tvm
    from tvm.s_tir import Schedule

    from lhcc.ir.graph import plain

    (function,) = functions(model, monkeypatch)
    state = Schedule(tvm.IRModule({"main": function.with_attr("global_symbol", "main")}))
    block = state.get_child_blocks(state.get_sblock("root"))[0]
    state.unroll(state.get_loops(block)[0])
    machine: Any = base.parse("cpu").machine  # type: ignore[attr-defined]
    database, options = Database(tmp_path / "tuning.json"), Options(tuning=str(tmp_path / "tuning.json"))
    schedule = generic_tuning.TunedSchedule(machine, options)
    usual = str(generic_tuning.TunedSchedule(machine, Options())(function))
    assert str(schedule(function)) == usual
    for trace, expected in ((json.dumps(plain(state.trace.as_json())), str(state.mod["main"])), ("[[]]", usual)):
        database.path.unlink(missing_ok=True)
        choice = {"trace": trace}
        where = setting(machine, options)
        database.add(Record(generic_tuning.workload(function), where, choice, 1.0, 100.0, True))
        assert str(schedule(function)) == expected


@pytest.mark.slow
def test_drawn_schedules_compute_what_the_operator_does(
    model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lhcc.runtime.codegen import compile_kernels
    from lhcc.tuning.worker import Code, Worker

    monkeypatch.setattr(generic_tuning, "DRAWN", 3)
    target: Any = base.parse("cpu")
    (task,) = generic_tuning.tasks(import_model(model, None, None), target, target.machine, Options())
    problem, worker = task.problem(), Worker()
    x = problem.inputs[0].astype(np.float64)
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    np.testing.assert_allclose(problem.expected, powers / powers.sum(axis=1, keepdims=True), rtol=1e-5)
    assert len(task.choices) > 1
    worker.problem(0, problem)
    for number, choice in enumerate(task.choices):
        code = compile_kernels({"k": task.kernel(choice).function()}, target.tvm_target(), jobs=1)
        worker.load(number, 0, Code(code, "k", ()))  # raises when the result is wrong
