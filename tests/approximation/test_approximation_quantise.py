"""Integer programs from models: close to the float model, equal to what the model's own quantisers say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lhcc.approximation import approximate
from lhcc.approximation.calibrate import run
from lhcc.approximation.quantise import quantise
from lhcc.approximation.weights import Scale
from lhcc.errors import LhccError, TargetError, UnsupportedOperator
from lhcc.integer import WidthError
from tests.approximation.networks import images, network

RUNTIME = pytest.importorskip("onnxruntime")


def model_of(nodes: list[Any], shape: list[Any], out: list[Any], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("qonnx.custom_op.general", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


@pytest.mark.parametrize("kind", ["Relu", "Tanh", "Silu", "HardSwish"])
@pytest.mark.parametrize("scale", ["shift", "folded"])
def test_more_bits_come_closer_to_the_float_model(kind: str, scale: Scale) -> None:
    x = images(1, 64)
    answer = approximate(network(activation=kind), set="digits:2:4", scale=scale, activation_error=1 / 256)
    exact = run(answer.model, x)[0]
    errors = []
    for bits in (5, 8, 12):
        program = quantise(answer, x, bits=bits, accumulator_bits=60, activation_error=1 / 256)
        errors.append(float(np.abs(program(x) - exact).max() / np.abs(exact).max()))
    assert errors[0] > errors[2]
    assert errors[1] < 0.12
    assert errors[2] < 0.04


def test_power_of_two_models_need_no_multiplier() -> None:
    answer = approximate(network(), set="half", calibrate=images(2))
    program = quantise(answer)
    for step in program.instructions:
        assert np.all(getattr(step, "multiplier", 1) == 1)
    assert "first" in program.proof()


def test_without_data_nothing_can_clip() -> None:
    x = images(3, 16)
    answer = approximate(network(), set="two")
    program = quantise(answer, bits=16, accumulator_bits=60)
    values = program.trace({"x": program.quantise(x)[0]})
    for name, value in values.items():
        kind = program.types[name]
        assert (value >= kind.low).all() and (value <= kind.high).all()
    exact = run(answer.model, x)[0]
    np.testing.assert_allclose(program(x), exact, atol=0.02 * np.abs(exact).max())


def residual(rng: np.random.Generator) -> onnx.ModelProto:
    """Everything at once: stride, residual with a projection, concat, both pools, reshape of a real image."""

    def weight(*shape: int) -> np.ndarray:
        return (rng.integers(-3, 4, shape) / 8).astype(np.float32)

    constants = {
        "w1": weight(6, 2, 3, 3),
        "b1": weight(6),
        "w2": weight(6, 6, 3, 3),
        "wp": weight(6, 2, 1, 1),
        "w3": weight(5, 12 * 2 * 2),
        "b3": weight(5),
        "to": np.array([-1, 48], np.int64),
    }
    constants["wp"][2] = 0
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], "c1", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Relu", ["c1"], ["r1"], "r1"),
        node("Conv", ["r1", "w2"], ["c2"], "c2", auto_pad="SAME_UPPER"),
        node("Conv", ["x", "wp"], ["p"], "p", strides=[2, 2]),
        node("Add", ["c2", "p"], ["sum"], "sum"),
        node("Relu", ["sum"], ["r2"], "r2"),
        node("Concat", ["r2", "r1"], ["both"], "both", axis=1),
        node("MaxPool", ["both"], ["m"], "m", kernel_shape=[2, 2], strides=[1, 1]),
        node("AveragePool", ["m"], ["a"], "a", kernel_shape=[2, 2], strides=[1, 1]),
        node("Reshape", ["a", "to"], ["flat"], "flat"),
        node("Gemm", ["flat", "w3", "b3"], ["y"], "head", transB=1),
    ]
    return model_of(nodes, ["n", 2, 8, 8], ["n", 5], constants)


@pytest.mark.parametrize("seed", range(3))
def test_residuals_concats_and_flattened_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = residual(rng)
    x = (rng.integers(0, 16, (20, 2, 8, 8)) / 16).astype(np.float32)
    program = quantise(model, x, bits=14, accumulator_bits=60)
    exact = run(model, x)[0]
    np.testing.assert_allclose(program(x), exact, atol=2e-3 * np.abs(exact).max())


def flattened(between: str) -> onnx.ModelProto:
    """Conv, Flatten of a real image, something between, Gemm; or no Gemm."""
    rng = np.random.default_rng(7)
    node, flat = helper.make_node, 3 * 4 * 5
    constants: dict[str, np.ndarray] = {
        "w": (rng.integers(-3, 4, (3, 2, 3, 3)) / 8).astype(np.float32),
        "v": (rng.integers(-3, 4, (3, 2, 1, 1)) / 8).astype(np.float32),
        "head": (rng.integers(-3, 4, (6, flat * (2 if between == "Concat" else 1))) / 8).astype(np.float32),
        "scale": np.array(1 / 32, np.float32),
        "zero": np.array(0, np.int8),
    }
    nodes = [
        node("Conv", ["x", "w"], ["c"], "c", pads=[1, 1, 1, 1]),
        node("Flatten", ["c"], ["f"], "f"),
        node("Conv", ["x", "v"], ["d"], "d"),
        node("Flatten", ["d"], ["g"], "g"),
    ]
    if between == "QuantizeLinear":
        nodes += [node(between, ["f", "scale", "zero"], ["q"], "q")]
        nodes += [node("DequantizeLinear", ["q", "scale", "zero"], ["b"], "b")]
    elif between in ("Add", "Concat"):
        nodes.append(node(between, ["f", "g"], ["b"], "b", **({"axis": 1} if between == "Concat" else {})))
    else:
        nodes.append(node(between, ["f"], ["b"], "b"))
    nodes.append(node("Gemm", ["b", "head"], ["y"], "y", transB=1))
    read = {name for step in nodes for name in step.input} | {"y"}
    nodes = [step for step in nodes if step.output[0] in read and (step.name != "d" or "g" in read)]
    return model_of(nodes, ["n", 2, 4, 5], ["n", 6], {k: v for k, v in constants.items() if k in read})


@pytest.mark.parametrize(
    "between", ["Identity", "Relu", "Tanh", "Sigmoid", "HardSwish", "QuantizeLinear", "Add", "Concat"]
)
def test_whatever_reads_a_flattened_image_knows_its_order(between: str) -> None:
    model = flattened(between)
    x = (np.random.default_rng(1).integers(0, 16, (20, 2, 4, 5)) / 16).astype(np.float32)
    program = quantise(model, x, bits=12, accumulator_bits=60, activation_error=1 / 512)
    exact = run(model, x)[0]
    np.testing.assert_allclose(program(x), exact, atol=2e-2 * np.abs(exact).max())


def test_a_flattened_image_is_no_output() -> None:
    model = flattened("Relu")
    del model.graph.node[-1]
    model.graph.output[0].name = "b"
    with pytest.raises(UnsupportedOperator, match="output 'b' is a flattened image"):
        quantise(model)


def test_the_mean_of_an_image_with_a_scale_for_each_channel() -> None:
    rng = np.random.default_rng(2)
    node = helper.make_node
    scales = np.exp2(np.arange(6) - 4).reshape(6, 1, 1, 1)
    constants: dict[str, np.ndarray] = {
        "w": (rng.integers(-3, 4, (6, 2, 3, 3)) * scales).astype(np.float32),
        "head": (rng.integers(-3, 4, (5, 6)) / 8).astype(np.float32),
        "axes": np.array([2, 3], np.int64),
    }
    nodes = [
        node("Conv", ["x", "w"], ["c"], "c"),
        node("Tanh", ["c"], ["t"], "t"),
        node("ReduceMean", ["c", "axes"], ["m"], "m", keepdims=0),
        node("ReduceMean", ["t", "axes"], ["n"], "n", keepdims=0),
        node("Add", ["m", "n"], ["a"], "a"),
        node("Gemm", ["a", "head"], ["y"], "y", transB=1),
    ]
    model = model_of(nodes, ["n", 2, 6, 5], ["n", 5], constants)
    x = (rng.integers(0, 16, (20, 2, 6, 5)) / 16).astype(np.float32)
    program = quantise(model, x, bits=12, accumulator_bits=60, activation_error=1 / 512)
    exact = run(model, x)[0]
    np.testing.assert_allclose(program(x), exact, atol=2e-2 * np.abs(exact).max())


def qdq(rng: np.random.Generator, power: bool, zero: int) -> onnx.ModelProto:
    """Quantise, conv with int8 weights per channel and int32 bias, ReLU, quantise: as ONNX Runtime's tools write it."""
    pick = (lambda *s: np.exp2(rng.integers(-7, -4, s))) if power else (lambda *s: rng.uniform(0.01, 0.05, s))
    scales = {"sx": pick(), "sw": pick(4), "sy": pick() * 8}
    constants: dict[str, np.ndarray] = {key: np.asarray(value, dtype=np.float32) for key, value in scales.items()}
    constants |= {
        "zx": np.array(zero, np.uint8),
        "zy": np.array(0, np.uint8),
        "w": rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
        "zw": np.zeros(4, np.int8),
        "b": rng.integers(-4000, 4000, 4).astype(np.int32),
        "sb": (constants["sx"] * constants["sw"]).astype(np.float32),
        "zb": np.zeros(4, np.int32),
    }
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "sx", "zx"], ["xq"], "qx"),
        node("DequantizeLinear", ["xq", "sx", "zx"], ["xd"], "dx"),
        node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], "dw", axis=0),
        node("DequantizeLinear", ["b", "sb", "zb"], ["bd"], "db", axis=0),
        node("Conv", ["xd", "wd", "bd"], ["c"], "conv", pads=[1, 1, 1, 1] if zero == 0 else [0, 0, 0, 0]),
        node("Relu", ["c"], ["r"], "relu"),
        node("QuantizeLinear", ["r", "sy", "zy"], ["yq"], "qy"),
        node("DequantizeLinear", ["yq", "sy", "zy"], ["y"], "dy"),
    ]
    return model_of(nodes, ["n", 3, 6, 5], ["n", 4, None, None], constants)


