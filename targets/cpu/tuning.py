"""The CPU's search space: every choice of `Choice` about every layer, checked against the numpy reference."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tvm

from lhcc.ir.graph import attributes, calls, op_name, shape_of
from lhcc.ir.layer import ConvLayer, conv_layer
from lhcc.ir.log import Log
from lhcc.ir.reference_ops import DIALECT
from lhcc.passes.encode_elements import EncodeElements, Widened
from lhcc.passes.pack_tiles import PackTiles
from lhcc.pipeline import graph_passes, run
from lhcc.targets.base import Options
from lhcc.targets.cpu import generic_tuning, wide_tuning
from lhcc.targets.cpu.choice import Choice
from lhcc.targets.cpu.conv import conv_kernel
from lhcc.targets.cpu.encode import encode
from lhcc.targets.cpu.pack import Problem as Layer
from lhcc.targets.cpu.plan import ConvSpec
from lhcc.targets.cpu.target import CpuTarget
from lhcc.targets.cpu.variants import ranked
from lhcc.targets.cpu.wide_choice import WideLayer
from lhcc.targets.cpu.workload import setting, workload
from lhcc.tuning.database import Setting
from lhcc.tuning.space import Kernel, Task, own_code, random_map
from lhcc.tuning.worker import Problem

EVICT = 4 << 20  # bytes: more than this of other layers' data makes no difference to the next run of a layer


@dataclass(frozen=True)
class CpuSpace:
    target: CpuTarget
    options: Options

    def setting(self, processor: str) -> Setting:
        return setting(self.target.machine, self.options, processor)

    def compiles_for(self, processor: str) -> bool:
        machine = self.target.machine
        return bool(machine.mtriple) or self.setting(processor) == setting(machine, self.options)

    def tvm_target(self) -> Any:
        return self.target.tvm_target()

    def tasks(self, mod: tvm.IRModule) -> list[Task]:
        wide: list[tuple[WideLayer, Widened]] = []
        laid_out = run(mod, [*graph_passes(), *self._layout_passes(wide)], Log())
        found = [(layer, call) for name, call in calls(laid_out) if (layer := conv_layer(name, call))]
        touched = [_bytes(layer) for layer, _ in found]
        by_workload: dict[str, list[int]] = {}
        for number, (layer, _) in enumerate(found):
            by_workload.setdefault(workload(self._layer(layer)), []).append(number)
        return [
            self._task(key, [found[n][0].name for n in numbers], *found[numbers[0]], sum(touched) - touched[numbers[0]])
            for key, numbers in by_workload.items()
        ] + wide_tuning.tasks(wide, EVICT)

    def generic_tasks(self, mod: tvm.IRModule) -> list[Task]:
        return generic_tuning.tasks(mod, self.target, self.target.machine, self.options)

    def _layout_passes(self, wide: list[tuple[WideLayer, Widened]]) -> list[Any]:
        """Those that come before the choice of register tiles; layers that read widened input are noted."""
        options = replace(self.options, tuning=None)

        def note(layer: ConvLayer) -> Widened | str:
            found = encode(layer, self.target.machine, options)
            if isinstance(found, Widened):
                wide.append((WideLayer(layer, self.target.machine, options), found))
            return found

        passes = [item for item in self.target.layout_passes(options) if not isinstance(item, PackTiles)]
        return [EncodeElements(note) if isinstance(item, EncodeElements) else item for item in passes]

    def _layer(self, layer: ConvLayer) -> Layer:
        return Layer(layer, self.target.machine, self.options)

    def _task(self, key: str, names: list[str], layer: ConvLayer, call: Any, others: int) -> Task:
        packer = self._layer(layer)
        candidates = ranked(packer)
        maps = [call.args[0], *call.args[3:]]
        ranks = len(shape_of(call.args[0])), len(shape_of(call))

        def kernel(choice: Mapping[str, Any]) -> Kernel:
            packed = packer.pack(Choice.from_dict(choice), ())
            return Kernel(
                f"{packed.spec} {ranks}", lambda: conv_kernel(ConvSpec.from_json(packed.spec), *ranks), packed.constants
            )

        def problem() -> Problem:
            inputs = tuple(random_map(shape_of(m), seed) for seed, m in enumerate(maps))
            weights = [] if layer.weight is None else [layer.weight, layer.bias]
            operands = [np.asarray(a, np.float64) for a in (inputs[0], *weights, *inputs[1:])]
            expected = DIALECT[op_name(call)](attributes(call), *operands)
            return Problem(inputs, np.asarray(expected, np.float32), self.options.threads, min(others, EVICT))

        choices = [candidate.choice.to_dict() for candidate in candidates]
        return Task(key, tuple(names), choices, [c.cycles for c in candidates], problem, kernel, _code)


def create(target: CpuTarget, options: Options) -> CpuSpace:
    return CpuSpace(target, options)


def _code(choice: Mapping[str, Any]) -> Hashable:
    """Which tiles are kept, and the order of the loops, are data."""
    return own_code({name: value for name, value in choice.items() if name not in ("dense", "together")})


def _bytes(layer: ConvLayer) -> int:
    """Memory that a run of the layer touches, about."""
    weights = 0 if layer.weight is None else int(np.count_nonzero(layer.weight))
    return 4 * (weights + int(np.prod(layer.image)) + int(np.prod(layer.result)))
