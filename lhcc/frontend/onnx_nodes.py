"""What ONNX itself says of a node: its constant, its value, its type, the function that defines it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import defs, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from lhcc.frontend.layers import Value, dtype_of, known, shape_of


def domain_of(domain: str) -> str:
    """ONNX's own operators are of the domain "", which also has a name."""
    return "" if domain == "ai.onnx" else domain


def opsets_of(imports: Any) -> dict[str, int]:
    return {domain_of(entry.domain): entry.version for entry in imports}


def spelled(node: Any) -> str:
    return f"{node.domain}::{node.op_type}" if domain_of(node.domain) else str(node.op_type)


def dense(tensor: Any) -> NDArray[Any]:
    """A SparseTensorProto with its zeros."""
    numbers, places = numpy_helper.to_array(tensor.values), numpy_helper.to_array(tensor.indices)
    out = np.zeros(tuple(tensor.dims), numbers.dtype)
    if places.ndim == 1:
        out.reshape(-1)[places] = numbers
    else:
        out[tuple(places.T)] = numbers
    return out


def constant_of(node: Any) -> NDArray[Any]:
    attribute = node.attribute[0]
    value = helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return np.asarray(numpy_helper.to_array(value))
    if attribute.name == "sparse_value":
        return dense(value)
    kind = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    return np.asarray(value, kind.get(attribute.name, object))


def evaluated(node: Any, inputs: list[Value | None], opsets: dict[str, int]) -> list[Value] | None:
    """The results by ONNX's own reference implementation; None where it has none."""
    feeds = {name: np.asarray(value) for name, value in zip(node.input, inputs, strict=True) if name}
    try:
        results = iter(_computed(_reference(node, feeds, opsets), feeds))
    except Exception:  # the reference covers most of ONNX, not all; the node is then converted as any other
        return None
    values = [next(results) if output else None for output in node.output]
    return values if all(v is None or isinstance(v, (np.ndarray, np.generic)) for v in values) else None


def misfit(node: Any, inputs: list[Value | None], opsets: dict[str, int]) -> str | None:
    """The operands of a node that could not be converted, spelled, where ONNX's reference cannot take them either."""
    operands = {name: value for name, value in zip(node.input, inputs, strict=True) if name}
    feeds = {
        name: np.asarray(value) if known(value) is not None else np.zeros(shape_of(value), dtype_of(value))
        for name, value in operands.items()
    }
    try:
        reference = _reference(node, feeds, opsets)
    except Exception:  # it does not know the operator
        return None
    try:
        _computed(reference, feeds)
    except Exception:
        return ", ".join(f"{name} {feed.dtype}{list(feed.shape)}" for name, feed in feeds.items())
    return None


def _reference(node: Any, feeds: Mapping[str, NDArray[Any]], opsets: dict[str, int]) -> Any:
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in feeds.items()
    ]
    graph = helper.make_graph([node], "node", inputs, [onnx.ValueInfoProto(name=o) for o in node.output if o])
    versions = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    return ReferenceEvaluator(helper.make_model(graph, opset_imports=versions))


def _computed(reference: Any, feeds: Mapping[str, NDArray[Any]]) -> Any:
    with np.errstate(all="ignore"):
        return reference.run(None, dict(feeds))


def type_of(value: Value | None) -> Any:
    if value is None:
        return onnx.TypeProto()
    shape = value.shape if isinstance(value, np.ndarray) else [int(n) for n in value.ty.shape.values]
    dtype = value.dtype if isinstance(value, np.ndarray) else np.dtype(str(value.ty.dtype))
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(dtype), shape)


def body_of(node: Any, types: list[Any], opset: int) -> Any:
    """The function that ONNX defines the operator by, if it does.  Without types, only whether there is one."""
    try:
        schema = defs.get_schema(node.op_type, opset, "")
    except defs.SchemaError:
        return None
    if schema.has_function:
        return schema.function_body
    if not schema.has_context_dependent_function:
        return None
    if not types:
        return schema
    body = schema.get_context_dependent_function(node.SerializeToString(), [t.SerializeToString() for t in types])
    return onnx.FunctionProto.FromString(body) if body else None


def defaults_of(node: Any, opsets: dict[str, int]) -> dict[str, Any]:
    """The default values of a standard operator's attributes."""
    try:
        schema = defs.get_schema(node.op_type, opsets.get(domain_of(node.domain), 1), domain_of(node.domain))
    except defs.SchemaError:
        return {}
    return {name: a.default_value for name, a in schema.attributes.items() if a.default_value.name}


def resolved(node: Any, given: dict[str, Any], absent: set[str]) -> Any:
    """A node of a function body with the caller's attributes in place and absent operands left out."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            copy.attribute.append(attribute)
        elif attribute.ref_attr_name in given:
            actual = onnx.AttributeProto()
            actual.CopyFrom(given[attribute.ref_attr_name])
            actual.name = attribute.name
            copy.attribute.append(actual)
    for i, name in enumerate(copy.input):
        if name in absent:
            copy.input[i] = ""
    return copy
