"""A model that a target of integers cannot hold whole: the part that it can, what comes before, and what comes after.

    image ── before ──> entry ── circuit ──> cut tensors ── after ──> results

The parts are ONNX models that read and write named tensors.  The cut is made here, before either side is compiled, and
not by the external-codegen mechanism of TVM: integers come from the ONNX graph, whose quantisers and dyadic weights say
what they mean, while TVM would see a float graph from which that has gone; and a program in integers is checked,
profiled and saved by itself, which a function inside a TVM module is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import onnx
from onnx.utils import Extractor

from lhcc.approximation.graph import Graph
from lhcc.approximation.quantise import Reach, reach
from lhcc.ir.log import Reason

LAYERS = ("Conv", "Gemm", "MatMul", "QLinearConv")
PASS = "partition"


@dataclass(frozen=True)
class Partition:
    """`before` and `after` are None where there is nothing to do; `circuit` is None where no layer can be held."""

    before: Any | None
    circuit: Any | None
    after: Any | None
    reasons: tuple[Reason, ...]
    """one per node that is outside"""

    @property
    def whole(self) -> bool:
        return self.circuit is not None and self.before is None and self.after is None


def partition(model: Any) -> Partition:
    """The largest part in integers that begins at one tensor: the model's input, or else what an outside node makes."""
    inputs = _inputs(model)
    if len(inputs) != 1:
        return Partition(None, None, model, (Reason("", PASS, f"the model has {len(inputs)} inputs, a circuit one"),))
    best: tuple[str, set[str]] | None = None
    first: Reach | None = None
    for entry in _entries(model, inputs[0]):
        graph = Graph(model)
        found = reach(graph, _declared(graph, inputs, entry))
        first = first or found
        held = _closed(graph, found, entry)
        layers = sum(n.op_type in LAYERS for n in graph.nodes if n.output[0] in held)
        if layers and (best is None or len(held) > len(best[1])):
            best = entry, held
        if entry == inputs[0].name and layers:
            break  # what begins at the image holds most of a network; other beginnings are for images it cannot take
    assert first is not None
    if best is None:
        return Partition(None, None, model, _reasons(Graph(model), set(), first.refused))
    entry, held = best
    refused = reach(Graph(model), _declared(Graph(model), inputs, entry)).refused
    return _cut(Graph(model), entry, held, refused)


def _inputs(model: Any) -> list[Any]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def _declared(graph: Graph, inputs: list[Any], entry: str) -> Any:
    given = next((value for value in inputs if value.name == entry), None)
    return given or onnx.helper.make_tensor_value_info(entry, onnx.TensorProto.FLOAT, graph.shapes[entry])


def _entries(model: Any, image: Any) -> Iterator[str]:
    """The image; then, in order, the tensors that nodes which an integer program cannot hold make."""
    yield image.name
    graph = Graph(model)
    outside = reach(graph, image).refused
    for node in graph.nodes:
        shape = graph.shapes.get(node.output[0], [])
        if node.output[0] in outside and len(shape) in (2, 4) and all(shape):
            yield node.output[0]


def _closed(graph: Graph, found: Reach, entry: str) -> set[str]:
    """The nodes that can be held such that all they give to others can be given; a path that leaves does not return."""
    held = set(found.nodes)
    while True:
        read = {n for node in graph.nodes if node.output[0] not in held for n in node.input} | set(graph.outputs)
        gone = {n.output[0] for n in graph.nodes if n.output[0] in held and _leaks(n, read, found.tensors)}
        if not gone:
            return held
        held -= gone


def _leaks(node: Any, read: Iterable[str], tensors: set[str]) -> bool:
    return any(name in read and name not in tensors for name in node.output)


def _cut(graph: Graph, entry: str, held: set[str], refused: dict[str, str]) -> Partition:
    model = onnx.shape_inference.infer_shapes(graph.finished())
    nodes = {node.output[0]: node for node in graph.nodes if node.output[0] not in graph.constants}
    constants = set(graph.constants)
    ahead = _ancestors(graph, entry)
    rest = [n for n in nodes if n not in held and n not in ahead]
    wanted = {x for n in rest for x in nodes[n].input if x and x not in constants}
    made = {x for n in held for x in nodes[n].output}
    later = {x for n in rest for x in nodes[n].output}
    cut = [x for x in made if x in wanted or x in graph.outputs]
    order = [x for node in graph.nodes for x in node.output if x in cut]
    early = {x for n in ahead if n in nodes for x in nodes[n].output}
    first = [x for x in dict.fromkeys([entry, *sorted(wanted - made - later)]) if x in early]
    source = {value.name for value in model.graph.input}
    extractor = Extractor(model)
    circuit = extractor.extract_model([entry], order)
    before = extractor.extract_model(sorted(source - constants), first) if first else None
    results = [x for x in graph.outputs if x in later]
    after = extractor.extract_model(sorted(wanted - later), results) if results else None
    return Partition(before, circuit, after, _reasons(graph, held, refused))


def _ancestors(graph: Graph, tensor: str) -> set[str]:
    """The nodes on which a tensor depends, its own maker among them."""
    wanted, found = {tensor}, set[str]()
    for node in reversed(graph.nodes):
        if wanted & set(node.output):
            found.add(node.output[0])
            wanted |= set(node.input)
    return found


def _reasons(graph: Graph, held: set[str], refused: dict[str, str]) -> tuple[Reason, ...]:
    return tuple(
        Reason(node.name or node.output[0], PASS, f"outside the circuit: {refused.get(node.output[0], 'read outside')}")
        for node in graph.nodes
        if node.output[0] not in held and node.output[0] in refused | {n: "" for n in graph.outputs}
    )
