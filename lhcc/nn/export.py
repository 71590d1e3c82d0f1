"""Writes a trained network as ONNX: masks multiplied into the weights, exact zeros, layers named as in the model."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from lhcc.errors import ModelError, ToolMissing, first_line
from lhcc.frontend.given import example_arguments
from lhcc.nn.convert import fold_masks

if TYPE_CHECKING:
    import onnx


def export_onnx(
    model: nn.Module | torch.export.ExportedProgram,
    inputs: Sequence[Any] | Mapping[str, Any] | torch.Tensor = (),
    path: str | Path | None = None,
    opset: int = 18,
) -> onnx.ModelProto:
    """Exports `model` in inference mode, with the shapes of `inputs`; writes it to `path` if one is given.

    Every masked weight is a true zero in the file.  A node that owns a layer's weight carries that layer's name.  An
    ExportedProgram needs no inputs: it is written as it was traced.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as missing:
        hint = "pip install onnx onnxscript"
        raise ToolMissing(f"exporting needs {missing.name}, which is not installed", hint) from missing
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(model, nn.Module):
        args, kwargs = example_arguments(model, inputs, None)
        model = fold_masks(model).eval()
    exported = _export_quietly(model, args, kwargs, opset)
    _name_nodes_after_layers(exported)
    _forget_source_code(exported)
    _make_zeros_positive(exported)
    onnx.checker.check_model(exported, full_check=True)
    if path is not None:
        onnx.save(exported, str(path))
    return exported


def _export_quietly(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], opset: int) -> onnx.ModelProto:
    """The exporter logs about every optional package that it does not find; none of that concerns the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            program: Any = torch.onnx.export(
                model, args, kwargs=kwargs or None, dynamo=True, external_data=False, verbose=False, opset_version=opset
            )
    except Exception as error:
        name = type(model).__name__
        raise ModelError(
            f"torch.onnx.export cannot write this {name}: {first_line(error)}",
            "check the example inputs, and that forward has no control flow that depends on values",
        ) from error
    finally:
        logger.setLevel(level)
    proto: onnx.ModelProto = program.model_proto
    return proto


def _name_nodes_after_layers(model: onnx.ModelProto) -> None:
    weights = {tensor.name for tensor in model.graph.initializer if tensor.name.endswith(".weight")}
    taken: set[str] = set()
    for node in model.graph.node:
        layers = [name.removesuffix(".weight") for name in node.input if name in weights]
        if len(layers) == 1 and layers[0] not in taken:
            node.name = layers[0]
            taken.add(layers[0])


def _forget_source_code(model: onnx.ModelProto) -> None:
    """The exporter notes stack traces with the file names of the machine it ran on."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _make_zeros_positive(model: onnx.ModelProto) -> None:
    """A folded batch norm with a negative scale turns a masked 0 into -0."""
    from onnx import numpy_helper

    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if np.issubdtype(values.dtype, np.floating):
            tensor.CopyFrom(numpy_helper.from_array(values + values.dtype.type(0), tensor.name))
