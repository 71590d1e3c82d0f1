"""A trained network becomes dyadic: weights, biases, pools and activations that need only additions and shifts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import onnx

from lhcc.approximation import calibrate as calibration
from lhcc.approximation.as_onnx import to_onnx
from lhcc.approximation.budget import Budget, Point, choose, descend
from lhcc.approximation.correct import correct, round_bias
from lhcc.approximation.functions import check_error
from lhcc.approximation.graph import Graph, Layer
from lhcc.approximation.replace import approximate_activations, approximate_pools
from lhcc.approximation.report import FunctionRow, LayerRow, Report
from lhcc.approximation.sets import DyadicSet, named_set, signed_digit_set
from lhcc.approximation.weights import Candidate, Per, Scale, candidate, check_bits
from lhcc.errors import LhccError, ModelError

LADDER = ("ternary", "two", "half", "digits:2:4", "digits:2:5", "digits:3:6")
_COEFFICIENT = signed_digit_set(4, 12)
_PROBES = 64  # samples that show how sensitive an output is to each layer


@dataclass(frozen=True)
class Approximated:
    """The dyadic model as an ONNX ModelProto, and the report; `lhcc.compile` takes it as it is.

    `exact_activations` is the same model before its smooth activations became lines: integer programs start from it.
    """

    model: Any
    report: Report
    exact_activations: Any
    calibration: Any = None  # as it was given; int8 activations get their ranges from it

    def bound(self, inputs: Any, input_shapes: Mapping[str, Any] | None) -> Approximated:
        """With the open dimensions of its inputs bound."""
        model, exact = (to_onnx(proto, inputs, input_shapes) for proto in (self.model, self.exact_activations))
        return replace(self, model=model, exact_activations=exact)

    def save(self, path: str | os.PathLike[str]) -> None:
        onnx.save(self.model, os.fspath(path))


def approximate(
    model: Any,
    inputs: Any = None,
    calibrate: Any = None,
    *,
    input_shapes: Mapping[str, Any] | None = None,
    set: str | Iterable[float] | DyadicSet | None = None,  # noqa: A002 - the word of the command line
    sets: Sequence[str | Iterable[float] | DyadicSet] = LADDER,
    scale: Scale = "shift",
    per: Per | None = None,
    max_error: float | None = None,
    max_adds: int | None = None,
    max_drop: float | None = None,
    weight_bits: int = 8,
    bias_bits: int = 16,
    activation_error: float | None = 1 / 64,
) -> Approximated:
    """Rounds every constant of the model to dyadic numbers; with a budget, chooses a set per layer out of `sets`.

    `scale="shift"`: alpha is a power of two per 2-D kernel (or `per` filter, or layer): no multiplication is left.
    `scale="folded"`: alpha is free, one per filter (or layer), for the target to fold into its requantisation.
    Dimensions that the model leaves open are bound by `inputs` or `input_shapes`, or count as one.
    `calibrate` (an array, (x, labels), or an .npz with x and y) corrects biases and, with free scales, deviations.
    """
    if scale not in ("shift", "folded"):
        raise LhccError(f"scale is 'shift' or 'folded', not '{scale}'")
    per = per or ("kernel" if scale == "shift" else "filter")
    if per not in ("kernel", "filter", "layer"):
        raise LhccError(f"per is 'kernel', 'filter' or 'layer', not '{per}'")
    if scale == "folded" and per == "kernel":
        raise LhccError("a free scale per 2-D kernel cannot be folded onward", "use per='filter', or scale='shift'")
    check_bits("biases", bias_bits)
    if activation_error is not None:
        check_error(activation_error)
    budget = Budget(max_error, max_adds, max_drop)
    proto = to_onnx(model, inputs, input_shapes)
    data = calibration.read_calibration(calibrate, proto)
    before = Graph(proto)
    after = Graph(proto)
    layers = after.layers()
    if not layers:
        raise ModelError("the model has no layer with constant weights to approximate")
    functions = [
        FunctionRow(name, f"average coefficient {exact:.6g}", f"{new:.6g}", abs(exact - new))
        for name, exact, new in approximate_pools(after, _coefficient)
    ]
    ladder = [named_set(s) for s in sets] if budget.any and set is None else [named_set("half" if set is None else set)]
    tables = _tables(after, layers, ladder, scale, per, weight_bits)
    work = _Work(before, after, layers, tables, data, bias_bits, scale)
    path = descend(
        tables, [layer.positions for layer in layers], work.sensitivities() if len(ladder) > 1 else [1.0] * len(layers)
    )
    point = choose(path, budget, work.drop if data is not None and data.labels is not None else None)
    kept = after.reasons + work.apply(point)
    rows = [_row(after, *entry) for entry in zip(layers, work.chosen(point), strict=True)]
    smooth = after.finished()
    if activation_error is not None:
        for name, function, line in approximate_activations(after, activation_error):
            functions.append(FunctionRow(name, function, f"{len(line.breakpoints) + 1} dyadic lines", line.max_error))
    final = after.finished()
    drop = None
    if data is not None and data.labels is not None:
        drop = 100 * (calibration.accuracy(proto, data) - calibration.accuracy(final, data))
    report = Report(scale, per, rows, functions, kept, path if len(ladder) > 1 else [], drop)
    return Approximated(final, report, smooth, calibrate)


def _coefficient(value: float) -> float:
    """The nearest number of at most four signed digits within twelve bits of the leading one."""
    unit = 2.0 ** (int(np.frexp(value)[1]) - 12)
    levels = np.array(_COEFFICIENT.levels) * unit
    return float(levels[np.argmin(np.abs(levels - value))])


def _tables(
    graph: Graph, layers: Sequence[Layer], ladder: Sequence[DyadicSet], scale: Scale, per: Per, weight_bits: int
) -> list[list[Candidate]]:
    tables = []
    for layer in layers:
        filters = graph.filters(layer)
        try:
            tables.append([candidate(filters, chosen, scale, per, weight_bits) for chosen in ladder])
        except LhccError as error:
            raise ModelError(f"layer '{layer.name}': {error.message}", error.hint) from None
    return tables


@dataclass
class _Work:
    """Applies choices to the graph under edit, and measures them."""

    before: Graph
    after: Graph
    layers: Sequence[Layer]
    tables: Sequence[Sequence[Candidate]]
    data: calibration.Calibration | None
    bias_bits: int
    scale: Scale

    def __post_init__(self) -> None:
        self.original = dict(self.after.constants)

    def chosen(self, point: Point) -> list[Candidate]:
        return [table[k] for table, k in zip(self.tables, point.choice, strict=True)]

    def apply(self, point: Point) -> list[tuple[str, str]]:
        """Sets weights and biases as chosen, corrected where there is data; the layers that could not be corrected."""
        made = {name: np.zeros_like(a) for name, a in self.after.constants.items() if name not in self.original}
        self.after.constants = self.original | made  # biases made by an earlier correction start from nothing again
        for layer, choice in zip(self.layers, self.chosen(point), strict=True):
            self.after.set_filters(layer, choice.filters)
            bias = layer.bias
            if bias is not None:
                self.after.set_array(bias, round_bias(self.after.constants[bias], self.bias_bits))
        if self.data is None:
            return []
        return correct(self.before, self.after, self.layers, self.data, self.bias_bits, self.scale == "folded")

    def drop(self, point: Point) -> float:
        """Accuracy lost by this choice, in points."""
        assert self.data is not None
        self.apply(point)
        return 100 * (self.accuracy_before - calibration.accuracy(self.after.finished(), self.data))

    @cached_property
    def accuracy_before(self) -> float:
        assert self.data is not None
        return calibration.accuracy(self.before.finished(), self.data)

    def sensitivities(self) -> list[float]:
        """Per layer, the output's relative error per squared relative weight error; 1 for all without data."""
        if self.data is None:
            return [1.0] * len(self.layers)
        x = self.data.few(_PROBES)
        reference = calibration.run(self.before.finished(), x)[0]
        base = calibration.output_error(self.after.finished(), reference, x)
        found = []
        for layer, table in zip(self.layers, self.tables, strict=True):
            worst = max(table, key=lambda c: c.relative_error)
            self.after.constants = dict(self.original)
            self.after.set_filters(layer, worst.filters)
            grown = calibration.output_error(self.after.finished(), reference, x) - base
            found.append(max(grown, 1e-9) / max(worst.relative_error**2, 1e-12))
        self.after.constants = dict(self.original)
        return found


def _row(graph: Graph, layer: Layer, choice: Candidate) -> LayerRow:
    nonzeros = int(np.count_nonzero(choice.filters))
    before = int(np.prod(choice.filters.shape)) * layer.positions
    return LayerRow(
        layer.name,
        layer.op,
        choice.chosen.name,
        choice.additions * layer.positions,
        before,
        choice.digits,
        nonzeros,
        choice.weight_bits,
        choice.relative_error,
    )
