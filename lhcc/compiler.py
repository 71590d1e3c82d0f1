"""From a model to an executable: frontend, passes, code generation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from lhcc.errors import TargetError, UnsupportedOperator
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
        return _partitioned(model, inputs, parsed, chosen)
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
        program, _, images = _integers(model, inputs, options)
        return Source(target, options, program, images)
    if options.io == "integer":
        raise TargetError("a model of floats has no integers to take and give", "compile it with precision int8")
    if options.arith == "shift":
        raise TargetError(
            "a model of floats cannot be computed by shifts and additions", "compile it with precision int8"
        )
    if _is_approximated(model):
        model = model.model
    return Source(target, options, mod=import_model(model, inputs, input_shapes))


def _partitioned(model: Any, inputs: Any, target: base.Target, options: base.Options) -> Any:
    """For a target of integers only: the whole model on it, or what it holds there and the rest on the CPU."""
    from lhcc.approximation.approximate import to_onnx
    from lhcc.approximation.calibrate import read_calibration
    from lhcc.approximation.calibrate import run as run_float
    from lhcc.partition import partition
    from lhcc.runtime.chain import Chain, Part

    calibrate = options.calibrate if options.calibrate is not None else getattr(model, "calibration", None)
    proto = model.exact_activations if _is_approximated(model) else to_onnx(model, inputs)
    parts = partition(proto)
    if parts.circuit is None and (held_back := [r.text for r in parts.reasons if "not dyadic" in r.text]):
        message = f"target '{target.name}' can place no layer: {held_back[0]}"
        raise TargetError(message, "run: lhcc approximate model.onnx --max-error 0.01 -o dyadic.onnx")
    if parts.whole or parts.circuit is None:  # where nothing can be held, the attempt says why
        return target.compile_program(*_integers(model, inputs, options))
    if options.strict:
        shown = "; ".join(f"'{reason.layer}' {reason.text}" for reason in parts.reasons)
        raise UnsupportedOperator(f"target '{target.name}' cannot hold the whole network: {shown}", "drop --strict")
    data = read_calibration(calibrate, proto)
    entry = parts.circuit.graph.input[0].name
    seen = None if data is None else data.few()
    if seen is not None and parts.before is not None:
        names = [value.name for value in parts.before.graph.output]
        seen = dict(zip(names, run_float(parts.before, seen), strict=True))[entry]
    plain = replace(options, precision="fp32", calibrate=None, strict=False)
    found = []
    named = {"before, on the CPU": parts.before, "circuit": parts.circuit, "after, on the CPU": parts.after}
    for name, part in named.items():
        if part is None:
            continue
        if part is parts.circuit:
            program, _, images = _integers(part, None, replace(options, calibrate=seen))
            executable, batch = target.compile_program(program, options, images), None
        else:
            executable = compile_model(part, "cpu", None, None, vars(plain))
            batch = part.graph.input[0].type.tensor_type.shape.dim[0].dim_value or None
        reads = _names(part.graph.input, part)
        found.append(Part(name, executable, reads, _names(part.graph.output, part), batch))
    return Chain(tuple(found), _names(proto.graph.input, proto), _names(proto.graph.output, proto), parts.reasons)


def _names(values: Any, proto: Any) -> tuple[str, ...]:
    constants = {tensor.name for tensor in proto.graph.initializer}
    return tuple(value.name for value in values if value.name not in constants)


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
