"""What a user gives beside a model: example inputs, or shapes by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from lhcc.errors import InputError


def spelled(shape: Sequence[int]) -> str:
    """1x3x224x224"""
    return "x".join(str(n) for n in shape)


def given_shapes(names: list[str], inputs: Any, input_shapes: Any) -> dict[str, tuple[int, ...]]:
    """Shapes by input name, from example inputs (in order or by name) or from shapes by name."""
    if inputs is not None:
        if not isinstance(inputs, Mapping):
            values = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
            if len(values) != len(names):
                raise InputError(f"the model takes {len(names)} inputs ({', '.join(names)}), {len(values)} were given")
            inputs = dict(zip(names, values, strict=True))
        shapes = {name: tuple(value.shape) for name, value in inputs.items() if hasattr(value, "shape")}
    else:
        shapes = {name: tuple(shape) for name, shape in (input_shapes or {}).items()}
    for name in shapes:
        if name not in names:
            raise InputError(f"the model has no input '{name}'", f"its inputs are: {', '.join(names)}")
    return shapes


def bound_shape(value: Any, given: tuple[int, ...] | None) -> list[int]:
    """The shape that an ONNX input declares, every open dimension bound by the given one."""
    name, tensor = value.name, value.type.tensor_type
    if not tensor.HasField("shape"):
        if given is None and value.type.HasField("tensor_type"):
            raise InputError(f"input '{name}' has no declared shape", _way_to_bind(name))
        return list(given or ())
    dims = tensor.shape.dim
    if given is not None and len(given) != len(dims):
        raise InputError(f"input '{name}' has {len(dims)} dimensions, not the {len(given)} of {spelled(given)}")
    shape = []
    for axis, dim in enumerate(dims):
        if dim.HasField("dim_value"):
            if given is not None and given[axis] != dim.dim_value:
                raise InputError(
                    f"dimension {axis} of input '{name}' is {dim.dim_value} in the model, not {given[axis]}",
                    "export the model with a dynamic dimension there",
                )
            shape.append(dim.dim_value)
        elif given is not None:
            shape.append(int(given[axis]))
        else:
            raise open_dimension(name, axis, dim.dim_param)
    return shape


def open_dimension(name: str, axis: int, called: str) -> InputError:
    """The complaint about a dimension whose size is nowhere said."""
    called = f" ('{called}')" if called else ""
    return InputError(f"dimension {axis}{called} of input '{name}' has no fixed size", _way_to_bind(name))


def _way_to_bind(name: str) -> str:
    return f"pass inputs=, input_shapes={{'{name}': ...}} or --input-shape {name}=..."


def example_arguments(model: Any, inputs: Any, input_shapes: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and named example arguments of an nn.Module; what is within tuples and lists becomes tensors."""
    import torch

    if inputs is None and not input_shapes:
        raise InputError(
            f"a {type(model).__name__} needs example inputs to be traced",
            "pass inputs=, or input_shapes= with one shape per argument of forward",
        )
    if isinstance(inputs, Mapping):
        return (), {name: _tensor(value) for name, value in inputs.items()}
    if inputs is not None:
        return tuple(map(_tensor, inputs if isinstance(inputs, (tuple, list)) else [inputs])), {}
    known = list(inspect.signature(model.forward).parameters)
    strange = [name for name in input_shapes if name not in known]
    if strange:
        raise InputError(f"forward has no argument '{strange[0]}'", f"its arguments are: {', '.join(known)}")
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return (), {name: torch.zeros(tuple(shape), dtype=dtype) for name, shape in input_shapes.items()}


def _tensor(value: Any) -> Any:
    import torch
    from torch.utils import _pytree as pytree

    def own(leaf: Any) -> Any:  # PyTorch takes one tensor that is given twice for one input
        return torch.as_tensor(leaf).detach().clone()

    try:
        return pytree.tree_map(own, value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"an example input is a {type(value).__name__}, which is no tensor", "pass arrays or tensors"
        ) from error
