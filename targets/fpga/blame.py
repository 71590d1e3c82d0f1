"""Which layer stands in the way: the one that takes most LUTs, memory or cycles of a design."""

from __future__ import annotations

from dataclasses import replace

from lhcc.targets.fpga.cost import area, array_area
from lhcc.targets.fpga.folded_code import demands
from lhcc.targets.fpga.folded_jobs import Job
from lhcc.targets.fpga.stages import AnyStage, ArrayStage, Pipeline


def most_luts(pipeline: Pipeline) -> str:
    stage = max(pipeline.stages, key=lambda s: area(s).luts)
    text = f"'{stage.name}' alone takes {area(stage).luts} LUTs"
    if not isinstance(stage, ArrayStage):
        return text
    whole = stage.folding
    layer = max(whole.jobs, key=lambda j: array_area(demands(replace(whole, jobs=(j,)))).luts)
    return f"{text}, as '{layer.name}' needs it"


def most_memory(pipeline: Pipeline) -> str:
    stage = max(pipeline.stages, key=lambda s: area(s).half_memories)
    used = area(stage).block_memories
    if not isinstance(stage, ArrayStage):
        return f"the line memories of '{stage.name}' take {used}"
    jobs = stage.folding.jobs
    layer = max(jobs, key=lambda j: len(j.pairs))
    passes = sum(len(j.pairs) for j in jobs)
    return f"'{stage.name}' holds {used}, and '{layer.name}' has {len(layer.pairs)} of its {passes} blocks of weights"


def most_cycles(pipeline: Pipeline) -> str:
    stage = max(pipeline.stages, key=pace)
    if not isinstance(stage, ArrayStage):
        return f"'{stage.name}' streams {pace(stage)} pixels"
    layer: Job = max(stage.folding.jobs, key=lambda j: j.cycles)
    return f"'{layer.name}' alone takes {layer.cycles} cycles, and a layer is not shared between arrays"


def pace(stage: AnyStage) -> int:
    """The cycles that a stage is busy with an image."""
    return stage.folding.period if isinstance(stage, ArrayStage) else stage.inputs[0].pixels
