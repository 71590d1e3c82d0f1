"""ONNX models: a file or a ModelProto.  Dynamic input dimensions are bound here; onnx_graph.py converts the nodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tvm
from numpy.typing import NDArray
from onnx import numpy_helper
from tvm import relax

from lhcc.errors import ModelError, first_line
from lhcc.frontend.checks import DTYPES, warn_about_nan
from lhcc.frontend.given import bound_shape, given_shapes
from lhcc.frontend.layers import dtype_of, shape_of
from lhcc.frontend.naming import LayerBuilder
from lhcc.frontend.onnx_graph import Converters, GraphImporter


def from_file(path: Path, inputs: Any = None, input_shapes: Mapping[str, Any] | None = None) -> tvm.IRModule:
    """An .onnx file, with its external data if it has any."""
    try:
        model = onnx.load(str(path))
    except Exception as error:
        raise ModelError(f"'{path}' is not a readable ONNX file: {first_line(error)}", "export it again") from error
    if not model.graph.node and not model.graph.output:
        raise ModelError(f"'{path}' is not a readable ONNX file: it holds no graph", "export it again")
    return from_proto(model, inputs, input_shapes)


def from_proto(
    model: Any,
    inputs: Any = None,
    input_shapes: Mapping[str, Any] | None = None,
    converters: Converters | None = None,
) -> tvm.IRModule:
    """A ModelProto; an input with an initializer is a constant.  `converters` are for operators of other domains."""
    graph = model.graph
    weights = {tensor.name: _array(tensor) for tensor in graph.initializer}
    for name, array in weights.items():
        if array.dtype.kind == "f":
            warn_about_nan(name, bool(np.isnan(array).any()))
    declared = [value for value in graph.input if value.name not in weights]
    given = given_shapes([value.name for value in declared], inputs, input_shapes)
    parameters = {
        value.name: relax.Var(value.name, relax.TensorType(bound_shape(value, given.get(value.name)), _dtype(value)))
        for value in declared
    }
    builder = LayerBuilder()
    importer = GraphImporter(model, builder, converters)
    values = {**weights, **parameters, **_empty(parameters)}
    builder.main(list(parameters.values()), lambda: importer.convert(graph, values))
    return builder.finish(input_names=list(parameters), output_names=[value.name for value in graph.output])


def _empty(parameters: dict[str, Any]) -> dict[str, Any]:
    """Inputs without elements: nothing about their values is unknown."""
    shapes = {name: shape_of(var) for name, var in parameters.items()}
    return {name: np.zeros(shape, dtype_of(parameters[name])) for name, shape in shapes.items() if 0 in shape}


def _array(tensor: Any) -> NDArray[Any]:
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:
        raise ModelError(f"weight '{tensor.name}' cannot be read: {first_line(error)}") from error


def _dtype(value: Any) -> str:
    if not value.type.HasField("tensor_type"):
        raise ModelError(
            f"input '{value.name}' is a {value.type.WhichOneof('value') or 'value without a type'}",
            "only tensors can be inputs of a compiled model",
        )
    try:
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    except KeyError as error:
        raise ModelError(f"input '{value.name}' has no element type") from error
    if dtype not in DTYPES:
        raise ModelError(f"input '{value.name}' is of type {dtype}, which cannot be compiled")
    return dtype
