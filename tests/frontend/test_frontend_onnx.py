"""Importing ONNX models: binding of dimensions, folding, names, and what is said when something is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lhcc
from lhcc.errors import InputError, ModelError, UnsupportedOperator
from lhcc.frontend import import_model


def model(
    nodes: list[Any],
    shape: list[Any],
    weights: dict[str, Any] | None = None,
    opset: int = 17,
    outputs: tuple[str, ...] = ("y",),
    dtype: int = TensorProto.FLOAT,
) -> Any:
    """A model with the one input x."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("other", 1)])


def bindings(module: Any) -> list[tuple[str, str]]:
    """(layer, operator) of every binding of main."""
    (block,) = module["main"].body.blocks
    return [(b.var.name, b.value.op.name.removeprefix("relax.")) for b in block.bindings if hasattr(b.value, "op")]


def shape_of_result(module: Any) -> list[int]:
    return [int(n) for n in module["main"].ret_ty.shape.values]


CONV = helper.make_node("Conv", ["x", "w", "b"], ["c"], name="stem/conv", pads=[1, 1, 1, 1])
WEIGHTS = {"w": np.ones((4, 3, 3, 3), np.float32), "b": np.ones(4, np.float32)}


def test_layers_bear_the_names_of_nodes_or_else_of_their_outputs() -> None:
    relu = helper.make_node("Relu", ["c"], ["y"])
    found = bindings(import_model(model([CONV, relu], [1, 3, 5, 5], WEIGHTS)))
    assert found == [("stem/conv", "nn.conv2d"), ("stem/conv", "add"), ("y", "nn.relu")]


def test_shape_arithmetic_vanishes() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "zeros"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    weights = {"zero": np.int64(0), "zeros": np.array([0]), "rest": np.array([-1])}
    module = import_model(model(nodes, ["batch", 3, 4], weights), input_shapes={"x": (5, 3, 4)})
    assert bindings(module) == [("y", "reshape")]
    assert shape_of_result(module) == [5, 12]


def test_an_if_with_a_known_condition_becomes_its_branch() -> None:
    def branch(operator: str) -> Any:
        return helper.make_graph(
            [helper.make_node(operator, ["x"], ["r"])], operator, [], [onnx.ValueInfoProto(name="r")]
        )

    node = helper.make_node("If", ["flag"], ["y"], then_branch=branch("Relu"), else_branch=branch("Tanh"))
    for flag, operator in ((True, "nn.relu"), (False, "tanh")):
        assert bindings(import_model(model([node], [2], {"flag": np.bool_(flag)})))[0][1] == operator


