"""PyTorch models: nn.Module with example inputs, ExportedProgram, .pt2 file.

torch.export traces, TVM converts most operators, torch_ops.py those that need our form.  A module in training mode is
compiled as it behaves in evaluation mode, and is left as it was found.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes
import torch
import tvm
from torch.utils import _pytree as pytree
from tvm import relax
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from lhcc.errors import InputError, ModelError
from lhcc.frontend.checks import (
    DTYPES,
    Unsupported,
    check_dtype,
    check_static,
    first_line,
    given_shapes,
    spelled,
    warn_about_nan,
)
from lhcc.frontend.layers import constant
from lhcc.frontend.naming import LayerBuilder
from lhcc.frontend.torch_ops import CONVERTERS


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
    return _convert(program.run_decompositions())


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


def _convert(program: Any) -> tvm.IRModule:
    """The decomposed program, operator by operator.  What depends on constants alone is computed by torch itself."""
    importer = ExportedProgramImporter()
    builder = importer.block_builder = LayerBuilder()
    known, parameters = _placeholders(program)
    importer.env.update(parameters)
    count = builder.main(list(parameters.values()), lambda: _body(program, importer, known))
    names = ["output"] if count == 1 else [f"output_{i}" for i in range(count)]
    return builder.finish(input_names=[v.name for v in parameters.values()], output_names=names)


def _body(program: Any, importer: Any, known: dict[Any, Any]) -> list[Any]:
    """Converts all nodes; the program's outputs."""
    unsupported, layer_name = Unsupported(), _LayerNames()
    outputs: list[Any] = []
    for node in program.graph.nodes:
        if node.op == "output":
            outputs = _outputs(program, node, importer.env, known, unsupported)
        elif node.op == "get_attr":
            known[node] = getattr(program.graph_module, node.target)
        elif node.op == "call_function":
            layer = importer.block_builder.layer = layer_name(node)
            if _foldable(node, known):
                known[node] = _evaluated(node, known)
            elif _is_empty(node.meta.get("val")):
                empty = node.meta["val"]
                known[node] = torch.zeros(tuple(empty.shape), dtype=empty.dtype)  # nothing to compute
            elif all(source in known or source in importer.env for source in node.all_input_nodes):
                for source in node.all_input_nodes:
                    if source not in importer.env:
                        importer.env[source] = _constant(known[source])
                value = _converted(node, importer, unsupported)
                if value is not None:
                    importer.env[node] = value
            else:
                unsupported.note_if_unknown(node.target.__name__, layer, _has_converter(node, importer))
    unsupported.raise_if_any()
    return outputs


def _placeholders(program: Any) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """The tensors that are known, and a variable for each input of the user."""
    kinds = torch.export.graph_signature.InputKind
    known: dict[Any, Any] = {}
    parameters: dict[Any, Any] = {}
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    for node in program.graph.nodes:
        if node.op != "placeholder":
            continue
        spec, meta = specs[node.name], node.meta.get("val")
        if spec.kind == kinds.USER_INPUT:
            if not isinstance(meta, torch.Tensor):
                known[node] = meta
                continue
            dtype = str(meta.dtype).removeprefix("torch.")
            if dtype not in DTYPES:
                raise ModelError(f"input '{node.name}' is of type {dtype}, which cannot be compiled")
            parameters[node] = relax.Var(node.name, relax.TensorType([int(n) for n in meta.shape], dtype))
        elif spec.target in program.state_dict:
            known[node] = program.state_dict[spec.target].detach()
        else:
            known[node] = program.constants[spec.target]
        if node in known and isinstance(known[node], torch.Tensor) and known[node].is_floating_point():
            warn_about_nan(spec.target, bool(torch.isnan(known[node]).any()))
    return known, parameters


def _constant(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(_constant(item) for item in value)
    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach().cpu().contiguous()
    if value.dtype == torch.bfloat16:  # NumPy has none of its own
        return constant(value.view(torch.int16).numpy().view(ml_dtypes.bfloat16))
    return constant(value.numpy())


def _foldable(node: Any, known: Mapping[Any, Any]) -> bool:
    tags = getattr(node.target, "tags", ())
    return torch.Tag.nondeterministic_seeded not in tags and all(source in known for source in node.all_input_nodes)


def _is_empty(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.numel() == 0


def _evaluated(node: Any, known: Mapping[Any, Any]) -> Any:
    args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda source: known[source])
    with torch.no_grad():
        return node.target(*args, **kwargs)


def _has_converter(node: Any, importer: Any) -> bool:
    return node.target.__name__ in CONVERTERS or node.target.__name__ in importer.convert_map


def _converted(node: Any, importer: Any, unsupported: Unsupported) -> Any:
    """The Relax value of a node, or None when it had to be noted as unsupported."""
    name, layer = node.target.__name__, importer.block_builder.layer
    if node.target is operator.getitem:
        picked = importer.env[node.args[0]][node.args[1]]
        if picked is None:
            return unsupported.note(node.args[0].target.__name__, layer, f"its result {node.args[1]} is not computed")
        return picked if isinstance(picked, relax.Var) else importer.block_builder.emit(picked)
    if not _has_converter(node, importer):
        return unsupported.note(name, layer)
    try:
        if name in CONVERTERS:
            value = CONVERTERS[name](node, importer)
        else:
            value = importer.convert_map[name](node)
        if isinstance(value, relax.Expr):
            value = value if isinstance(value, relax.Var) else importer.block_builder.emit(value)
            check_static(value)
            check_dtype(value)
    except Exception as error:
        if name in CONVERTERS and not isinstance(error, NotImplementedError):
            raise  # ours: a bug, not a limit of TVM's importer
        return unsupported.note(name, layer, first_line(error))
    return value


def _outputs(program: Any, node: Any, env: Any, known: Any, unsupported: Unsupported) -> list[Any]:
    kinds = torch.export.graph_signature.OutputKind
    values = pytree.tree_leaves(node.args[0])
    found = []
    for value, spec in zip(values, program.graph_signature.output_specs, strict=True):
        if spec.kind != kinds.USER_OUTPUT:
            raise ModelError(f"the model changes '{spec.target}' as it runs", "a compiled model has no state")
        if value in env:
            found.append(env[value])
        elif value in known:
            found.append(_constant(known[value]))
        elif not unsupported:
            raise ModelError(f"the model returns {value!r}, which is not a tensor")
    return found


class _LayerNames:
    """The path of the module that a node belongs to; an operator written in a forward adds its own name."""

    def __init__(self) -> None:
        self.taken: dict[str, Any] = {}

    def __call__(self, node: Any) -> str:
        while node.target is operator.getitem:
            node = node.args[0]
        stack = list(node.meta.get("nn_module_stack", {}).values())
        path, kind = stack[-1] if stack else ("", "")
        path = path.split("@")[0]  # a module called several times: path@1
        kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
        if path and kind.startswith("torch.nn.modules."):
            return str(path)
        base = ".".join(filter(None, (path, node.target.__name__.split(".")[0].strip("_"))))
        name, count = base, 1
        while self.taken.setdefault(name, node) is not node:
            name, count = f"{base}_{count}", count + 1
        return name
