"""A compiled FPGA design: answers through RTL simulation, counts cycles, exports itself."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lhcc.integer import Program
from lhcc.integer.core import Ints
from lhcc.targets.fpga.blame import pace
from lhcc.targets.fpga.cost import Area, area
from lhcc.targets.fpga.cycles import Timing, predict
from lhcc.targets.fpga.design import design
from lhcc.targets.fpga.options import FpgaOptions
from lhcc.targets.fpga.packing import pack, unpack
from lhcc.targets.fpga.report import FpgaProfile, rows
from lhcc.targets.fpga.schematic import blocks, svg
from lhcc.targets.fpga.stages import Pipeline
from lhcc.targets.fpga.synthesis import available, synthesised
from lhcc.targets.fpga.testbench import write_testbench
from lhcc.targets.fpga.verilator import LONG, PortShape, Simulation, build
from lhcc.targets.fpga.verilog_top import write_files


@dataclass
class Run:
    """One simulation: results, cycle of each image's last transfer, all cycles."""

    outputs: tuple[Ints, ...]
    finished: list[int]
    cycles: int


@dataclass
class FpgaExecutable:
    program: Program
    pipeline: Pipeline
    options: FpgaOptions
    folder: Path | None = None
    """where the simulation is built; a temporary folder if None"""
    _built: dict[bool, Simulation] = field(default_factory=dict)
    _temporary: Any = None

    @property
    def layers(self) -> tuple[str, ...]:
        """the names of the program's instructions, in the order of the stages that carry them out"""
        return tuple(name for stage in self.pipeline.stages for name in getattr(stage, "layers", ()))

    @property
    def reasons(self) -> tuple[Any, ...]:
        """what stayed outside: nothing, a circuit holds its whole program"""
        return ()

    def __call__(self, *inputs: Any) -> Any:
        """Float images in, float results out, every bit of them from the simulated circuit."""
        arrays = [np.asarray(x) for x in inputs]
        results = self.program.dequantise(*self.simulate(*self.program.quantise(*arrays)).outputs)
        return results[0] if len(results) == 1 else results

    def functional(self, *inputs: Any) -> Any:
        """The same answer from the integer program, without simulating the circuit: for whole data sets."""
        return self.program(*(np.asarray(x) for x in inputs))

    @cached_property
    def files(self) -> dict[str, str]:
        return write_files(self.pipeline)

    def simulation(self, vcd: bool = False, images: int = 1) -> Simulation:
        """The built circuit: quickly built for a few images, built again, optimised, once so many come that it pays."""
        long = images * max(map(pace, self.pipeline.stages)) > LONG
        built = self._built.get(vcd)
        if built is None or (long and not built.optimised):
            if self.folder is None:
                self._temporary = self._temporary or tempfile.TemporaryDirectory(prefix="lhcc-fpga-")
            folder = (self.folder or Path(self._temporary.name)) / ("traced" if vcd else "simulated")
            inputs = [PortShape(s.word) for s in self.pipeline.inputs]
            self._built[vcd] = build(
                self.files, folder, inputs, [PortShape(s.word) for s in self.pipeline.outputs], long, vcd
            )
        return self._built[vcd]

    def simulate(
        self,
        *inputs: Ints,
        seed: int = 0,
        offer: int = 100,
        accept: int = 100,
        vcd: Path | None = None,
        window: tuple[int, int] = (0, 1 << 62),
    ) -> Run:
        """Integers through the circuit; `offer` and `accept` below 100 idle the ports at random, by `seed`."""
        images = len(inputs[0])
        words = [pack(x, s) for x, s in zip(inputs, self.pipeline.inputs, strict=True)]
        counts = [s.transfers * images for s in self.pipeline.outputs]
        got, taken, cycles = self.simulation(vcd is not None, images).run(
            words, counts, seed, offer, accept, vcd, window
        )
        outputs = tuple(unpack(w, s) for w, s in zip(got, self.pipeline.outputs, strict=True))
        ends = [t.reshape(images, -1)[:, -1] for t in taken]
        return Run(outputs, np.max(ends, axis=0).tolist(), cycles)

    def predict(self, images: int = 2) -> Timing:
        return predict(self.pipeline, images)

    @property
    def area(self) -> Area:
        return sum((area(s) for s in self.pipeline.stages), Area())

    def profile(self, x: Any = None, synthesis: bool | None = None) -> FpgaProfile:
        """Cycles per layer; with inputs the circuit is simulated too, and both counts are shown.

        `synthesis`: whether Yosys counts LUTs, flip-flops and memories; by default where it is installed."""
        return self.profile_integers(*(() if x is None else self.program.quantise(np.asarray(x))), synthesis=synthesis)

    def profile_integers(self, *inputs: Ints, synthesis: bool | None = None) -> FpgaProfile:
        """The same with integers as inputs; of one image, two are taken, so that one follows the other."""
        batches = [np.concatenate([x] * 2) if len(x) == 1 else x for x in inputs]
        timing = self.predict(len(batches[0]) if batches else 2)
        simulated = self.simulate(*batches) if batches else None
        counted = synthesised(self.pipeline) if (available() if synthesis is None else synthesis) else {}
        return FpgaProfile(
            rows(self.program, self.pipeline, timing, counted), timing.finished[0] + 1, timing.interval,
            None if simulated is None else simulated.cycles, timing.cycles, self.options.clock, self.area,
            sum(counted.values(), Area()) if counted else None, timing.high_water, blocks(self.pipeline),
        )  # fmt: skip

    def export(self, folder: str | Path, x: Any = None) -> Path:
        """Verilog, memories, testbench with vectors, Makefile and Yosys script: simulates without lhcc."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        files = dict(self.files)
        inputs = self._examples(x)
        words = [pack(a, s) for a, s in zip(inputs, self.pipeline.inputs, strict=True)]
        results = self.program.run(*inputs)
        files |= write_testbench(
            self.pipeline, words, [pack(r, s) for r, s in zip(results, self.pipeline.outputs, strict=True)]
        )
        files["constraints.xdc"] = f"create_clock -period {self.options.period:.3f} [get_ports clk]\n"
        files["pipeline.svg"] = svg(blocks(self.pipeline))
        for name, text in files.items():
            (target / name).write_text(text)
        return target

    def save(self, path: str | Path) -> None:
        """One file that `lhcc.load` reads: the integer program and the options, by which it is placed again."""
        from lhcc.targets.fpga.artifact import write

        write(path, self.program, self.options)

    def _examples(self, x: Any) -> Sequence[Ints]:
        if x is not None:
            return self.program.quantise(np.asarray(x))
        rng = np.random.default_rng(0)
        types = [self.program.types[s.name] for s in self.program.inputs]
        return [rng.integers(t.low, t.high + 1, (2, *t.shape)) for t in types]


def compile_program(program: Program, options: FpgaOptions | None = None, folder: Path | None = None) -> FpgaExecutable:
    """The circuit that the options ask for, or the reason why there is none."""
    chosen = options or FpgaOptions()
    return FpgaExecutable(program, design(program, chosen), chosen, folder)
