"""Networks that a circuit cannot hold whole: the cut, the answer of the parts together, what `strict` and `why` say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lhcc
from lhcc.errors import ArtifactError, LhccError, UnsupportedOperator
from lhcc.partition import partition
from lhcc.runtime.mixed import Mixed


def network(before: bool, after: bool, float_layer: bool = False, side: bool = False) -> Any:
    """Two dyadic layers; in front of them what no integer program has, behind them a float layer and a softmax."""
    rng = np.random.default_rng(0)
    constants, nodes = {}, []
    x = "x"
    if before:
        constants["mean"] = np.array([[[[0.3]], [[0.1]]]], np.float32)
        nodes += [helper.make_node("Sub", [x, "mean"], ["centred"], name="centre")]
        x = "centred"
    constants["w1"] = rng.choice([-0.5, 0, 0.25, 1], (4, 2, 3, 3)).astype(np.float32)
    nodes += [helper.make_node("Conv", [x, "w1"], ["c1"], name="first", pads=[1, 1, 1, 1])]
    nodes += [helper.make_node("Relu", ["c1"], ["r1"], name="relu")]
    constants["w2"] = rng.choice([-0.5, 0, 0.25, 1], (3, 4, 1, 1)).astype(np.float32)
    nodes += [helper.make_node("Conv", ["r1", "w2"], ["c2"], name="second")]
    last = "c2"
    if float_layer:
        constants["w3"] = rng.normal(size=(3, 3, 1, 1)).astype(np.float32)
        nodes += [helper.make_node("Conv", [last, "w3"], ["c3"], name="third")]
        last = "c3"
    if after:
        nodes += [helper.make_node("Softmax", [last], ["soft"], name="softmax", axis=1)]
        last = "soft"
    outputs = [last, "r1"] if side else [last]
    shapes = {"r1": [1, 4, 5, 5]}
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 5, 5])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, shapes.get(o, [1, 3, 5, 5])) for o in outputs],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def image() -> np.ndarray:
    return np.random.default_rng(1).random((1, 2, 5, 5)).astype(np.float32)


@pytest.mark.parametrize(
    ("model", "outside"),
    [
        (network(False, False), []),
        (network(False, True), ["softmax"]),
        (network(True, True), ["centre", "softmax"]),
        (network(False, True, float_layer=True), ["third", "softmax"]),
    ],
    ids=["whole", "after", "both", "float layer"],
)
def test_the_cut(model: Any, outside: list[str]) -> None:
    parts = partition(model)
    assert [reason.layer for reason in parts.reasons] == outside
    (region,) = parts.regions
    assert {"first", "second"} <= {node.name for node in region.model.graph.node}
    assert (region.before is not None) == ("centre" in outside)
    assert [node.name for node in parts.model.graph.node if node.domain == "lhcc"] == [region.name]
    assert {node.name for node in parts.model.graph.node} == {region.name, *outside}


def test_nothing_to_hold() -> None:
    model = network(False, True)
    for tensor in model.graph.initializer:
        values = np.random.default_rng(2).normal(size=numpy_helper.to_array(tensor).shape)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
    assert not partition(model).regions
    with pytest.raises(LhccError, match="lhcc approximate"):
        lhcc.compile(model, target="fpga")


def test_strict_names_what_is_outside() -> None:
    with pytest.raises(UnsupportedOperator, match="'softmax' outside the circuit: Softmax has no integer form"):
        lhcc.compile(network(False, True), target="fpga", strict=True)


@pytest.mark.verilator
@pytest.mark.parametrize("before", [False, True])
def test_circuit_and_processor_together(before: bool, tmp_path: Path) -> None:
    model = network(before, True, side=True)
    exe: Any = lhcc.compile(model, target="fpga:reuse=1", calibrate=np.repeat(image(), 4, 0))
    assert isinstance(exe, Mixed)
    x = image()
    soft, side = exe(x)
    shifted = x - np.array([[[[0.3]], [[0.1]]]], np.float32) if before else x
    (circuit,) = exe.circuits
    want = dict(zip(circuit.ported.program.outputs, circuit.ported.program(shifted), strict=True))
    logits, relu = sorted(want.values(), key=lambda y: y.shape[1])
    assert (side == relu).all()
    power = np.exp(logits - logits.max(1, keepdims=True))
    assert np.abs(soft - power / power.sum(1, keepdims=True)).max() < 1e-6
    exe.save(tmp_path / "mixed.lhcc")
    again: Any = lhcc.load(tmp_path / "mixed.lhcc")
    assert all((a == b).all() for a, b in zip(again(x), (soft, side), strict=True))
    assert [r.layer for r in again.reasons] == (["centre"] if before else []) + ["softmax"]
    data = json.loads(again.profile(x, synthesis=False).json())
    assert list(data) == ["processor", "circuit"]
    assert [layer["name"] for layer in data["processor"]["layers"]] == [r.layer for r in again.reasons]
    assert data["circuit"]["simulated_cycles"] == data["circuit"]["predicted_cycles"]
    several = np.concatenate([x, x])
    assert (exe(several)[0] == np.concatenate([soft, soft])).all()  # a part of fixed batch takes one after the other


def test_damaged_files_are_told(tmp_path: Path) -> None:
    exe: Any = lhcc.compile(network(False, False), target="fpga")
    path = tmp_path / "design.lhcc"
    exe.save(path)
    assert lhcc.load(path).files == exe.files  # type: ignore[attr-defined]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="damaged"):
        lhcc.load(path)
