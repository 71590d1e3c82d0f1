"""A decomposed ExportedProgram, operator by operator: TVM converts most, torch_ops.py those that need our form."""

from __future__ import annotations

import operator
import sys
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import torch
import tvm
from torch.utils import _pytree as pytree
from tvm import relax
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from lhcc.errors import ModelError, first_line
from lhcc.frontend import torch_elementwise, torch_indexing  # noqa: F401 - they add to CONVERTERS
from lhcc.frontend.checks import DTYPES, Unsupported, check_dtype, check_static, warn_about_nan
from lhcc.frontend.given import spelled
from lhcc.frontend.layers import constant, dtype_of, shape_of
from lhcc.frontend.naming import LayerBuilder
from lhcc.frontend.torch_ops import CONVERTERS


def convert(program: Any) -> tvm.IRModule:
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
        source, which = node.args
        picked = _result(importer.env[source], which)
        if picked is None:
            return unsupported.note(source.target.__name__, layer, f"its result {which} is not computed")
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
            _check_type(value, node.meta.get("val"))
    except Exception as error:
        if name in CONVERTERS and not isinstance(error, NotImplementedError):
            raise  # ours: a bug, not a limit of TVM's importer
        return unsupported.note(name, layer, first_line(error))
    return value


def _check_type(value: Any, traced: Any) -> None:
    """Raises ValueError where TVM's importer makes something else of an operator than PyTorch does."""
    if isinstance(value.ty, relax.TensorType) and isinstance(traced, torch.Tensor):
        found = f"{dtype_of(value)} {spelled(shape_of(value))}"
        wanted = f"{str(traced.dtype).removeprefix('torch.')} {spelled(traced.shape)}"
        if found != wanted:
            raise ValueError(f"its result is {wanted}, not {found} as TVM has it")


def _result(value: Any, which: int) -> Any:
    """One result of an operator that has several, or None: of some, such as layer_norm, TVM gives the first alone."""
    if isinstance(value, relax.Expr) and isinstance(value.ty, relax.TensorType):
        return value if which == 0 else None
    return value[which]


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
        if path and _is_layer(kind):
            return str(path)
        base = ".".join(filter(None, (path, node.target.__name__.split(".")[0].strip("_"))))
        name, count = base, 1
        while self.taken.setdefault(name, node) is not node:
            name, count = f"{base}_{count}", count + 1
        return name


def _is_layer(kind: Any) -> bool:
    """Whether a module is one of torch.nn's layers, or derived from one, as LHConv2d is; exported programs name it."""
    if isinstance(kind, str):
        module, _, name = kind.rpartition(".")
        if module.startswith("torch.nn.modules."):
            return True
        kind = getattr(sys.modules.get(module), name, object)
    plain = (torch.nn.Module, torch.nn.Sequential, torch.nn.ModuleList, torch.nn.ModuleDict, object)
    return any(base.__module__.startswith("torch.nn.modules.") and base not in plain for base in kind.__mro__)
