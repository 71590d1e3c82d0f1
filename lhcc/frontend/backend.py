"""lhcc as an ONNX backend (`onnx.backend.base`): prepare(model).run(inputs), on the CPU.

ONNX lets a graph take shapes, paddings or scales as run-time inputs, a compiled function has static ones.  So `run`
compiles at its first call, and again when an input that decides a shape changes its value.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.backend.base import Backend, BackendRep

import lhcc
from lhcc.errors import InputError, UnsupportedOperator
from lhcc.frontend.checks import InputValueNeeded
from lhcc.frontend.half import Widened


class LhccRep(BackendRep):
    """A model, compiled for the shapes (and shape-deciding values) that it was last run with."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        fixed = {tensor.name for tensor in model.graph.initializer}
        self.names = [value.name for value in model.graph.input if value.name not in fixed]
        self.constants: tuple[str, ...] = ()
        self._compiled: tuple[Any, Any] | None = None

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs, for inputs in order or by name."""
        if isinstance(inputs, dict):
            values = inputs
        else:
            inputs = inputs if isinstance(inputs, (list, tuple)) else [inputs]
            if len(inputs) != len(self.names):
                raise InputError(f"the model takes {len(self.names)} inputs, {len(inputs)} were given")
            values = dict(zip(self.names, inputs, strict=True))
        executable = self._executable(values)
        outputs = executable(*(values[name] for name in self.names if name not in self.constants))
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def _executable(self, values: dict[str, Any]) -> Any:
        if not self.constants:  # nothing about an input without elements is unknown
            self.constants = tuple(name for name in self.names if getattr(values[name], "size", None) == 0)
        key = self._key(values)
        if self._compiled is None or self._compiled[0] != key:
            while True:
                model = _with_constants(self.model, {name: values[name] for name in self.constants})
                inputs = {name: value for name, value in values.items() if name not in self.constants}
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("error", Widened)
                        executable = lhcc.compile(model, inputs=inputs)
                    break
                except Widened as warning:  # a backend's results are of the type that the model declares
                    raise UnsupportedOperator(str(warning), "convert the model to float32") from None
                except InputValueNeeded as needed:
                    if set(needed.inputs) <= set(self.constants):
                        raise
                    self.constants = (*self.constants, *needed.inputs)
            self._compiled = self._key(values), executable
        return self._compiled[1]

    def _key(self, values: dict[str, Any]) -> Any:
        return [
            (name, getattr(value, "shape", None), np.asarray(value).tobytes() if name in self.constants else None)
            for name, value in values.items()
        ]


def _with_constants(model: Any, constants: dict[str, NDArray[Any]]) -> Any:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items())
    return copy


class LhccBackend(Backend):
    """The functions that onnx.backend expects of a backend."""

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **kwargs: Any) -> bool:
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> LhccRep:
        if not cls.supports_device(device):
            raise InputError(f"there is no device '{device}'", "use CPU")
        return LhccRep(model)

    @classmethod
    def run_model(cls, model: Any, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        return cls.prepare(model, device).run(inputs)

    @classmethod
    def run_node(
        cls, node: Any, inputs: Any, device: str = "CPU", outputs_info: Sequence[Any] | None = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        arrays = dict(zip(filter(None, node.input), map(np.asarray, inputs), strict=True))
        graph = onnx.helper.make_graph(
            [node],
            "node",
            [
                onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
                for n, a in arrays.items()
            ],
            [onnx.ValueInfoProto(name=name) for name in node.output if name],
        )
        return cls.run_model(onnx.helper.make_model(graph), arrays, device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return str(device).split(":")[0] == "CPU"


prepare = LhccBackend.prepare
run_model = LhccBackend.run_model
run_node = LhccBackend.run_node
supports_device = LhccBackend.supports_device
is_compatible = LhccBackend.is_compatible