@pytest.mark.parametrize("zero", [0, 113])
@pytest.mark.parametrize("power", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_qdq_models_give_onnx_runtimes_integers(seed: int, power: bool, zero: int) -> None:
    """Ours rounds halves up, ONNX to even: only results within a rounding of a tie may differ, and by one step."""
    rng = np.random.default_rng(seed)
    model = qdq(rng, power, zero)
    x = rng.uniform(-1, 3, (50, 3, 6, 5)).astype(np.float32)
    program = quantise(model)
    step = float(next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "sy"))
    theirs, ours = run(model, x)[0], np.asarray(program(x))
    assert ours.shape == theirs.shape
    difference = np.rint((ours - theirs) / step)
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.03
    multipliers = [np.asarray(s.multiplier) for s in program.instructions if hasattr(s, "multiplier")]
    assert all((m == 1).all() for m in multipliers) == power


def test_qlinear_conv_gives_onnx_runtimes_integers() -> None:
    rng = np.random.default_rng(5)
    names = ["xq", "sx", "zx", "w", "sw", "zw", "sy", "zy", "b"]
    source = qdq(rng, True, 0)
    constants = {
        t.name: np.asarray(numpy_helper.to_array(t)) for t in source.graph.initializer if t.name not in ("sb", "zb")
    }
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "sx", "zx"], ["xq"], "qx"),
        node("QLinearConv", names, ["yq"], "conv", pads=[1, 1, 1, 1]),
        node("DequantizeLinear", ["yq", "sy", "zy"], ["y"], "dy"),
    ]
    model = model_of(nodes, ["n", 3, 6, 5], ["n", 4, None, None], constants)
    x = rng.uniform(-1, 3, (50, 3, 6, 5)).astype(np.float32)
    difference = np.rint((quantise(model)(x) - run(model, x)[0]) / float(constants["sy"]))
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.03


