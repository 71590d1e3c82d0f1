"""Compiles and runs one random ONNX model per request and compares it with ONNX Runtime and ONNX's reference.

Where the two differ, either is good enough; what is not of the shape that ONNX infers is no answer.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

import lhcc
from lhcc.errors import UnsupportedOperator
from tests.fuzz.onnx_graphs import grow, shape_of
from tests.fuzz.worker import TOLERANCE, difference
from tests.isolated import serve

Arrays = list[Any]


def answers(model: onnx.ModelProto, x: Any) -> Iterator[Arrays]:
    """What the judges say, as far as they can tell."""
    for judge in (_by_onnxruntime, _by_reference):
        try:
            found = judge(model, x)
        except Exception:  # of any kind: it cannot tell
            continue
        shapes = [shape_of(value) for value in model.graph.output]
        if [y.shape for y in found] == shapes and all(np.isfinite(y).all() for y in found):
            yield found


def _by_onnxruntime(model: onnx.ModelProto, x: Any) -> Arrays:
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4
    quiet.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), quiet, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": x}))


def _by_reference(model: onnx.ModelProto, x: Any) -> Arrays:
    """It computes LRN, and Softmax as it was before opset 13, in another way than the specification."""
    kinds = {node.op_type for node in model.graph.node}
    if "LRN" in kinds or (kinds & {"Softmax", "LogSoftmax"} and model.opset_import[0].version < 13):
        raise NotImplementedError
    return list(ReferenceEvaluator(model).run(None, {"x": x}))


def compare(request: str) -> tuple[str, str]:
    """("passed" | "unsupported" | "unjudged" | "wrong" | "error", detail)"""
    model = grow(request)
    seed = int(request.partition(":")[0])
    x = np.random.default_rng(seed).standard_normal(shape_of(model.graph.input[0])).astype(np.float32)
    try:
        found = lhcc.compile(model)(x)
    except UnsupportedOperator as refusal:
        return "unsupported", str(refusal)
    except Exception:
        return "error", traceback.format_exc()[-1500:]
    outputs = found if isinstance(found, tuple) else (found,)
    judged = [max(map(difference, outputs, answer)) for answer in answers(model, x)]
    if not judged:
        return "unjudged", ""
    return ("passed", "") if min(judged) <= TOLERANCE else ("wrong", f"relative difference {min(judged):.2e}")


if __name__ == "__main__":
    serve(compare)
