"""What of a model is integers: the parts that an integer program can hold, each of which begins at one tensor.

    image ── Sub ──> centred ── Conv, Relu, Conv ──> logits ── Softmax ──> result
    image ── Sub ──> centred ── lhcc.integers0 ──> logits ── Softmax ──> result

Only the ONNX graph says what integers mean, by its quantisers and dyadic weights, so this is decided here.  Where each
instruction runs is decided later, in the Relax module that the node becomes (lhcc.passes.offload_integers).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import onnx
from onnx import helper
from onnx.utils import Extractor

from lhcc.approximation import quantised
from lhcc.approximation.graph import Graph, filter_axis
from lhcc.approximation.quantise import Reach, reach
from lhcc.errors import LhccError
from lhcc.ir.log import Reason

DOMAIN = "lhcc"
"""of the operators that stand for parts, and are called like them"""
LAYERS = ("Conv", "Gemm", "MatMul", "QLinearConv")
PASS = "partition"
READS = "it reads "  # how a refusal begins that says nothing about the node itself


@dataclass(frozen=True)
class Region:
    """A part in integers: a model from `entry` to the tensors that others read, in the order of its node's outputs."""

    name: str
    entry: str
    model: Any
    before: Any | None
    """what makes `entry` of the model's inputs, in floats; None where it is one"""


@dataclass(frozen=True)
class Partition:
    model: Any
    """the whole, with one node per region"""
    regions: tuple[Region, ...]
    reasons: tuple[Reason, ...]
    """one per node that stays floats"""


def partition(model: Any) -> Partition:
    constants = {tensor.name for tensor in model.graph.initializer}
    return _Cutter(model, {value.name: value for value in model.graph.input if value.name not in constants}).run()


@dataclass
class _Cutter:
    model: Any
    inputs: dict[str, Any]
    held: dict[str, str] = field(default_factory=dict)
    """node (its first output) -> the tensor at which its region begins"""
    refused: dict[str, str] = field(default_factory=dict)

    def run(self) -> Partition:
        graph, entries = Graph(self.model), list[str]()
        for entry in self._entries(graph):
            found = reach(Graph(self.model), self._declared(graph, entry))
            for name, why in found.refused.items():
                if self.refused.get(name, READS).startswith(READS):
                    self.refused[name] = why
            held = self._closed(graph, found)
            if any(node.op_type in LAYERS for node in graph.nodes if node.output[0] in held):
                entries.append(entry)
                self.held |= dict.fromkeys(held, entry)
        return self._cut(graph, entries)

    def _entries(self, graph: Graph) -> Iterator[str]:
        """The inputs; then, in order, tensors of nodes outside on which a layer of integers depends."""
        yield from self.inputs
        layers = _layers_of_integers(graph)
        for k, node in enumerate(graph.nodes):
            name = node.output[0]
            shape = graph.shapes.get(name, [])
            if name in self.held or name in graph.constants or len(shape) not in (2, 4) or not all(shape[1:]):
                continue
            below = _below(graph.nodes[k + 1 :], name)
            if (below & layers) - set(self.held):
                yield name

    def _declared(self, graph: Graph, entry: str) -> Any:
        if entry in self.inputs:
            return self.inputs[entry]
        return helper.make_tensor_value_info(entry, onnx.TensorProto.FLOAT, graph.shapes[entry])

    def _closed(self, graph: Graph, found: Reach) -> set[str]:
        """The nodes that can be held such that all they give to others can be given."""
        held = found.nodes - set(self.held)
        while True:
            read = {n for node in graph.nodes if node.output[0] not in held for n in node.input} | set(graph.outputs)
            gone = {n.output[0] for n in graph.nodes if n.output[0] in held and _leaks(n, read, found.tensors)}
            if not gone:
                return held
            held -= gone

    def _cut(self, graph: Graph, entries: list[str]) -> Partition:
        model = onnx.shape_inference.infer_shapes(graph.finished())
        extractor, nodes, regions = Extractor(model), list[Any](), list[Region]()
        for node in model.graph.node:
            entry = self.held.get(node.output[0])
            if entry is None:
                nodes.append(node)
            elif entry in entries:  # its first node stands for all
                entries.remove(entry)
                name, outputs = f"integers{len(regions)}", self._given(model.graph, entry)
                before = None if entry in self.inputs else extractor.extract_model(list(self.inputs), [entry])
                regions.append(Region(name, entry, extractor.extract_model([entry], outputs), before))
                nodes.append(helper.make_node(name, [entry], outputs, name, domain=DOMAIN))
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        return Partition(model, tuple(regions), tuple(self._reasons(graph)))

    def _given(self, graph: Any, entry: str) -> list[str]:
        """The tensors that a region gives to others, in the order in which they are made."""
        inside = [node for node in graph.node if self.held.get(node.output[0]) == entry]
        read = {name for node in graph.node if self.held.get(node.output[0]) != entry for name in node.input}
        read |= {value.name for value in graph.output}
        return [name for node in inside for name in node.output if name in read]

    def _reasons(self, graph: Graph) -> Iterator[Reason]:
        for node in graph.nodes:
            name = node.output[0]
            if name not in self.held and not _is_constant(graph, node):
                why = self.refused.get(name, "what it gives is read outside, and no program gives it")
                yield Reason(node.name or name, PASS, f"outside the circuit: {why}")


def _layers_of_integers(graph: Graph) -> set[str]:
    """The layers whose weights are integers times a scale."""
    known, found = quantised.constants_of(graph), set[str]()
    for node in graph.nodes:
        if node.op_type not in LAYERS:
            continue
        try:
            if node.op_type != "QLinearConv":
                quantised.weight_of(graph, known, node.input[1], filter_axis(node), node.name)
        except LhccError:
            continue
        found.add(node.output[0])
    return found


def _below(nodes: Iterable[Any], tensor: str) -> set[str]:
    """Those of `nodes`, which are in order, that depend on a tensor."""
    made, found = {tensor}, set[str]()
    for node in nodes:
        if made & set(node.input):
            made |= set(node.output)
            found.add(node.output[0])
    return found


def _leaks(node: Any, read: Iterable[str], tensors: set[str]) -> bool:
    return any(name in read and name not in tensors for name in node.output)


def _is_constant(graph: Graph, node: Any) -> bool:
    """A quantiser of constants is part of what they are."""
    return all(name in graph.constants for name in node.input if name)
