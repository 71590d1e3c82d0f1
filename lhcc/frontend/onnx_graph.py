"""Walks an ONNX graph and converts it node by node, computing at once whatever depends on constants alone.

All shapes are static, so the shape arithmetic of exporters (Shape, Gather, Concat, ...) vanishes here, and an If whose
condition is known becomes the branch taken.  An operator is converted by onnx_ops, else by TVM's importer, else through
the function that ONNX defines it by; those left over are gathered into one error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from onnx import helper, numpy_helper
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from lhcc.errors import LhccError, ModelError, first_line
from lhcc.frontend.checks import DTYPES, Unsupported, check_dtype, check_static
from lhcc.frontend.layers import Value, constant, dtype_of, shape_of
from lhcc.frontend.naming import LayerBuilder
from lhcc.frontend.onnx_nodes import (
    body_of,
    constant_of,
    defaults_of,
    dense,
    domain_of,
    evaluated,
    misfit,
    opsets_of,
    resolved,
    spelled,
    type_of,
)
from lhcc.frontend.onnx_ops import CONVERTERS, VALUE_OPERANDS, Node, ValueNeeded

NONDETERMINISTIC = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
}
SUBGRAPHS = {"If", "Loop", "Scan", "SequenceMap"}
# TVM converts these into values that a static dataflow function cannot hold.
NOT_STATIC = {
    "Optional",
    "OptionalHasElement",
    "OptionalGetElement",
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceErase",
    "SequenceInsert",
    "SequenceLength",
    "ConcatFromSequence",
    "SplitToSequence",
    "SequenceAt",
    "NonZero",
    "Unique",
    "Compress",
    "NonMaxSuppression",
    "AllClassNMS",
}
# TVM converts these, and then cannot compile what it made, or computes something else.
NOT_COMPILED = {"MaxUnpool", "RoiAlign", "CumSum", "Scatter", "ScatterElements"}
# Where TVM's converter knows another operator of the same name, or fewer forms: ONNX's own definition is used.
DEFINED = {"Attention", "AffineGrid", "RMSNormalization", "LayerNormalization"}
_TVM: dict[str, Any] = {k: v for k, v in onnx_frontend._get_convert_map().items() if k not in {"Constant", *DEFINED}}
Scope = dict[str, Any]
Converters = Mapping[tuple[str, str], Callable[[Node], list[Any]]]


class GraphImporter:
    """Converts one model into the dataflow block that `builder` is in."""

    def __init__(self, model: Any, builder: LayerBuilder, converters: Converters | None = None) -> None:
        """`converters` are for operators that ONNX does not have, by domain and name."""
        self.builder = builder
        self.converters = converters or {}
        self.unsupported = Unsupported()
        self.functions = {(f.domain, f.name): f for f in model.functions}
        self.opsets = opsets_of(model.opset_import)
        # The graph inputs on which an unknown value depends, by the name of its variable.
        self.origins: dict[str, frozenset[str]] = {}
        self.values_needed: set[str] = set()

    def convert(self, graph: Any, values: Scope) -> list[Any]:
        """The graph's outputs, as Relax expressions."""
        for name, value in values.items():
            if isinstance(value, relax.Var):
                self.origins[value.name] = frozenset([name])
        self._sparse_constants(graph, values)
        self._nodes(graph.node, values, self.opsets, None)
        outputs = [self._output(values, value.name) for value in graph.output]
        self.unsupported.raise_if_any(self.values_needed)
        return outputs

    def _output(self, values: Scope, name: str) -> Any:
        value = self._read(values, name, "the graph")
        try:
            if value is None and not self.unsupported:
                raise NotImplementedError("this output of its operator is not computed")
            if isinstance(value, np.ndarray) and not value.size:
                raise NotImplementedError("it has no elements")
            return self._expr(value)
        except NotImplementedError as error:
            return self.unsupported.note("an output", name, str(error))

    def _nodes(self, nodes: Any, values: Scope, opsets: dict[str, int], layer: str | None) -> None:
        """Converts nodes in order.  `layer` names them all when they are the body of one operator."""
        for node in nodes:
            name = layer or node.name or next(filter(None, node.output), node.op_type)
            self.builder.layer = name
            results = self._node(node, values, opsets, name)
            if results is not None:
                for output, result in zip(node.output, results, strict=False):
                    if output:
                        values[output] = result

    def _read(self, values: Scope, name: str, reader: str) -> Value:
        if name not in values:
            raise ModelError(f"{reader} reads the tensor '{name}', which nothing produces", "check the model's graph")
        return values[name]

    def _node(self, node: Any, values: Scope, opsets: dict[str, int], name: str) -> list[Value] | None:
        """The results of one node; None when they are unknown because of something unsupported."""
        opset = opsets.get(domain_of(node.domain), 1)
        convertible = self._is_convertible(node, opset)
        inputs = [self._read(values, i, f"node '{name}'") if i else None for i in node.input]
        for output in node.output:
            values[output] = None  # until it is known
        if any(value is None for value, i in zip(inputs, node.input, strict=True) if i):
            self.unsupported.note_if_unknown(spelled(node), name, convertible)
            return None
        if node.op_type == "Constant" and not node.domain:
            return [constant_of(node)]
        if node.op_type == "If" and isinstance(inputs[0], np.ndarray):
            return self._branch(node, bool(inputs[0]), values, opsets, name)
        if not convertible:
            self.unsupported.note(spelled(node), name)
            return None
        if self._foldable(node, inputs):
            folded = evaluated(node, inputs, opsets)
            if folded is not None:
                return folded
        try:
            return self._converted(node, inputs, opset, name, opsets)
        except ValueNeeded as error:
            self._note_needed(node, inputs, error, name)
        except LhccError:
            raise
        except Exception as error:
            limit = isinstance(error, NotImplementedError)  # one of ours, or what TVM says in its own way
            if (error.__cause__ or not limit) and (operands := misfit(node, inputs, opsets)):
                raise ModelError(
                    f"{spelled(node)} '{name}' cannot take {operands}",
                    "check the model's graph, and the shapes given for its inputs",
                ) from error
            if not limit:
                raise
            self.unsupported.note(spelled(node), name, first_line(error))
        return None

    def _is_convertible(self, node: Any, opset: int) -> bool:
        kind = str(node.op_type)
        if (node.domain, kind) in self.functions or (node.domain, kind) in self.converters:
            return True
        if domain_of(node.domain):
            return False
        if kind in NOT_STATIC | NOT_COMPILED | NONDETERMINISTIC | SUBGRAPHS:
            return kind == "If"
        if kind in CONVERTERS or kind in _TVM or kind == "Constant":
            return True
        return bool(body_of(node, [], opset))

    def _foldable(self, node: Any, inputs: list[Value | None]) -> bool:
        simple = node.op_type not in NONDETERMINISTIC | SUBGRAPHS and not domain_of(node.domain)
        return simple and all(value is None or isinstance(value, np.ndarray) for value in inputs)

    def _converted(
        self, node: Any, inputs: list[Value | None], opset: int, name: str, opsets: dict[str, int]
    ) -> list[Value] | None:
        local = self.functions.get((node.domain, node.op_type))
        if local is not None:
            return self._inlined(local, node, inputs, opsets_of(local.opset_import) or opsets, name)
        if node.op_type == "If":
            raise NotImplementedError("its condition depends on the values of the inputs")
        for i in VALUE_OPERANDS.get(node.op_type, ()):
            if i < len(inputs) and inputs[i] is not None and not isinstance(inputs[i], np.ndarray):
                raise ValueNeeded(i)
        if (node.domain, node.op_type) in self.converters:
            results = self.converters[node.domain, node.op_type](Node(node, inputs, opset, self.builder))
        elif node.op_type in CONVERTERS:
            results = CONVERTERS[node.op_type](Node(node, inputs, opset, self.builder))
        elif node.op_type in _TVM:
            results = self._by_tvm(node, inputs, opset)
        else:
            body = body_of(node, [type_of(value) for value in inputs], opset)
            if body is None:
                raise NotImplementedError("its definition needs more type information")
            return self._inlined(body, node, inputs, {"": opset, **opsets_of(body.opset_import)}, name)
        results = results if isinstance(results, (list, tuple)) else [results]
        return [self._emitted(result, inputs) for result in results]

    def _by_tvm(self, node: Any, inputs: list[Value | None], opset: int) -> list[Any]:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        attributes = {k: tuple(v) if isinstance(v, list) else v for k, v in attributes.items()}
        attributes["tvm_custom"] = {"name": node.name, "num_outputs": len(node.output)}
        operands = onnx_frontend.onnx_input([None if value is None else self._expr(value) for value in inputs])
        try:
            convert = _TVM[node.op_type].get_converter(opset)
            result = convert(self.builder, operands, attributes, [{}, {}])
            if isinstance(result, relax.Tuple):
                return [self.builder.emit(field) for field in result.fields]
            result = self.builder.emit(result)
        except Exception as error:  # TVM says in many ways that it cannot
            raise NotImplementedError(first_line(error)) from error
        if isinstance(result.ty, relax.TupleType):
            return [relax.TupleGetItem(result, i) for i in range(len(result.ty.fields))]
        return [result]

    def _emitted(self, result: Value, inputs: list[Value | None]) -> Value:
        if result is None or isinstance(result, np.ndarray):
            return result
        var = result if isinstance(result, relax.Var) else self.builder.emit(result)
        try:
            check_static(var)
            check_dtype(var)
        except ValueError as error:
            raise NotImplementedError(str(error)) from error
        if isinstance(var.ty, relax.TensorType) and 0 in shape_of(var):
            return np.zeros(shape_of(var), dtype_of(var))  # no elements: nothing to compute
        origins = [self.origins.get(value.name, frozenset()) for value in inputs if isinstance(value, relax.Var)]
        self.origins.setdefault(var.name, frozenset[str]().union(*origins))
        return var

    def _expr(self, value: Value) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        if str(value.dtype) not in DTYPES:
            raise NotImplementedError(f"constants of type {value.dtype}")
        return constant(value)

    def _inlined(
        self, body: Any, node: Any, inputs: list[Value | None], opsets: dict[str, int], name: str
    ) -> list[Value] | None:
        """The nodes of a function, in the place and under the name of the node that calls it."""
        given = defaults_of(node, opsets) | {a.name: a for a in (*body.attribute_proto, *node.attribute)}
        scope: Scope = dict(zip(body.input, inputs, strict=False))
        scope = {formal: value for formal, value in scope.items() if value is not None}
        absent = set(body.input) - set(scope)
        nodes = [resolved(inner, given, absent) for inner in body.node]
        self._nodes(nodes, scope, opsets, name)
        results = [scope.get(output) for output in body.output]
        return None if results and results[0] is None else results

    def _branch(
        self, node: Any, condition: bool, values: Scope, opsets: dict[str, int], name: str
    ) -> list[Value] | None:
        wanted = "then_branch" if condition else "else_branch"
        graph = next(a.g for a in node.attribute if a.name == wanted)
        scope = {**values, **{t.name: numpy_helper.to_array(t) for t in graph.initializer}}
        self._sparse_constants(graph, scope)
        self._nodes(graph.node, scope, opsets, None)
        results = [self._read(scope, output.name, f"a branch of '{name}'") for output in graph.output]
        return None if any(result is None for result in results) else results

    def _note_needed(self, node: Any, inputs: list[Value | None], error: ValueNeeded, name: str) -> None:
        operand = inputs[error.operand]
        self.values_needed |= self.origins.get(getattr(operand, "name", ""), frozenset())
        tensor = node.input[error.operand]
        self.unsupported.note(spelled(node), name, f"its operand '{tensor}' must be a constant")

    def _sparse_constants(self, graph: Any, values: Scope) -> None:
        for tensor in graph.sparse_initializer:
            values[tensor.values.name] = dense(tensor)
