"""The stages of a design through Yosys, one by one: an area for each, as the model in cost.py estimates it."""

from __future__ import annotations

import shutil

from lhcc.report.progress import report
from lhcc.targets.fpga.cost import Area
from lhcc.targets.fpga.stages import AnyStage, ArrayStage, FifoStage, Pipeline
from lhcc.targets.fpga.verilog_stages import FIFO, write_stage
from lhcc.targets.fpga.verilog_text import identifier
from lhcc.targets.fpga.yosys import Cells, synthesise

DEEP = 512
"""words that a block memory of 18 kbit holds at its widest; less may become logic, which the contents decide"""


def available() -> bool:
    return shutil.which("yosys") is not None


def synthesised(pipeline: Pipeline) -> dict[str, Area]:
    """Per stage; what was counted before, in this design or another one, is not counted again."""
    areas = {}
    for number, stage in enumerate(pipeline.stages):
        report(f"Yosys: {stage.name}", number, len(pipeline.stages))
        cells = stage_cells(stage)
        areas[stage.name] = Area(cells.luts, cells.flip_flops, half_memories=cells.half_memories)
    return areas


def stage_cells(stage: AnyStage) -> Cells:
    if isinstance(stage, FifoStage):
        return synthesise({"fifo.v": FIFO}, "lhcc_fifo", parameters={"WIDTH": stage.output.word, "DEPTH": stage.depth})
    name = identifier(stage.name)
    memories = stage.code.files(name) if isinstance(stage, ArrayStage) else {}
    return synthesise({"stage.v": write_stage(stage), **{n: counted(text) for n, text in memories.items()}}, name)


def counted(memory: str) -> str:
    """What Yosys is told of a memory's words.  A deep one becomes block memories, whose number follows from its shape
    alone, but Yosys makes a module of its own of every one with other contents: so just two words are told, in which
    every bit differs, and the others are left open."""
    words = memory.split()
    if len(words) <= DEEP:
        return memory
    return f"{'0' * len(words[0])}\n{'f' * len(words[0])}\n"
