"""A graph run forward on data part by part, so that what was computed stays while later constants change.

Values are kept batch by batch, as the model takes them, and only as long as a node that is still to run reads them: a
whole network is run once, whoever asks for however many of its tensors, and never held in memory at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.approximation import calibrate as calibration
from lhcc.approximation.graph import Graph

Batches = list[NDArray[Any]]


class Forward:
    def __init__(self, graph: Graph, x: NDArray[np.float32]) -> None:
        source = calibration.input_of(graph.source)
        self.graph = graph
        self.values: dict[str, Batches] = {source.name: calibration.batches(source, x)}
        self.real = len(x)  # samples; the last batch may be filled up beyond them
        self.to_run = list(graph.nodes)

    def before(self, node: Any) -> None:
        """Runs everything that `node` reads."""
        missing = [n for n in node.input if n and n not in self.values and n not in self.graph.constants]
        nodes: list[Any] = []
        wanted = set(missing)
        for earlier in reversed(self.to_run):
            if wanted.intersection(earlier.output):
                nodes.insert(0, earlier)
                wanted.update(n for n in earlier.input if n not in self.values)
        self.to_run = [n for n in self.to_run if n not in nodes]
        still_read = {name for later in self.to_run for name in later.input}
        made = [name for part in nodes for name in part.output if name in still_read]
        if nodes:
            self.values.update(self._run(nodes, made))
        self.values = {name: value for name, value in self.values.items() if name in still_read}

    def output(self, node: Any, keep: bool = False) -> Batches:
        """What `node`, whose operands are there, makes with the constants of now; kept, or made again when needed."""
        name = node.output[0]
        result = self._run([node], [name])[name]
        if keep:
            self.to_run = [n for n in self.to_run if n is not node]
            self.values[name] = result
        return [batch[: self.real - k * len(result[0])] for k, batch in enumerate(result)]

    def _run(self, nodes: list[Any], names: list[str]) -> dict[str, Batches]:
        made = {name for node in nodes for name in node.output}
        read = list(dict.fromkeys(n for node in nodes for n in node.input if n in self.values and n not in made))
        dtypes = {name: self.values[name][0].dtype for name in read}
        run = calibration.session(self.graph.part(nodes, dtypes, names))
        count = max(len(batches) for batches in self.values.values())
        results = [run({name: self.values[name][k] for name in read}) for k in range(count)]
        return {name: [outputs[at] for outputs in results] for at, name in enumerate(names)}


def moments(batches: Batches, axis: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel."""
    axis %= batches[0].ndim
    rest = tuple(k for k in range(batches[0].ndim) if k != axis)
    each = sum(batch.size // batch.shape[axis] for batch in batches)
    mean = sum(batch.sum(axis=rest, dtype=np.float64) for batch in batches) / each
    shape = [-1 if k == axis else 1 for k in range(batches[0].ndim)]
    squares = sum(((batch - mean.reshape(shape)) ** 2).sum(axis=rest) for batch in batches)
    return mean, np.sqrt(squares / each)
