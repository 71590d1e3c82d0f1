"""The form of an unrolled layer: pixels wait for its window (direct), partial sums do (transposed), or both (hybrid).

A transposed axis multiplies the entering pixels with all taps of that axis at once, so more outputs share additions;
the sums then wait for each other, which takes wider storage than pixels do.  The cheapest by area is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lhcc.integer import TensorType
from lhcc.integer.core import Window
from lhcc.targets.fpga.arithmetic import Multiply
from lhcc.targets.fpga.cost import area
from lhcc.targets.fpga.netlist import Netlist
from lhcc.targets.fpga.stages import Geometry, SlidingStage, Stream, WindowStage, Wire
from lhcc.targets.fpga.timing import schedule
from lhcc.targets.fpga.transposed import Link, TransposedStage

FORMS = {
    "direct": (False, False),
    "transposed": (True, True),
    "hybrid-rows": (True, False),
    "hybrid-columns": (False, True),
}
"""name -> whether rows and columns are transposed"""


@dataclass(frozen=True)
class Layer:
    """A convolution, or a dense layer over a whole image, to be unrolled; `constants` start the sums."""

    name: str
    layers: tuple[str, ...]
    input: Stream
    output: Stream
    window: Window
    geometry: Geometry
    weight: np.ndarray
    """(kh, kw, inputs / groups, outputs)"""
    groups: int
    constants: Sequence[int]
    finish: Callable[[Netlist, Sequence[int]], list[int]]
    """what follows the sums, as nodes of their netlist"""
    period: float


def cheapest(layer: Layer, multiply: Multiply, form: str) -> SlidingStage:
    """The layer in the form that was asked for, or in the one that costs least ("auto")."""
    stages = [_build(layer, multiply, *FORMS[name]) for name in _candidates(layer, form)]
    return min(stages, key=lambda stage: area(stage).weight)


def _candidates(layer: Layer, form: str) -> list[str]:
    kernel = layer.weight.shape[:2]
    whole = kernel == (layer.input.height, layer.input.width)  # one window per image: its sums would wait for it all
    if whole or kernel == (1, 1) or form == "direct":
        return ["direct"]
    fitting = [name for name, axes in FORMS.items() if all(k > 1 or not t for k, t in zip(kernel, axes, strict=True))]
    if layer.geometry.kernel[1] > layer.input.width and "transposed" in fitting:
        fitting.remove("transposed")  # the next row's first tap would come before this row's last one
    return [form] if form in fitting else fitting if form == "auto" else ["direct"]


def _build(layer: Layer, multiply: Multiply, rows: bool, columns: bool) -> SlidingStage:
    if not rows and not columns:
        return _direct(layer, multiply)
    return _transposed(layer, multiply, rows, columns)


def _interval(x: TensorType, channel: int, padded: bool) -> tuple[int, int]:
    low, high = int(x.low[channel]), int(x.high[channel])
    return (min(low, 0), max(high, 0)) if padded else (low, high)


def _grouped(layer: Layer, block: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(first input channel, first output channel's weights) of every group; `block` has outputs last."""
    size = layer.weight.shape[3] // layer.groups
    for g in range(layer.groups):
        yield g * layer.weight.shape[2], block[..., g * size : (g + 1) * size]


def _inputs(net: Netlist, layer: Layer, wires: list[Wire], where: list[tuple[int, int, int]]) -> list[int]:
    padded, nodes = any(layer.window.padding), []
    for i, j, channel in where:
        nodes.append(net.input(len(wires), *_interval(layer.input.type, channel, padded)))
        wires.append(Wire(i * layer.window.dilation[0], j * layer.window.dilation[1], channel))
    return nodes