def test_qonnx_quant_nodes() -> None:
    """Against the definition: clip(round(x / scale + zero), low, high) - zero, times scale."""
    rng = np.random.default_rng(6)
    w = rng.normal(size=(4, 2, 3, 3)).astype(np.float32)

    def f32(value: float) -> np.ndarray:
        return np.asarray(value, np.float32)

    constants = {
        "w": w,
        "sw": np.exp2(rng.integers(-4, -1, (4, 1, 1, 1))).astype(np.float32),
        "sx": f32(1 / 16),
        "sy": f32(1 / 8),
        "zero": f32(0),
        "four": f32(4),
        "eight": f32(8),
    }
    node, domain = helper.make_node, "qonnx.custom_op.general"
    nodes = [
        node("Quant", ["x", "sx", "zero", "eight"], ["xq"], "qx", domain=domain, signed=1, narrow=0),
        node("Quant", ["w", "sw", "zero", "four"], ["wq"], "qw", domain=domain, signed=1, narrow=1),
        node("Conv", ["xq", "wq"], ["c"], "conv"),
        node("Relu", ["c"], ["r"], "relu"),
        node("Quant", ["r", "sy", "zero", "four"], ["y"], "qy", domain=domain, signed=0, narrow=0),
    ]
    model = model_of(nodes, ["n", 2, 5, 5], ["n", 4, 3, 3], constants)
    x = rng.normal(size=(30, 2, 5, 5)).astype(np.float32)
    program = quantise(model)
    xq = np.clip(np.floor(x * 16 + 0.5), -128, 127) / 16
    wq = np.clip(np.rint(w / constants["sw"]), -7, 7) * constants["sw"]
    sums = np.zeros((30, 4, 3, 3))
    for i in range(3):
        for j in range(3):
            sums += np.einsum("nchw,oc->nohw", xq[:, :, i : i + 3, j : j + 3], wq[:, :, i, j])
    expected = np.clip(np.floor(np.maximum(sums, 0) * 8 + 0.5), 0, 15) / 8
    np.testing.assert_array_equal(program(x), expected.astype(np.float32))


