"""For a target that computes integers only: circuits for what it can place, the processor for the rest, in one module.

The parts in integers become calls of the integer dialect inside the imported model; TVM's external code generation
gives them to circuits (lhcc.passes.offload_integers); what is left goes through the passes of the CPU target, and the
circuits are called by its code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from lhcc.approximation.as_onnx import check_sizes, to_onnx
from lhcc.approximation.calibrate import read_calibration
from lhcc.approximation.calibrate import run as run_float
from lhcc.approximation.quantise import quantise
from lhcc.compiler import calibration_of, is_approximated
from lhcc.errors import TargetError, UnsupportedOperator
from lhcc.frontend.half import widened
from lhcc.frontend.onnx import from_proto
from lhcc.integer import Program
from lhcc.integer.ported import Ported
from lhcc.ir import int_calls
from lhcc.ir.graph import shape_of
from lhcc.ir.inline import inline
from lhcc.ir.log import Log, Reason
from lhcc.partition import DOMAIN, Region, partition
from lhcc.passes.offload_integers import OffloadIntegers
from lhcc.pipeline import lower, run
from lhcc.runtime.build import build_program
from lhcc.runtime.circuit import Circuit, digest_of
from lhcc.runtime.mixed import Mixed
from lhcc.targets import base


class NothingPlaced(TargetError):
    """All of a network is outside; the message gives one of the `reasons`, weights that are no integers if some are."""

    def __init__(self, target: base.Target, reasons: Sequence[Reason]) -> None:
        self.reasons = reasons
        texts = [reason.text for reason in reasons]
        inexact = [text for text in texts if "not dyadic" in text]
        hint = "run: lhcc approximate model.onnx --max-error 0.01 -o dyadic.onnx" if inexact else None
        super().__init__(f"target '{target.name}' can place no layer: {[*inexact, *texts, 'there is none'][0]}", hint)


def compile_offloaded(
    model: Any, inputs: Any, input_shapes: Mapping[str, Any] | None, target: base.Target, options: base.Options
) -> Any:
    """The executable of one circuit where that holds the whole network, else a `Mixed` one."""
    mod, offload, found = offloaded(model, inputs, input_shapes, target, options)
    if options.strict and found:
        shown = "; ".join(f"'{reason.layer}' {reason.text}" for reason in found)
        raise UnsupportedOperator(f"target '{target.name}' cannot hold the whole network: {shown}", "drop --strict")
    circuits = list(offload.circuits.values())
    if not found and len(circuits) == 1:
        return circuits[0].executable
    processor = _processor()
    lowered = lower(mod, processor, _plain(options), after=1)
    names = {symbol: f"circuit{number}" for number, symbol in enumerate(offload.circuits)}
    lowered = inline(lowered, offload.integers, names)
    lowered = replace(lowered, reasons=found, modules=offload.modules)
    outputs = [str(name) for name in mod["main"].attrs["output_names"]]
    program = build_program(lowered, processor, threads=options.threads, output_names=outputs)
    return Mixed(replace(program, target=target.name), circuits)


def offloaded(
    model: Any, inputs: Any, input_shapes: Mapping[str, Any] | None, target: base.Target, options: base.Options
) -> tuple[Any, OffloadIntegers, list[Reason]]:
    """The module of what is left to the processor and of calls of circuits, the pass, and what is outside and why."""
    proto = to_onnx(model.exact_activations if is_approximated(model) else model, inputs, input_shapes)
    check_sizes(proto)
    parts = partition(proto)
    if not parts.regions:
        raise NothingPlaced(target, parts.reasons)
    data = read_calibration(calibration_of(model, options), proto)
    programs = {region.name: _program(region, data) for region in parts.regions}
    converters = {(DOMAIN, name): partial(_written, program) for name, program in programs.items()}
    mod = widened(from_proto(parts.model, None, _shapes(proto), converters))
    processor = _processor()
    offload = OffloadIntegers(
        partial(_circuit, target=target, options=options),
        lambda ported, images: processor.lower_part(ported, _plain(options), images),
        processor.tvm_target(),
    )
    log = Log()
    mod = run(mod, [offload], log)
    if not offload.circuits:
        raise NothingPlaced(target, [*log.reasons, *parts.reasons])
    return mod, offload, [*parts.reasons, *log.reasons]


def _processor() -> Any:
    return base.parse("cpu")


def _plain(options: base.Options) -> base.Options:
    return replace(options, precision="fp32", io="float", calibrate=None, strict=False)


def _program(region: Region, data: Any) -> Program:
    """The region's integers; data for the model's input is brought to where the region begins."""
    if data is None or region.before is None:
        return quantise(region.model, None if data is None else data.x)
    return quantise(region.model, run_float(region.before, data.few())[0])


def _shapes(proto: Any) -> dict[str, Any]:
    """An open number of images is one: others are taken in turn."""
    inputs = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in proto.graph.input}
    return {name: (1, *dims[1:]) for name, dims in inputs.items() if dims and not dims[0]}


def _written(program: Program, node: Any) -> list[Any]:
    """The node of a region as the calls of its program, each under the name of its instruction."""
    builder, (source,) = node.builder, node.inputs

    def emit(call: Any, name: str) -> Any:
        builder.layer = name
        return builder.emit(call)

    return int_calls.write(program, [source], emit, shape_of(source)[0])


def _circuit(ported: Ported, images: int, target: base.Target, options: base.Options) -> Circuit:
    executable = target.compile_program(ported.program, options, images)
    return Circuit(executable, ported, images, digest_of(ported, images, getattr(target, "options", None)))
