"""A compiled FPGA design: answers through RTL simulation, counts cycles, exports itself."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lhcc.errors import TargetError
from lhcc.integer import Program
from lhcc.integer.core import Ints
from lhcc.targets.fpga.arithmetic import Multiply, constant_matrix, shared_matrix
from lhcc.targets.fpga.cost import DEVICES, Area, area, unrolled_estimate
from lhcc.targets.fpga.cycles import Timing, predict
from lhcc.targets.fpga.folding import place_folded
from lhcc.targets.fpga.forms import FORMS
from lhcc.targets.fpga.packing import pack, unpack
from lhcc.targets.fpga.placement import place
from lhcc.targets.fpga.report import FpgaProfile, rows
from lhcc.targets.fpga.schematic import blocks, svg
from lhcc.targets.fpga.stages import ArrayStage, FifoStage, Pipeline
from lhcc.targets.fpga.testbench import write_testbench
from lhcc.targets.fpga.verilator import PortShape, Simulation, build
from lhcc.targets.fpga.verilog_top import write_files


@dataclass(frozen=True)
class FpgaOptions:
    """`reuse`: 1 unrolls every layer, "folded" shares one block array, "auto" takes what fits; `clock` in MHz."""

    reuse: int | str = "auto"
    clock: float = 100.0
    device: str = "xc7a100t"
    max_luts: int | None = None
    max_bram: int | None = None
    adder_seconds: float = 0.0
    """search time for shared additions per layer; 0 shares greedily, negative shares nothing"""
    form: str = "auto"
    """of unrolled convolutions: direct, transposed, hybrid-rows, hybrid-columns, or whichever costs least"""

    def __post_init__(self) -> None:
        if self.reuse not in (1, "folded", "auto"):
            raise TargetError(f"reuse={self.reuse} is not known", "choose 1, folded or auto")
        if self.form not in ("auto", *FORMS):
            raise TargetError(f"form={self.form} is not known", f"choose auto, {', '.join(FORMS)}")
        if self.device not in DEVICES:
            raise TargetError(f"device '{self.device}' is unknown", f"known devices: {', '.join(DEVICES)}")
        if not 1 <= self.clock <= 1000:
            raise TargetError(f"clock={self.clock} MHz is not between 1 and 1000")

    @property
    def period(self) -> float:
        return 1000.0 / self.clock

    @property
    def luts(self) -> int:
        return self.max_luts if self.max_luts is not None else DEVICES[self.device][0]


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

    def simulation(self, vcd: bool = False) -> Simulation:
        if vcd not in self._built:
            if self.folder is None:
                self._temporary = self._temporary or tempfile.TemporaryDirectory(prefix="lhcc-fpga-")
            folder = (self.folder or Path(self._temporary.name)) / ("traced" if vcd else "simulated")
            inputs = [PortShape(s.word) for s in self.pipeline.inputs]
            self._built[vcd] = build(
                self.files, folder, inputs, [PortShape(s.word) for s in self.pipeline.outputs], vcd=vcd
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
        got, taken, cycles = self.simulation(vcd is not None).run(words, counts, seed, offer, accept, vcd, window)
        outputs = tuple(unpack(w, s) for w, s in zip(got, self.pipeline.outputs, strict=True))
        ends = [t.reshape(images, -1)[:, -1] for t in taken]
        return Run(outputs, np.max(ends, axis=0).tolist(), cycles)

    def predict(self, images: int = 2) -> Timing:
        return predict(self.pipeline, images)

    @property
    def area(self) -> Area:
        return sum((area(s) for s in self.pipeline.stages), Area())

    def profile(self, x: Any = None) -> FpgaProfile:
        """Cycles per layer; with inputs the circuit is simulated too, and both counts are shown."""
        images = 2 if x is None else max(2, len(np.asarray(x)))
        timing = self.predict(images)
        simulated = None
        if x is not None:
            batch = np.asarray(x)
            batch = np.concatenate([batch] * 2) if len(batch) == 1 else batch
            simulated = self.simulate(*self.program.quantise(batch))
        return FpgaProfile(
            rows(self.program, self.pipeline, timing), timing.finished[0] + 1, timing.interval,
            None if simulated is None else simulated.cycles, timing.cycles, self.options.clock, self.area,
            timing.high_water, blocks(self.pipeline),
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
    """Chooses the datapath, places every layer, sizes the FIFOs by the cycle model."""
    chosen = options or FpgaOptions()
    estimate = unrolled_estimate(program)
    if chosen.reuse == 1 or (chosen.reuse == "auto" and estimate <= chosen.luts):
        multiply: Multiply = constant_matrix if chosen.adder_seconds < 0 else shared_matrix(chosen.adder_seconds)
        pipeline = _sized(place(program, chosen.period, multiply, chosen.form))
    else:
        pipeline = place_folded(program, chosen.period)
    executable = FpgaExecutable(program, pipeline, chosen, folder)
    _check(executable)
    return executable


def _sized(pipeline: Pipeline) -> Pipeline:
    """FIFOs one deeper than they ever fill when nothing holds the pipeline up: then no branch waits for the other.

    One deeper, because a full FIFO takes nothing in the cycle in which it gives."""
    if not any(isinstance(s, FifoStage) for s in pipeline.stages):
        return pipeline
    water = predict(pipeline, 3, endless=True).high_water
    stages = [replace(s, depth=max(2, water[s.name] + 1)) if isinstance(s, FifoStage) else s for s in pipeline.stages]
    return replace(pipeline, stages=tuple(stages))


def _check(executable: FpgaExecutable) -> None:
    options, used = executable.options, executable.area
    if options.max_luts is not None and used.luts > options.max_luts:
        largest = max(executable.pipeline.stages, key=lambda s: area(s).luts)
        folded = any(isinstance(s, ArrayStage) for s in executable.pipeline.stages)
        raise TargetError(
            f"{used.luts} LUTs are needed and max_luts={options.max_luts}; '{largest.name}' takes {area(largest).luts}",
            "fewer weight digits or activation bits make the array smaller" if folded else "use reuse=folded",
        )
    if options.max_bram is not None and used.block_memories > options.max_bram:
        raise TargetError(
            f"{used.block_memories} block memories are needed and max_bram={options.max_bram}",
            "a lower density, or fewer digits per weight, needs less weight memory",
        )