def test_float_weights_point_to_approximate() -> None:
    with pytest.raises(TargetError, match="layer 'first' has weights that are not dyadic: filter 0 ") as caught:
        quantise(network(batch_norm=False))
    assert "lhcc approximate" in str(caught.value)


def test_weights_of_more_bits_than_an_integer_program_holds_are_told_so() -> None:
    def one_layer(largest: int) -> onnx.ModelProto:
        node = helper.make_node("Gemm", ["x", "w"], ["y"], "head", transB=1)
        return model_of([node], ["n", 2], ["n", 1], {"w": np.array([[1, largest]], np.float32)})

    quantise(one_layer((1 << 12) - 1), ranges="interval")
    with pytest.raises(TargetError, match="layer 'head' .* 13 bits, sign included, and takes 14 bits") as caught:
        quantise(one_layer((1 << 12) + 1), ranges="interval")
    assert "--weight-bits 13 at most" in str(caught.value)


def test_accumulators_that_grow_too_wide_are_named() -> None:
    answer = approximate(network(), set="digits:2:5")
    with pytest.raises(WidthError, match="needs \\d+ bits, and 12 are there"):
        quantise(answer, images(4), accumulator_bits=12)


def test_accumulators_beyond_32_bits_name_the_layer_and_its_width() -> None:
    answer = approximate(network(batch_norm=False), set="digits:2:5")
    with pytest.raises(WidthError, match="'first' needs (3[3-9]|4\\d) bits, and 32 are there"):
        quantise(answer, images(4), bits=24)


def test_operators_without_an_integer_form_are_listed() -> None:
    model = network()
    model.graph.node[-1].output[0] = "logits"
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["y"], "softmax"))
    with pytest.raises(UnsupportedOperator, match="no Softmax"):
        quantise(approximate(model, set="two"))


@pytest.mark.slow
def test_digits_network_loses_at_most_one_image() -> None:
    folder = Path(__file__).resolve().parents[2] / "examples" / "digits"
    with np.load(folder / "held_out.npz") as stored:
        x, labels = stored["pixels"].astype(np.float32)[:, None] / np.float32(16), stored["labels"]
    model = onnx.load(folder / "vgg.onnx")
    exact = (run(model, x)[0].argmax(axis=1) == labels).sum()
    answer = approximate(model, set="digits:2:4")
    program = quantise(answer, x[:100])
    assert (np.asarray(program(x)).argmax(axis=1) == labels).sum() >= exact - 2


@pytest.mark.parametrize("network", ["vgg", "resnet"])
def test_ranges_without_data_keep_a_trained_network_useful(network: str) -> None:
    folder = Path(__file__).resolve().parents[2] / "examples" / "digits"
    with np.load(folder / "held_out.npz") as stored:
        x, labels = stored["pixels"].astype(np.float32)[:, None] / np.float32(16), stored["labels"]
    dyadic = approximate(onnx.load(folder / f"{network}.onnx"), set="digits:2:5")
    scores = np.asarray(quantise(dyadic)(x)).reshape(len(labels), -1)
    assert (scores.argmax(axis=1) == labels).mean() > 0.97
    with pytest.raises(LhccError, match="'synthetic' or 'interval'"):
        quantise(dyadic, ranges="wide")
