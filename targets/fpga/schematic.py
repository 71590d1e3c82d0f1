"""The pipeline as a picture: one box per stage in the order of the data, lines where streams fork and join."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from lhcc.targets.fpga.stages import ArrayStage, FifoStage, JoinStage, Pipeline, SlidingStage, Stream

ROW, BOX_H, BOX_W, LEFT, LANE = 58, 40, 460, 20, 26  # pixels
FILL = {"input": "#718096", "output": "#718096", "fifo": "#b7791f", "join": "#805ad5", "array": "#2f855a"}


@dataclass(frozen=True)
class Block:
    name: str
    kind: str
    detail: str
    reads: tuple[str, ...]
    """the blocks whose streams it takes"""


def blocks(pipeline: Pipeline) -> tuple[Block, ...]:
    makers = {s.name: s.name for s in pipeline.inputs} | {s.output.name: s.name for s in pipeline.stages}
    found = [Block(s.name, "input", _shape(s), ()) for s in pipeline.inputs]
    for stage in pipeline.stages:
        if isinstance(stage, FifoStage):
            kind, detail = "fifo", f"FIFO of {stage.depth} pixels"
        elif isinstance(stage, ArrayStage):
            work = f"{len(stage.folding.jobs)} jobs, {len(stage.code.passes)} passes"
            kind, detail = "array", f"32 x 16 shift-add units, {work}"
        else:
            kind = "join" if isinstance(stage, JoinStage) else "stage"
            form = f", {stage.form} form" if isinstance(stage, SlidingStage) and stage.geometry.kernel != (1, 1) else ""
            detail = f"{stage.adders} adders in {stage.steps} steps{form}"
        reads = tuple(makers[s.name] for s in stage.inputs)
        found.append(Block(stage.name, kind, f"{detail} -> {_shape(stage.output)}", reads))
    ends = [(f"output {k}" if k else "output", s) for k, s in enumerate(pipeline.outputs)]
    return (*found, *(Block(name, "output", _shape(s), (makers[s.name],)) for name, s in ends))


def _shape(stream: Stream) -> str:
    return f"{'x'.join(map(str, stream.type.shape))}, {stream.type.bits} bits"


def svg(parts: Sequence[Block]) -> str:
    """Boxes below each other; a stream that skips boxes runs beside them, in a lane of its own."""
    rows = {b.name: k for k, b in enumerate(parts)}
    edges = [(rows[source], k) for k, b in enumerate(parts) for source in b.reads]
    skipping = sorted((e for e in edges if e[1] - e[0] > 1), key=lambda e: (e[1] - e[0], e))
    lanes: list[list[tuple[int, int]]] = []
    for edge in skipping:
        lane = next((lane for lane in lanes if all(edge[1] <= a or b <= edge[0] for a, b in lane)), None)
        if lane is None:
            lanes.append(lane := [])
        lane.append(edge)
    text = []
    for upper, lower in edges:
        if lower - upper == 1:
            x = LEFT + BOX_W / 2
            text.append(f'<path class="wire" d="M{x} {upper * ROW + BOX_H} L{x} {lower * ROW}"/>')
    for number, lane in enumerate(lanes):
        x = LEFT + BOX_W + (number + 1) * LANE
        for upper, lower in lane:
            start, end = upper * ROW + BOX_H / 2, lower * ROW + BOX_H / 2
            side = LEFT + BOX_W
            text.append(f'<path class="wire" d="M{side} {start} L{x} {start} L{x} {end} L{side} {end}"/>')
    for k, b in enumerate(parts):
        y = k * ROW
        text.append(
            f'<g class="block {b.kind}"><title>{escape(b.name)}: {escape(b.detail)}</title>'
            f'<rect x="{LEFT}" y="{y}" width="{BOX_W}" height="{BOX_H}" rx="5" fill="{FILL.get(b.kind, "#2b6cb0")}"'
            f' fill-opacity="0.2" stroke="currentColor"/>'
            f'<text x="{LEFT + 10}" y="{y + 17}">{escape(_short(b.name, 60))}</text>'
            f'<text x="{LEFT + 10}" y="{y + 33}" opacity="0.75">{escape(_short(b.detail, 72))}</text></g>'
        )
    width, height = LEFT + BOX_W + (len(lanes) + 1) * LANE, max(1, len(parts)) * ROW
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="schematic" viewBox="0 0 {width} {height}"'
    style = ".schematic text { font: 12px system-ui, sans-serif; } .wire { fill: none; stroke: currentColor; }"
    return f'{head} width="{width}" height="{height}"><style>{style}</style>\n' + "\n".join(text) + "\n</svg>"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
