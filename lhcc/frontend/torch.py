"""PyTorch models: nn.Module with example inputs, ExportedProgram, .pt2 file.

torch.export traces.  A module in training mode is compiled as it behaves in evaluation mode, and is left as it was
found.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import tvm
from torch.utils import _pytree as pytree

from lhcc.errors import InputError, ModelError
from lhcc.frontend.checks import first_line, given_shapes, spelled
from lhcc.frontend.torch_program import convert


def from_pt2(path: Path, inputs: Any = None, input_shapes: Mapping[str, Any] | None = None) -> tvm.IRModule:
    """A program that torch.export.save wrote."""
    try:
        program = torch.export.load(path)
    except Exception as error:
        raise ModelError(f"'{path}' is not a program saved by torch.export: {first_line(error)}") from error
    return from_torch(program, inputs, input_shapes)


def from_torch(model: Any, inputs: Any = None, input_shapes: Mapping[str, Any] | None = None) -> tvm.IRModule:
    """An nn.Module (traced with the example inputs) or an ExportedProgram."""
    if isinstance(model, torch.export.ExportedProgram):
        program = _bound(model, inputs, input_shapes)
    elif isinstance(model, torch.nn.Module):
        program = _exported(model, *_arguments(model, inputs, input_shapes))
    else:
        raise ModelError(f"a model of type {type(model).__name__} cannot be imported", "give an nn.Module")
    return convert(program.run_decompositions())


def _tensor(value: Any) -> Any:
    return value if isinstance(value, torch.Tensor) else torch.as_tensor(value)


def _arguments(model: Any, inputs: Any, input_shapes: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and named example arguments of a module."""
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


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode for the time of the block, each submodule's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _exported(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        with _evaluating(model), torch.no_grad():
            return torch.export.export(model, args, kwargs)
    except Exception as error:
        raise ModelError(
            f"torch.export cannot trace {type(model).__name__}: {first_line(error)}",
            "check the example inputs, and that forward has no control flow that depends on values",
        ) from error


def _bound(program: Any, inputs: Any, input_shapes: Any) -> Any:
    """The program with every dynamic dimension fixed by the inputs or shapes given."""
    names = list(program.graph_signature.user_inputs)
    metas = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    tensors = [name for name in names if isinstance(metas.get(name), torch.Tensor)]
    given = given_shapes(tensors, inputs, input_shapes)
    dynamic = False
    shapes: dict[str, tuple[int, ...]] = {}
    for name in tensors:
        declared = list(metas[name].shape)
        asked = given.get(name)
        if asked is not None and len(asked) != len(declared):
            raise InputError(f"input '{name}' has {len(declared)} dimensions, not the {len(asked)} of {spelled(asked)}")
        for axis, size in enumerate(declared):
            if isinstance(size, int):
                if asked is not None and asked[axis] != size:
                    raise InputError(f"dimension {axis} of input '{name}' is {size} in the model, not {asked[axis]}")
            elif asked is None:
                raise InputError(
                    f"dimension {axis} ('{size}') of input '{name}' has no fixed size",
                    f"pass inputs=, input_shapes={{'{name}': ...}} or --input-shape {name}=...",
                )
            else:
                dynamic = True
        shapes[name] = tuple(asked if asked is not None else declared)
    if not dynamic:
        return program
    examples = iter(torch.zeros(shapes[name], dtype=metas[name].dtype) for name in tensors)
    if program.example_inputs is None:
        return _exported_again(program, tuple(examples), {})
    leaves, tree = pytree.tree_flatten(program.example_inputs)
    leaves = [next(examples) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
    args, kwargs = pytree.tree_unflatten(leaves, tree)
    return _exported_again(program, args, kwargs)


def _exported_again(program: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return torch.export.export(program.module(), args, kwargs)
    except Exception as error:
        raise InputError(f"the program cannot take these shapes: {first_line(error)}") from error
