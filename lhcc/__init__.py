"""lhcc: a deployment compiler for structurally compressed CNNs.  Importing it is cheap; TVM comes at first use."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lhcc.errors import LhccError

if TYPE_CHECKING:
    from lhcc.approximation import Approximated
    from lhcc.ccode.emit import Emitted
    from lhcc.inspection import Report
    from lhcc.runtime.executable import Executable
    from lhcc.tuning.tune import TuningReport

__version__ = "0.1.0"
__all__ = ["LhccError", "approximate", "compile", "emit", "inspect", "load", "tune"]

Shapes = Mapping[str, Sequence[int]]


def compile(  # noqa: A001 - the word users expect
    model: Any, target: str = "cpu", inputs: Any = None, *, input_shapes: Shapes | None = None, **options: Any
) -> Executable:
    """A callable executable of `model`: an nn.Module with example `inputs`, an ExportedProgram, an ONNX ModelProto, or
    the path of an .onnx or .pt2 file.

    Options: `threads=1`, `tuning="tuning.json"`, `encoding="dense"` for the uncompressed baseline, `precision="int8"`
    with `calibrate=` data for models whose weights are integers times a scale (dyadic, QDQ, QLinear, QONNX), which with
    `io="integer"` take and give integers, not the numbers that these stand for.
    """
    from lhcc.compiler import compile_model

    executable: Executable = compile_model(model, target, inputs, input_shapes, options)
    return executable


def emit(
    model: Any,
    output: str | os.PathLike[str],
    target: str = "cpu",
    inputs: Any = None,
    *,
    form: str = "c",
    name: str | None = None,
    weights: str = "array",
    input_shapes: Shapes | None = None,
    **options: Any,
) -> Emitted:
    """Writes `model` as C: with form "c" a folder for a C project, with "so" or "a" a library and its header.

    `name` begins every symbol; `weights="binary"` keeps the weights of a folder in a file of their own.  Options are
    those of `compile`; with `io="integer"` a model of integers needs no floating-point numbers at all.
    """
    from lhcc.ccode.emit import emit as emit_model

    return emit_model(
        model, output, form, target=target, name=name, weights=weights, inputs=inputs, input_shapes=input_shapes,
        options=options,
    )  # fmt: skip


def load(path: str | os.PathLike[str], threads: int | None = None) -> Executable:
    """The executable that its `save` wrote; needs the TVM runtime and numpy only."""
    from lhcc.runtime.artifact import load as load_artifact

    executable: Executable = load_artifact(path, threads)
    return executable


def inspect(model: Any, inputs: Any = None, *, input_shapes: Shapes | None = None) -> Report:
    """What structure the weights of every layer have, and what it would save."""
    from lhcc.frontend import import_model
    from lhcc.inspection import inspect_module

    return inspect_module(import_model(model, inputs, input_shapes))


def approximate(model: Any, inputs: Any = None, calibrate: Any = None, **how: Any) -> Approximated:
    """The model with dyadic constants, and the report; `lhcc.compile` takes it, with `precision="int8"` as integers.

    Further arguments: `set`, `scale`, `per`, the budgets `max_error`, `max_adds`, `max_drop`, and `input_shapes`.
    """
    from lhcc.approximation import approximate as approximate_model

    return approximate_model(model, inputs, calibrate, **how)


def tune(
    model: Any,
    target: str = "cpu",
    inputs: Any = None,
    *,
    budget_s: float = 60.0,
    database: str = "tuning.json",
    **how: Any,
) -> TuningReport:
    """Measures for `budget_s` seconds which kernels are the fastest; `lhcc.compile(..., tuning=database)` takes them.

    Further arguments: `input_shapes`, the options of `compile`, `rpc="HOST:PORT"` and `key` to measure on a board that
    runs `lhcc serve`, `also_generic=True` for operators that have no kernel generator of lhcc's.
    """
    from lhcc.tuning.tune import tune_with

    return tune_with(model, target, inputs, budget_s=budget_s, database=database, **how)
