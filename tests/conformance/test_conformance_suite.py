"""ONNX's backend suite: no wrong answer, no crash, and never fewer passes than counts.json says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx import helper

from lhcc.errors import InputError
from lhcc.frontend import backend
from tests.conformance.suite import COUNTS, GOOD, counts
from tests.conformance.worker import cases
from tests.isolated import Answer, ask_all

# The operators that CNNs are made of: on float tensors, all of their tests pass.
CNN = re.compile(
    r"node/test_(basic_conv|conv_|convtranspose|averagepool|maxpool_[1-3]d|globalaveragepool|globalmaxpool|batchnorm"
    r"|gemm|matmul_[1-4]d|relu|leakyrelu|prelu|elu|clip|pad|constant_pad|edge_pad|reflect_pad|wrap_pad|concat"
    r"|resize_.*(nearest|linear)|upsample|reshape|flatten|squeeze|unsqueeze|transpose|reduce_(max|mean|min|sum|prod))"
    r"|pytorch-converted/test_(Conv|BatchNorm|AvgPool|MaxPool|Linear|ReLU|LeakyReLU|PReLU|ELU)"
)
# Not of float32, not inference, or with a result that has no elements.
NOT_ASKED_FOR = re.compile(r"training_mode|argmax|with_argmax|fp16|float16|bfloat16|_expanded|non_reduced_axis_zero")
# The whole suite takes minutes: the quick one takes every fifth test of a CNN's operators.
EVERY = 5


def check(outcomes: Mapping[str, Answer]) -> None:
    bad = {name: answer for name, answer in outcomes.items() if answer[0] not in GOOD}
    assert not bad
    refused = {name: reason for name, (kind, reason) in outcomes.items() if kind == "unsupported"}
    assert not {name: reason for name, reason in refused.items() if CNN.match(name) and not NOT_ASKED_FOR.search(name)}


def test_operators_of_cnns() -> None:
    names = [name for name in cases() if CNN.match(name) and not NOT_ASKED_FOR.search(name)]
    assert len(names) > 250  # the expression above does select something
    check(ask_all("tests.conformance.worker", names[::EVERY]))


@pytest.mark.slow
def test_the_whole_suite() -> None:
    outcomes = ask_all("tests.conformance.worker", list(cases()))
    check(outcomes)
    before, now = json.loads(COUNTS.read_text()), counts(outcomes)
    for kind, numbers in before.items():
        assert now[kind]["passed"] >= numbers["passed"], f"fewer tests of {kind} pass than before"


def test_the_backends_own_functions() -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    x = np.array([-1, 2], np.float32)
    (y,) = backend.run_node(node, [x])
    np.testing.assert_array_equal(y, [0, 2])
    assert backend.supports_device("CPU") and not backend.supports_device("CUDA")
    with pytest.raises(InputError, match="there is no device 'CUDA'"):
        backend.prepare(onnx.ModelProto(), "CUDA")


def test_a_shape_given_at_run_time_is_compiled_in_and_may_change() -> None:
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])], "reshape",
        [helper.make_tensor_value_info("x", 1, [6]), helper.make_tensor_value_info("shape", 7, [2])],
        [helper.make_tensor_value_info("y", 1, [None, None])],
    )
    ready = backend.prepare(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    for shape in ([2, 3], [3, 2]):
        (y,) = ready.run([np.arange(6, dtype=np.float32), np.array(shape)])
        assert list(y.shape) == shape
