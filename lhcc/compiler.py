"""From a model to an executable: frontend, passes, code generation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from lhcc.errors import TargetError
from lhcc.frontend import import_model
from lhcc.integer import Program
from lhcc.pipeline import lower
from lhcc.runtime.build import build
from lhcc.targets import base


def compile_model(
    model: Any, target: str, inputs: Any, input_shapes: Mapping[str, Any] | None, options: Mapping[str, Any]
) -> Any:
    chosen = make_options(options)
    parsed = base.parse(target)  # a wrong target is told before the model is read
    if isinstance(model, Program):
        return parsed.compile_program(model, chosen, images=1)
    if parsed.integers_only or chosen.precision == "int8":
        return parsed.compile_program(*_integers(model, inputs, chosen))
    if _is_approximated(model):
        model = model.model
    mod = import_model(model, inputs, input_shapes)
    names = (mod["main"].attrs or {}).get("output_names", ())
    lowered, output_names = lower(mod, parsed, chosen), [str(name) for name in names]
    if hasattr(parsed, "build"):
        return parsed.build(lowered, chosen, output_names)
    limits = chosen.limits(getattr(parsed, "board", None))
    return build(lowered, parsed, threads=chosen.threads, output_names=output_names, limits=limits)


def _is_approximated(model: Any) -> bool:
    return type(model).__module__.startswith("lhcc.approximation")


def _integers(model: Any, inputs: Any, options: base.Options) -> tuple[Program, base.Options, int]:
    """The model as an integer program, and how many images its input holds."""
    from lhcc.approximation.approximate import to_onnx
    from lhcc.approximation.quantise import quantise

    calibrate = options.calibrate if options.calibrate is not None else getattr(model, "calibration", None)
    if not _is_approximated(model):
        model = to_onnx(model, inputs)
    proto = model.model if _is_approximated(model) else model
    first = proto.graph.input[0].type.tensor_type.shape.dim
    images = first[0].dim_value if first and first[0].dim_value > 0 else 1
    return quantise(model, calibrate), options, images


def make_options(options: Mapping[str, Any]) -> base.Options:
    known = [field.name for field in fields(base.Options)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TargetError(f"'{unknown[0]}' is not an option of lhcc.compile", f"the options are {', '.join(known)}")
    return base.Options(**options)