def test_functions_of_the_model_are_inlined_under_the_callers_name() -> None:
    function = helper.make_function(
        "other", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    graph = model([helper.make_node("Twice", ["x"], ["y"], name="mine", domain="other")], [2])
    graph.functions.append(function)
    assert bindings(import_model(graph)) == [("mine", "add")]


def test_batch_norm_becomes_a_multiply_and_an_add() -> None:
    rng = np.random.default_rng(0)
    weights = {name: rng.random(3).astype(np.float32) + 0.5 for name in "gbmv"}
    node = helper.make_node("BatchNormalization", ["x", *"gbmv"], ["y"], epsilon=1e-3)
    (block,) = import_model(model([node], [1, 3, 2, 2], weights))["main"].body.blocks
    scale, shift = (block.bindings[i].value.args[1].value.numpy() for i in (0, 1))
    expected = weights["g"].astype(np.float64) / np.sqrt(weights["v"].astype(np.float64) + 1e-3)
    np.testing.assert_allclose(scale.reshape(-1), expected, rtol=1e-7)
    np.testing.assert_allclose(shift.reshape(-1), weights["b"] - weights["m"] * expected, rtol=1e-6)


def test_every_unsupported_operator_is_listed_with_its_nodes() -> None:
    nodes = [
        helper.make_node("Fancy", ["x"], ["a"], name="first", domain="other"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("NonZero", ["x"], ["c"], name="where"),
        helper.make_node("Fancy", ["b"], ["y"], domain="other"),
    ]
    with pytest.raises(UnsupportedOperator) as caught:
        import_model(model(nodes, [2, 2]))
    assert caught.value.message == "2 operators are not supported: other::Fancy (in 'first', 'y'); NonZero (in 'where')"


def test_an_operator_that_is_supported_but_not_in_this_form() -> None:
    node = helper.make_node("MaxPool", ["x"], ["y", "places"], name="pool", kernel_shape=[2, 2])
    with pytest.raises(UnsupportedOperator, match=r"1 operator is not supported: MaxPool \(in 'pool': the indices"):
        import_model(model([node], [1, 1, 4, 4], outputs=("y", "places")))


@pytest.mark.parametrize(
    ("shape", "given", "message"),
    [
        (["N", 3], {}, r"dimension 0 \('N'\) of input 'x' has no fixed size"),
        ([None, 3], {}, "dimension 0 of input 'x' has no fixed size"),
        (["N", 3], {"input_shapes": {"x": (2, 4)}}, "dimension 1 of input 'x' is 3 in the model, not 4"),
        (["N", 3], {"input_shapes": {"x": (2, 3, 1)}}, "input 'x' has 2 dimensions, not the 3 of 2x3x1"),
        (["N", 3], {"input_shapes": {"z": (2, 3)}}, "the model has no input 'z'"),
        (["N", 3], {"inputs": [np.zeros((2, 3))] * 2}, r"the model takes 1 inputs \(x\), 2 were given"),
    ],
)
def test_binding_of_dimensions(shape: list[Any], given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        import_model(model([helper.make_node("Relu", ["x"], ["y"])], shape), **given)


def test_open_dimensions_are_bound_by_inputs_and_by_shapes() -> None:
    graph = model([helper.make_node("Relu", ["x"], ["y"])], ["N", 3])
    for given in (
        {"inputs": np.zeros((2, 3), np.float32)},
        {"inputs": {"x": np.zeros((2, 3))}},
        {"input_shapes": {"x": (2, 3)}},
    ):
        assert shape_of_result(import_model(graph, **given)) == [2, 3]


def test_missing_and_corrupt_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no file '.*none.onnx'"):
        import_model(tmp_path / "none.onnx")
    whole = model([CONV], [1, 3, 5, 5], WEIGHTS, outputs=("c",)).SerializeToString()
    for name, content in (("noise", b"\xff\x00noise" * 9), ("cut", whole[: len(whole) // 2]), ("empty", b"")):
        (tmp_path / f"{name}.onnx").write_bytes(content)
        with pytest.raises(ModelError, match=rf"'.*{name}.onnx' is not a readable ONNX file"):
            import_model(tmp_path / f"{name}.onnx")
    (tmp_path / "model.txt").write_text("text")
    with pytest.raises(ModelError, match="neither an .onnx nor a .pt2 file"):
        import_model(str(tmp_path / "model.txt"))


def test_a_tensor_that_nothing_produces() -> None:
    with pytest.raises(ModelError, match="node 'y' reads the tensor 'ghost', which nothing produces"):
        import_model(model([helper.make_node("Relu", ["ghost"], ["y"])], [2]))


@pytest.mark.parametrize(
    ("node", "named"),
    [
        (CONV, r"Conv 'stem/conv' cannot take x float32\[1, 4, 5, 5\], w float32\[4, 3, 3, 3\], b float32\[4\]"),
        (helper.make_node("MatMul", ["x", "w"], ["c"], name="product"), "MatMul 'product' cannot take x"),
        (helper.make_node("Add", ["x", "w"], ["c"], name="sum"), "Add 'sum' cannot take x"),
        (helper.make_node("Concat", ["x", "w"], ["c"], name="join", axis=2), "Concat 'join' cannot take x"),
    ],
)
def test_operands_that_do_not_fit_each_other(node: Any, named: str) -> None:
    with pytest.raises(ModelError, match=named):
        import_model(model([node], [1, 4, 5, 5], WEIGHTS, outputs=("c",)))


def test_maps_that_are_too_large() -> None:
    relu = helper.make_node("Relu", ["c"], ["y"])
    with pytest.raises(ModelError, match="is a map of [0-9,]* numbers, and 2,147,483,647 are the most"):
        import_model(model([CONV, relu], [1, 3, "h", "w"], WEIGHTS), input_shapes={"x": (1, 3, 30000, 30000)})


def test_an_element_type_that_cannot_be_compiled() -> None:
    with pytest.raises(ModelError, match="input 'x' is of type object, which cannot be compiled"):
        import_model(model([helper.make_node("Identity", ["x"], ["y"])], [2], dtype=TensorProto.STRING))


def test_nan_weights_are_warned_of_by_name() -> None:
    weights = {**WEIGHTS, "w": np.full((4, 3, 3, 3), np.nan, np.float32)}
    with pytest.warns(UserWarning, match="weight 'w' contains NaN"):
        import_model(model([CONV], [1, 3, 5, 5], weights, outputs=("c",)))


def test_sums_and_maxima_of_many_operands_go_two_by_two() -> None:
    nodes = [
        helper.make_node("Max", ["x", "zero"], ["m"], name="relu"),
        helper.make_node("Sum", ["m", "x", "m"], ["s"], name="residual"),
        helper.make_node("Mean", ["s", "x"], ["y"], name="mean"),
    ]
    module = import_model(model(nodes, [2, 3], {"zero": np.zeros((), np.float32)}))
    assert bindings(module) == [
        ("relu", "maximum"), ("residual", "add"), ("residual", "add"), ("mean", "add"), ("mean", "divide"),
    ]  # fmt: skip


def test_a_shape_that_an_operator_asks_for_on_its_own_is_no_obstacle() -> None:
    """TVM's converter of GatherND reads the shape of its data, which is known."""
    nodes = [helper.make_node("GatherND", ["x", "at"], ["y"])]
    assert shape_of_result(import_model(model(nodes, [2, 3], {"at": np.array([[0, 1], [1, 2]])}))) == [2]


@pytest.mark.parametrize("largest", [0, 1])
def test_the_first_elements_of_an_order_need_no_sorting(largest: int) -> None:
    node = helper.make_node("TopK", ["x", "k"], ["y", "at"], axis=1, largest=largest)
    x = np.random.default_rng(largest).integers(0, 5, (2, 9, 3)).astype(np.float32)
    compiled = lhcc.compile(model([node], [2, 9, 3], {"k": np.array([4])}, outputs=("y", "at")))
    at = np.argsort(-x if largest else x, axis=1, kind="stable")[:, :4]
    for found, expected in zip(compiled(x), (np.take_along_axis(x, at, 1), at), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_too_many_elements_to_rank() -> None:
    node = helper.make_node("TopK", ["x", "k"], ["y", ""], name="best")
    with pytest.raises(UnsupportedOperator, match="'best': of 5000 elements, more than 4096"):
        import_model(model([node], [5000], {"k": np.array([4])}))


def test_one_hot_vectors_along_any_axis() -> None:
    node = helper.make_node("OneHot", ["x", "depth", "values"], ["y"], axis=1)
    weights = {"depth": np.array([3]), "values": np.array([-1, 2], np.float32)}
    compiled = lhcc.compile(model([node], [2, 2], weights, dtype=TensorProto.INT64))
    expected = np.full((2, 3, 2), -1, np.float32)
    expected[0, 2, 0] = expected[0, 1, 1] = expected[1, 0, 0] = 2  # 7 is no place
    np.testing.assert_array_equal(compiled(np.array([[2, -2], [0, 7]])), expected)
