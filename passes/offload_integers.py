"""Gives the calls of integer programs to circuits, by TVM's external code generation; the rest is for the processor.

    c = lhcc.int.Input(x); d = lhcc.int.Conv(c, ...); e = lhcc.int.Output(d); y = relax.nn.softmax(e)
      ->  e = relax.call_dps_packed("fused_lhcc_int_Input_..._lhcc_circuit", (x,)); y = relax.nn.softmax(e)

Every call matches a pattern of one of two code generators, and TVM joins neighbours that may be joined without a cycle
into functions.  `lhcc_circuit` places each of its functions, which is what decides: where an instruction cannot be
placed, it is refused and TVM partitions again, with that instruction for `lhcc_processor`.  What comes back is code
that calls the circuits (lhcc.runtime.external) as a runtime module, and the processor's functions as kernel calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.relax.dpl import is_op

from lhcc.errors import Unplaceable
from lhcc.integer import Input
from lhcc.integer.ported import Ported
from lhcc.ir import int_calls, tir_pipeline
from lhcc.ir.graph import calls
from lhcc.ir.log import Log, Lowered
from lhcc.ir.tir import function as kernel
from lhcc.ir.tir import tensor
from lhcc.runtime import external

CIRCUIT, PROCESSOR = "lhcc_circuit", "lhcc_processor"
_running: ContextVar[OffloadIntegers] = ContextVar("running")


@dataclass(frozen=True)
class OffloadIntegers:
    place: Callable[[Ported, int], Any]
    """a program for some images at a time as a circuit, an external.External; raises Unplaceable"""
    compute: Callable[[Ported, int], Lowered]
    """the same on the processor"""
    host: Any
    """the tvm.target.Target of the processor"""
    refused: dict[str, str] = field(default_factory=dict)
    """instruction -> why it is not in a circuit"""
    circuits: dict[str, Any] = field(default_factory=dict)
    """symbol -> what `place` made"""
    integers: dict[str, Lowered] = field(default_factory=dict)
    """symbol -> what `compute` made"""
    modules: list[Any] = field(default_factory=list)
    """code that calls the circuits"""
    errors: list[Exception] = field(default_factory=list)
    placed: dict[tuple[str, ...], Any] = field(default_factory=dict)
    name = "offload_integers"

    def run(self, mod: tvm.IRModule, log: Log) -> tvm.IRModule:
        if not any(int_calls.is_instruction(value) for _, value in calls(mod)):
            return mod
        token = _running.set(self)
        try:
            parted = self._parted(mod)
        finally:
            _running.reset(token)
        for layer, why in self.refused.items():
            if why:
                log.add(layer, self.name, f"outside the circuit: {why}")
        self.modules.extend((parted.attrs or {}).get("external_mods", ()))
        return tvm.IRModule(dict(parted.functions.items()))

    def _parted(self, mod: tvm.IRModule) -> tvm.IRModule:
        while True:
            grouped = relax.transform.FuseOpsByPattern(self._patterns(), bind_constants=True)(mod)
            grouped = relax.transform.MergeCompositeFunctions()(grouped)
            known = len(self.refused)
            self.circuits.clear()
            self.integers.clear()
            try:
                generated = relax.transform.RunCodegen(entry_functions=["main"])(grouped)
            except Exception:
                if self.errors:  # TVM passes on no more than its text
                    raise self.errors.pop() from None
                raise
            if len(self.refused) == known:
                return generated

    def _patterns(self) -> list[Any]:
        def taken(circuit: bool) -> Callable[[Any], bool]:
            return lambda context: (int_calls.name_of(context.matched_expr) not in self.refused) == circuit

        return [
            (f"{codegen}.{name}", is_op(int_calls.operator(name).name)(varg_default_wildcard=True), {}, taken(circuit))
            for codegen, circuit in ((CIRCUIT, True), (PROCESSOR, False))
            for name in int_calls.OPERATORS
        ]

    # ---- code generation, called by TVM
    def generate_circuits(self, functions: Sequence[Any]) -> list[Any]:
        stubs: dict[str, Any] = {}
        for function in functions:
            symbol, images = str(function.attrs["global_symbol"]), int_calls.images_of(function)
            ported = int_calls.read(function)
            circuit = self._placed(ported, images)
            if circuit is not None:
                self.circuits[symbol] = circuit
                stubs[symbol] = _stub(circuit).with_attr("global_symbol", symbol)
        return [tirx.build(tvm.IRModule(stubs), self.host, pipeline=tir_pipeline.NAME)] if stubs else []

    def _placed(self, ported: Ported, images: int) -> Any:
        names = tuple(step.name for step in ported.program.instructions if not isinstance(step, Input))
        if not names:
            self.refused.update((port.name, "") for port in ported.inputs)
            return None
        key = (*names, *map(str, ported.inputs), *map(str, ported.outputs))
        if key not in self.placed:
            try:
                self.placed[key] = self.place(ported, images)
            except Unplaceable as error:
                blamed = [error.layer] if error.layer in names else names
                self.refused.update(dict.fromkeys(blamed, error.message))
                return None
        return self.placed[key]

    def generate_integers(self, functions: Sequence[Any]) -> list[Any]:
        """No module: their kernels are compiled with the others."""
        for function in functions:
            lowered = self.compute(int_calls.read(function), int_calls.images_of(function))
            self.integers[str(function.attrs["global_symbol"])] = lowered
        return []


def _stub(circuit: Any) -> Any:
    """A kernel that calls a circuit with the addresses of its operands."""
    arguments = [*circuit.arguments[0], *circuit.arguments[1]]
    buffers = [tensor(f"operand{k}", list(shape), dtype) for k, (shape, dtype) in enumerate(arguments)]
    addresses = map(tirx.buffer_data, buffers)
    return kernel(buffers, [tirx.Evaluate(tirx.call_packed(external.FUNCTION, circuit.digest, *addresses))])


def _codegen(generate: Callable[[OffloadIntegers, Sequence[Any]], list[Any]]) -> Callable[..., list[Any]]:
    def run(functions: Sequence[Any], options: Any, constant_names: Any) -> list[Any]:
        running = _running.get()
        try:
            return generate(running, functions)
        except Exception as error:
            running.errors.append(error)
            raise

    return run


tvm_ffi.register_global_func(f"relax.ext.{CIRCUIT}", _codegen(OffloadIntegers.generate_circuits), override=True)
tvm_ffi.register_global_func(f"relax.ext.{PROCESSOR}", _codegen(OffloadIntegers.generate_integers), override=True)
