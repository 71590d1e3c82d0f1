"""Runs one test of ONNX's backend suite per request, by name."""

from __future__ import annotations

import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

from lhcc.errors import LhccError
from lhcc.frontend import backend
from tests.isolated import serve

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")


def cases() -> dict[str, Any]:
    """All tests of the suite, by kind/name."""
    return {f"{kind}/{case.name}": case for kind in KINDS for case in load_model_tests(kind=kind)}


def read(path: Path, kind: Any) -> Any:
    """An input or output file, of the type that the model declares."""
    data = path.read_bytes()
    what = kind.WhichOneof("value")
    if what == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if what == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def array(value: Any) -> Any:
    """Some cases made in memory hold protobufs, most hold arrays."""
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def contents(case: Any) -> tuple[Any, list[tuple[list[Any], list[Any]]]]:
    """The model, and pairs of inputs and expected outputs; some cases are made in memory, some are files."""
    if case.model is not None:
        return case.model, [
            ([array(v) for v in inputs], [array(v) for v in outputs]) for inputs, outputs in case.data_sets
        ]
    folder = Path(case.model_dir)
    model = onnx.load(str(folder / "model.onnx"))
    sets = []
    for data in sorted(folder.glob("test_data_set_*")):
        inputs = [
            read(data / f"input_{i}.pb", v.type)
            for i, v in enumerate(model.graph.input)
            if (data / f"input_{i}.pb").exists()
        ]
        sets.append((inputs, [read(data / f"output_{i}.pb", v.type) for i, v in enumerate(model.graph.output)]))
    return model, sets


def outcome(case: Any) -> tuple[str, str]:
    """("passed" | "unsupported" | "wrong" | "error", detail)"""
    try:
        model, sets = contents(case)
        ready = backend.prepare(model)
        for inputs, expected in sets:
            outputs = [np.asarray(o) for o in ready.run(list(inputs))]
            Runner.assert_similar_outputs(expected, outputs, case.rtol, case.atol, None)
    except LhccError as error:
        return "unsupported", error.message
    except AssertionError as error:
        return "wrong", str(error)[:500]
    except BaseException:
        return "error", traceback.format_exc()[-1500:]
    return "passed", ""


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    known = cases()
    serve(lambda name: outcome(known[name]))
