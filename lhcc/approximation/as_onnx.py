"""What approximation and integer programs begin with: the user's model as ONNX, its open dimensions bound."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from lhcc.errors import ModelError, first_line
from lhcc.frontend.given import bound_shape, example_arguments, given_shapes, open_dimension
from lhcc.runtime.container import is_container


def to_onnx(model: Any, inputs: Any = None, input_shapes: Mapping[str, Any] | None = None) -> Any:
    """A ModelProto from a ModelProto, the path of an .onnx or .pt2 file, an nn.Module with inputs, an ExportedProgram.

    Without inputs and shapes, dimensions that an ONNX model leaves open stay open.
    """
    if isinstance(model, (str, os.PathLike)):
        model = _read(Path(model))
    if isinstance(model, onnx.ModelProto):
        return _bound(model, inputs, input_shapes)
    if not any(kind.__module__.split(".")[0] == "torch" for kind in type(model).__mro__):
        raise ModelError(
            f"{type(model).__name__} is no model that can be approximated", "give an ONNX model or its path"
        )
    import torch

    from lhcc.nn import export_onnx

    if isinstance(model, torch.nn.Module):
        arguments, named = example_arguments(model, inputs, input_shapes)
        return export_onnx(model, named or arguments)
    return _bound(export_onnx(model), inputs, input_shapes)


def check_sizes(proto: Any) -> None:
    """Refuses inputs with a dimension of no known size; the number of images alone may be open."""
    for value in _declared(proto):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if axis and not dim.dim_value:
                raise open_dimension(value.name, axis, dim.dim_param)


def _read(path: Path) -> Any:
    if not path.exists():
        raise ModelError(f"there is no file '{path}'")
    if is_container(path):
        raise ModelError(f"'{path}' is compiled already", "give the model that it was compiled from")
    try:
        if path.suffix == ".pt2":
            import torch

            return torch.export.load(path)
        return onnx.load(path)
    except Exception as error:
        kind = "program saved by torch.export" if path.suffix == ".pt2" else "readable ONNX file"
        raise ModelError(f"'{path}' is no {kind}: {first_line(error)}", "export it again") from error


def _declared(proto: Any) -> list[Any]:
    """Its inputs; old files list the constants among them."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    return [value for value in proto.graph.input if value.name not in constants]


def _bound(proto: Any, inputs: Any, input_shapes: Mapping[str, Any] | None) -> Any:
    """A copy with the shapes that were given, where some were."""
    given = given_shapes([value.name for value in _declared(proto)], inputs, input_shapes)
    if not given:
        return proto
    bound = onnx.ModelProto()
    bound.CopyFrom(proto)
    for value in bound.graph.input:
        if value.name in given:
            dims = bound_shape(value, given[value.name])
            del value.type.tensor_type.shape.dim[:]
            for size in dims:
                value.type.tensor_type.shape.dim.add().dim_value = size
    del bound.graph.value_info[:]  # which would go on to say that they are open
    for value in bound.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            dim.ClearField("dim_param")
    return bound
