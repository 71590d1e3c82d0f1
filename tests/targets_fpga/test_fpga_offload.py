"""Networks with something in the middle that no circuit takes: several circuits, and the processor in between."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lhcc
from lhcc.approximation.quantise import quantise
from lhcc.errors import InputError, UnsupportedOperator
from lhcc.report.reasons import of_model
from lhcc.runtime.mixed import Mixed

SHAPE = (1, 2, 5, 4)
FOLDED = "fpga:reuse=folded"


def network(*middle: tuple[str, dict[str, Any]], second_input: bool = False) -> Any:
    """conv, what is asked for, conv; all weights dyadic."""
    rng = np.random.default_rng(3)
    constants = {
        "w1": rng.choice([-0.5, 0, 0.25, 1], (4, 2, 3, 3)).astype(np.float32),
        "w2": rng.choice([-0.5, 0, 0.25, 1], (3, 4, 1, 1)).astype(np.float32),
    }
    nodes, last = [helper.make_node("Conv", ["x", "w1"], ["c1"], name="first", pads=[1, 1, 1, 1])], "c1"
    for operator, attributes in middle:
        made = f"{last}_{operator.lower()}"
        nodes.append(helper.make_node(operator, [last], [made], name=operator.lower(), **attributes))
        last = made
    nodes.append(helper.make_node("Conv", [last, "w2"], ["c2"], name="second"))
    inputs, last = [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)], "c2"
    if second_input:
        inputs.append(helper.make_tensor_value_info("bias", TensorProto.FLOAT, [1, 3, 1, 1]))
        nodes.append(helper.make_node("Sub", [last, "bias"], ["difference"], name="minus"))
        last = "difference"
    graph = helper.make_graph(
        nodes, "g", inputs, [helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, 3, 5, 4])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def images(count: int = 1) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, *SHAPE[1:])).astype(np.float32)


@pytest.mark.verilator
def test_a_refused_instruction_keeps_its_integers(tmp_path: Path) -> None:
    model = network(("Sigmoid", {}))
    exe: Any = lhcc.compile(model, target=FOLDED, calibrate=images(8))
    assert isinstance(exe, Mixed)
    assert len(exe.circuits) == 2
    (reason,) = exe.reasons
    assert (
        reason.text
        == f"outside the circuit: '{reason.layer}': the folded array has no activation by table of this form"
    )
    assert [layer.op for layer in exe.program.layers if layer.op.startswith("int_")] == ["int_piecewise"]
    program, x = quantise(model, images(8)), images(3)
    want = program(x)
    got = exe(x)
    assert got.dtype == np.float32
    assert (got == want).all()
    assert (exe.functional(x) == want).all()
    exe.save(tmp_path / "mixed.lhcc")
    np.save(tmp_path / "x.npy", x)
    code = "import sys, numpy, lhcc; numpy.save(sys.argv[3], lhcc.load(sys.argv[1])(numpy.load(sys.argv[2])))"
    paths = [str(tmp_path / name) for name in ("mixed.lhcc", "x.npy", "y.npy")]
    subprocess.run([sys.executable, "-c", code, *paths], check=True, cwd=Path(__file__).parents[2])
    assert (np.load(tmp_path / "y.npy") == want).all()
    assert (exe.export(tmp_path / "designs") / "circuit1" / "Makefile").exists()
    with pytest.raises(InputError, match="holds NaN"):
        exe(np.full_like(x, np.nan))


@pytest.mark.verilator
def test_floats_between_two_circuits() -> None:
    exe: Any = lhcc.compile(network(("Softmax", {"axis": 1})), target="fpga:reuse=1", calibrate=images(8))
    assert [reason.layer for reason in exe.reasons] == ["softmax"]
    first, second = (circuit.ported.program for circuit in exe.circuits)
    logits = first(images())
    power = np.exp(logits - logits.max(1, keepdims=True))
    want = second(power / power.sum(1, keepdims=True))
    step = float(
        second.types[second.inputs[0].name].scale
    )  # a softmax that differs in its last bit may round elsewhere
    assert np.abs(exe(images()) - want).max() <= 4 * step
    data = exe.profile(images(), synthesis=False)
    assert list(data.parts) == ["processor", "circuit0", "circuit1"]
    assert all(part.simulated_cycles == part.predicted_cycles for part in list(data.parts.values())[1:])


def test_a_second_input_is_for_the_processor() -> None:
    exe: Any = lhcc.compile(network(second_input=True), target="fpga:reuse=1")
    (circuit,) = exe.circuits
    bias = np.array([1, 2, 3], np.float32).reshape(1, 3, 1, 1)
    assert (exe.functional(images(), bias) == circuit.ported.program(images()) - bias).all()


def test_why_and_strict_name_what_is_refused() -> None:
    model = network(("Sigmoid", {}))
    assert of_model(model, "fpga:reuse=1", {}, {}) == []
    (reason,) = of_model(model, FOLDED, {}, {})
    assert "no activation by table" in reason.text
    with pytest.raises(UnsupportedOperator, match="cannot hold the whole network: .* no activation by table"):
        lhcc.compile(model, target=FOLDED, strict=True)
    exe: Any = lhcc.compile(model, target="fpga:reuse=1", strict=True)
    assert not isinstance(exe, Mixed)


def test_why_nothing_is_placed() -> None:
    model = network()
    for tensor in model.graph.initializer:
        noise = np.random.default_rng(0).normal(size=tuple(tensor.dims)).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(noise, tensor.name))
    assert [reason.layer for reason in of_model(model, "fpga", {}, {})] == ["first", "second"]
