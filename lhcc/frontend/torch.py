"""PyTorch models: nn.Module with example inputs, ExportedProgram, .pt2 file.

torch.export traces.  A module in training mode is compiled as it behaves in evaluation mode, and is left as it was
found.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import tvm
from torch.utils import _pytree as pytree

from lhcc.errors import InputError, ModelError, first_line
from lhcc.frontend.given import example_arguments, given_shapes, open_dimension, spelled
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
        program = _exported(model, *example_arguments(model, inputs, input_shapes))
    else:
        raise ModelError(f"a model of type {type(model).__name__} cannot be imported", "give an nn.Module")
    with _quietly():
        program = program.run_decompositions()
    return convert(program)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what PyTorch says to its own programmers, such as warnings that it uses what it has deprecated."""
    with warnings.catch_warnings():
        for kind in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", category=kind)
        yield


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
        with _quietly(), _evaluating(model), torch.no_grad():
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
                raise open_dimension(name, axis, str(size))
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
        with _quietly():
            return torch.export.export(program.module(), args, kwargs)
    except Exception as error:
        raise InputError(f"the program cannot take these shapes: {first_line(error)}") from error