def _direct(layer: Layer, multiply: Multiply) -> WindowStage:
    net, wires, sums = Netlist(), list[Wire](), list[int]()
    for first, block in _grouped(layer, layer.weight):
        used = np.argwhere(block.any(axis=3)).tolist()
        inputs = _inputs(net, layer, wires, [(i, j, first + c) for i, j, c in used])
        matrix = np.array([block[i, j, c] for i, j, c in used], np.int64).reshape(len(used), block.shape[3])
        sums += multiply(net, inputs, matrix, layer.constants[len(sums) : len(sums) + block.shape[3]])
    net.outputs = layer.finish(net, sums)
    return WindowStage(
        layer.name, layer.layers, (layer.input,), layer.output, net, schedule(net, layer.period),
        geometry=layer.geometry, wires=tuple(wires),
    )  # fmt: skip


def _transposed(layer: Layer, multiply: Multiply, rows: bool, columns: bool) -> TransposedStage:
    kh, kw, _, outputs = layer.weight.shape
    # axes: direct row, direct column, channel, link (row, column), output
    split = layer.weight.reshape(*((1, kh) if rows else (kh, 1)), *((1, kw) if columns else (kw, 1)), -1, outputs)
    split = split.transpose(0, 2, 4, 1, 3, 5)
    taps = [(i, j) for i in range(split.shape[3]) for j in range(split.shape[4])]
    begins = [min((k for k, t in enumerate(taps) if split[:, :, :, t[0], t[1], o].any()), default=None)
              for o in range(outputs)]  # fmt: skip
    products, wires = Netlist(), list[Wire]()
    found: list[dict[int, int]] = [{} for _ in taps]  # link -> output -> node
    at = 0
    for first, block in _grouped(layer, split):
        used = np.argwhere(block.any(axis=(3, 4, 5))).tolist()
        inputs = _inputs(products, layer, wires, [(i, j, first + c) for i, j, c in used])
        size = block.shape[5]
        wanted = [(k, o) for k, (i, j) in enumerate(taps) for o in range(size) if block[:, :, :, i, j, o].any()]
        links, channels = (np.array([taps[k] for k, _ in wanted]).reshape(-1, 2).T, [o for _, o in wanted])
        matrix = np.array([block[i, j, c][links[0], links[1], channels] for i, j, c in used], np.int64)
        starts = [layer.constants[at + o] if begins[at + o] == k else 0 for k, o in wanted]
        nodes = multiply(products, inputs, matrix.reshape(len(used), len(wanted)), starts) if wanted else []
        for (k, o), node in zip(wanted, nodes, strict=True):
            found[k][at + o] = node
        at += size
    links = _links(layer, taps, found, products)
    logic = Netlist()
    sums = [
        logic.input(o, *links[-1].sums[o]) if o in links[-1].sums else logic.const(int(layer.constants[o]))
        for o in range(outputs)
    ]
    logic.outputs = layer.finish(logic, sums)
    return TransposedStage(
        layer.name, layer.layers, (layer.input,), layer.output, logic, schedule(logic, layer.period),
        geometry=layer.geometry, wires=tuple(wires), products=products,
        product_schedule=schedule(products, layer.period), links=links, start=tuple(map(int, layer.constants)),
        rows=rows, columns=columns,
    )  # fmt: skip


def _links(
    layer: Layer, taps: list[tuple[int, int]], found: list[dict[int, int]], products: Netlist
) -> tuple[Link, ...]:
    """The chain of partial sums, with the interval of each; a product may be left out at the image's border."""
    dilation, width = layer.window.dilation, layer.input.width
    places = [(i * dilation[0], j * dilation[1]) for i, j in taps]
    ahead = [b[0] * width + b[1] - a[0] * width - a[1] for a, b in zip(places, places[1:], strict=False)]
    links, sums = list[Link](), dict[int, tuple[int, int]]()
    for place, nodes, delay in zip(places, found, [*ahead, 0], strict=True):
        for o, node in nodes.items():
            low, high = products.nodes[node].low, products.nodes[node].high
            if o in sums:
                sums[o] = sums[o][0] + min(low, 0), sums[o][1] + max(high, 0)
            else:
                start = int(layer.constants[o])
                sums[o] = min(low, start), max(high, start)
        index = {o: len(products.outputs) + k for k, o in enumerate(nodes)}
        products.outputs += list(nodes.values())
        links.append(Link(*place, index, dict(sums), delay))
    return tuple(links)
