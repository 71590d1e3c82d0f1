"""From a model to an executable: frontend, passes, code generation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from lhcc.errors import TargetError
from lhcc.frontend import import_model
from lhcc.integer import Program
from lhcc.ir.log import Lowered
from lhcc.pipeline import lower
from lhcc.runtime.build import build
from lhcc.targets import base


@dataclass(frozen=True)
class Source:
    """What a model is to a target that runs code: an integer program for some images at a time, or a Relax module."""

    target: base.Target
    options: base.Options
    program: Program | None = None
    images: int = 1
    mod: Any = None

    @property
    def output_names(self) -> list[str]:
        attributes = self.mod["main"].attrs if self.mod is not None else None
        return [str(name) for name in (attributes or {}).get("output_names", ())]

    def lower(self) -> Lowered:
        """Calls of kernels only."""
        if self.program is None:
            return lower(self.mod, self.target, self.options)
        lowered: Lowered = self.target.lower_program(self.program, self.options, self.images)
        return lowered


def compile_model(
    model: Any, target: str, inputs: Any, input_shapes: Mapping[str, Any] | None, options: Mapping[str, Any]
) -> Any:
    chosen = make_options(options)
    parsed = base.parse(target)  # a wrong target is told before the model is read
    if parsed.integers_only and not isinstance(model, Program):
        from lhcc.offload import compile_offloaded

        return compile_offloaded(model, inputs, input_shapes, parsed, chosen)
    source = read_model(model, parsed, chosen, inputs, input_shapes)
    if source.program is not None:
        return parsed.compile_program(source.program, chosen, source.images)
    return compile_floats(source)


def compile_floats(source: Source) -> Any:
    """A model that was imported as floats."""
    target, options = source.target, source.options
    if hasattr(target, "build"):
        return target.build(source.lower(), options, source.output_names)
    limits = options.limits(getattr(target, "board", None))
    return build(source.lower(), target, threads=options.threads, output_names=source.output_names, limits=limits)


def read_model(
    model: Any, target: base.Target, options: base.Options, inputs: Any, input_shapes: Mapping[str, Any] | None
) -> Source:
    if isinstance(model, Program):
        return Source(target, options, model)
    if "int8" in (options.precision, getattr(target, "precision", "")):
        program, images = _integers(model, inputs, input_shapes, options)
        return Source(target, options, program, images)
    if options.io == "integer":
        raise TargetError("a model of floats has no integers to take and give", "compile it with precision int8")
    if options.arith == "shift":
        raise TargetError(
            "a model of floats cannot be computed by shifts and additions", "compile it with precision int8"
        )
    if options.calibrate is not None:
        raise TargetError("a model of floats has no use for calibration data", "compile it with precision int8")
    if is_approximated(model):
        model = model.model
    return Source(target, options, mod=import_model(model, inputs, input_shapes))


def is_approximated(model: Any) -> bool:
    return type(model).__module__.startswith("lhcc.approximation")


def calibration_of(model: Any, options: base.Options) -> Any:
    """The user's data, or else what the model was approximated with."""
    return options.calibrate if options.calibrate is not None else getattr(model, "calibration", None)


def _integers(
    model: Any, inputs: Any, input_shapes: Mapping[str, Any] | None, options: base.Options
) -> tuple[Program, int]:
    """The model as an integer program, and how many images its input holds."""
    from lhcc.approximation.as_onnx import check_sizes, to_onnx
    from lhcc.approximation.quantise import quantise

    calibrate = calibration_of(model, options)
    model = model.bound(inputs, input_shapes) if is_approximated(model) else to_onnx(model, inputs, input_shapes)
    proto = model.model if is_approximated(model) else model
    check_sizes(proto)
    first = proto.graph.input[0].type.tensor_type.shape.dim
    images = first[0].dim_value if first and first[0].dim_value > 0 else 1
    return quantise(model, calibrate), images


def make_options(options: Mapping[str, Any]) -> base.Options:
    known = [field.name for field in fields(base.Options)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TargetError(f"'{unknown[0]}' is not an option of lhcc.compile", f"the options are {', '.join(known)}")
    return base.Options(**options)
