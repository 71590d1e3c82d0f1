"""Our converters of ONNX operators, one file per group; the graph importer asks here first, then TVM.

A converter takes a `Node` and returns a value, or a list of one value per output; a value is a Relax expression, or a
numpy array where it is known.  What it cannot convert raises NotImplementedError with the reason.
"""

from __future__ import annotations

from lhcc.frontend.onnx_ops import convolution, elementwise, pooling, reduction, resizing, selection, shapes  # noqa: F401
from lhcc.frontend.onnx_ops.registry import CONVERTERS, VALUE_OPERANDS, Node, ValueNeeded

__all__ = ["CONVERTERS", "VALUE_OPERANDS", "Node", "ValueNeeded"]
