"""What a design does and costs, layer by layer: as a table, as JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lhcc.integer import Conv, Dense, Program
from lhcc.targets.fpga.cost import Area, area
from lhcc.targets.fpga.cycles import Timing
from lhcc.targets.fpga.folded_jobs import INPUTS, OUTPUTS
from lhcc.targets.fpga.folded_units import places
from lhcc.targets.fpga.schematic import Block
from lhcc.targets.fpga.stages import ArrayStage, FifoStage, Pipeline, SlidingStage


@dataclass(frozen=True)
class FpgaLayer:
    name: str
    op: str
    encoding: str
    density: float
    macs: int
    macs_kept: int
    adds: int
    """additions per image"""
    multiplications: int
    cycles: int
    """that the layer's circuit, or the array on its behalf, works on one image"""
    stalls: int
    """cycles in which a finished pixel waited, over the whole prediction"""
    full_adder_bits: int
    luts: int
    flip_flops: int
    block_memories: int
    """of 36 kbit; these three by Yosys where it was asked, else by the model"""
    model_luts: int
    form: str = ""
    """of an unrolled convolution: direct, transposed or hybrid"""
    delay_bits: int = 0
    """pixels and partial sums that are kept from one pixel to later ones"""


@dataclass(frozen=True)
class FpgaProfile:
    layers: tuple[FpgaLayer, ...]
    latency: int
    """cycles from the first pixel in to the last result of the first image"""
    interval: int
    """cycles between images that follow each other"""
    simulated_cycles: int | None
    predicted_cycles: int
    clock: float
    area: Area
    """by the model"""
    synthesised: Area | None
    """by Yosys, where it was asked"""
    fifo_high_water: dict[str, int]
    schematic: tuple[Block, ...] = ()

    @property
    def images_per_second(self) -> float:
        return self.clock * 1e6 / self.interval

    def json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)

    def html(self, pictures: Mapping[str, str] | None = None) -> str:
        """One file with a schematic of the pipeline; kernel shapes are not shown."""
        from lhcc.targets.fpga.report_html import to_html

        return to_html(self)

    def csv(self) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(FpgaLayer)])
        writer.writeheader()
        writer.writerows(dataclasses.asdict(layer) for layer in self.layers)
        return text.getvalue()

    def __str__(self) -> str:
        head = (
            "layer",
            "op",
            "encoding",
            "density",
            "macs kept",
            "adds",
            "cycles",
            "stalls",
            "LUT",
            "FF",
            "BRAM",
            "LUT model",
            "form",
            "kept bits",
        )
        table = [head] + [
            (r.name, r.op, r.encoding, f"{r.density:.3f}", f"{r.macs_kept}", f"{r.adds}", f"{r.cycles}", f"{r.stalls}",
             f"{r.luts}", f"{r.flip_flops}", f"{r.block_memories}", f"{r.model_luts}", r.form, f"{r.delay_bits}")
            for r in self.layers
        ]  # fmt: skip
        widths = [max(len(row[k]) for row in table) for k in range(len(head))]
        lines = [
            "  ".join(c.ljust(w) if k < 3 else c.rjust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True)))
                 for row in table]  # fmt: skip
        return "\n".join([*lines, self.summary()])

    def summary(self) -> str:
        lines = []
        simulated = (
            "not simulated"
            if self.simulated_cycles is None
            else (f"simulated {self.simulated_cycles} cycles, predicted {self.predicted_cycles}")
        )
        lines.append(
            f"latency {self.latency} cycles, one image every {self.interval} cycles "
            f"({self.images_per_second:.0f} images/s at {self.clock:g} MHz), 0 multiplications; {simulated}"
        )
        for by, a in (("Yosys", self.synthesised), ("model", self.area)):
            if a is not None:
                lines.append(f"{by}: {a.luts} LUTs, {a.flip_flops} flip-flops, {a.block_memories} block memories")
        return "\n".join(lines)


def rows(
    program: Program, pipeline: Pipeline, timing: Timing, synthesised: Mapping[str, Area]
) -> tuple[FpgaLayer, ...]:
    """One a layer; areas of `synthesised` stages stand in for the model's."""
    found: list[FpgaLayer] = []
    images = max(1, len(timing.finished))
    for stage in pipeline.stages:
        if isinstance(stage, FifoStage):
            continue
        model = area(stage)
        cost = synthesised.get(stage.name, model)
        if isinstance(stage, ArrayStage):
            found += _jobs(program, stage, cost, model)
            continue
        macs, kept = _macs(program, stage.layers[0])
        adders = stage.adders
        pixels = stage.output.pixels
        found.append(
            FpgaLayer(
                stage.name,
                _op(program, stage.layers[0]),
                "unrolled",
                kept / macs if macs else 1.0,
                macs,
                kept,
                adders * pixels,
                0,
                max(stage.inputs[0].pixels, timing.busy[stage.name] // images),
                timing.stalled[stage.name],
                stage.full_adder_bits,
                cost.luts,
                cost.flip_flops,
                cost.block_memories,
                model.luts,
                stage.form if isinstance(stage, SlidingStage) else "",
                sum(bits * pixels for bits, pixels in stage.delays),
            )  # fmt: skip
        )
    return tuple(found)


def _op(program: Program, name: str) -> str:
    return type(program[name]).__name__


def _macs(program: Program, name: str) -> tuple[int, int]:
    step = program[name]
    if not isinstance(step, Conv | Dense):
        return 0, 0
    shape = program.types[name].shape
    pixels = int(np.prod(shape[:-1])) if len(shape) == 3 else 1
    return step.weight.size * pixels, int(np.count_nonzero(step.weight)) * pixels


def _jobs(program: Program, stage: ArrayStage, cost: Area, model: Area) -> list[FpgaLayer]:
    found = []
    for job in stage.folding.jobs:
        counts = [_macs(program, name) for name in job.layers]
        macs, kept = sum(m for m, _ in counts), sum(k for _, k in counts)
        issued = len(job.pairs) * job.pixels * INPUTS * OUTPUTS
        found.append(
            FpgaLayer(
                job.name,
                _op(program, job.name),
                "folded",
                kept / macs if macs else 1.0,
                macs,
                kept,
                issued * places(stage.code.weight_bits),
                0,
                job.cycles,
                0,
                0,
                cost.luts,
                cost.flip_flops,
                cost.block_memories,
                model.luts,
            )  # fmt: skip
        )
    return found
