"""The search space of convolutions by patterns or single weights, checked against the numpy reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.ir.reference_ops import DIALECT
from lhcc.passes.encode_elements import Widened
from lhcc.targets.cpu import wide_forms
from lhcc.targets.cpu.encode import widened
from lhcc.targets.cpu.regions import FlatSpec
from lhcc.targets.cpu.wide import WideSpec, pieces
from lhcc.targets.cpu.wide_choice import WideChoice, WideLayer, choice_of
from lhcc.tuning.space import Kernel, Task, random_map
from lhcc.tuning.worker import Problem

WORTH_MEASURING = 1.5  # times the best estimate
NEAR = (1.0, 0.5, 2.0, 0.25)  # times what is thought to fit the first-level cache


def tasks(found: Sequence[tuple[WideLayer, Widened]], evict: int) -> list[Task]:
    by_workload: dict[str, list[tuple[WideLayer, Widened]]] = {}
    for layer, encoded in found:
        by_workload.setdefault(layer.workload, []).append((layer, encoded))
    return [_task(key, alike, evict) for key, alike in by_workload.items()]


def _task(key: str, alike: Sequence[tuple[WideLayer, Widened]], evict: int) -> Task:
    wide, untuned = alike[0]
    layer, start = wide.layer, wide_forms.spec_of(untuned.spec)
    choices = ranked(wide, choice_of(start))

    def kernel(choice: Mapping[str, Any]) -> Kernel:
        encoded = wide.encoded(WideChoice.from_dict(choice))
        assert encoded is not None
        made = widened(layer, *encoded)
        spec = wide_forms.spec_of(made.spec)
        return Kernel(made.spec, lambda: wide_forms.kernel(spec, layer.result), made.constants)

    def problem() -> Problem:
        x = random_map(layer.image, 0)
        residual = [random_map(layer.result, 1)] * bool(layer.residual)
        operands = [np.asarray(a, np.float64) for a in (x, layer.weight, layer.bias, *residual)]
        attributes = {
            name: getattr(layer, name)
            for name in ("strides", "padding", "dilation", "groups", "transposed", "activation", "residual")
        }
        expected = DIALECT["lhcc.conv2d"]({**attributes, "shape": layer.result}, *operands)
        return Problem((widen(x, start), *residual), np.asarray(expected, np.float32), wide.options.threads, evict)

    names = tuple(each.layer.name for each, _ in alike)
    records = [choice.to_dict() for choice, _ in choices]
    return Task(key, names, records, [cycles for _, cycles in choices], problem, kernel)


def ranked(wide: WideLayer, first: WideChoice) -> list[tuple[WideChoice, float]]:
    """Every choice that is worth measuring, with its estimate: `first`, the compiler's own, then the best.  All read
    the input that is widened for the first."""
    found: dict[WideChoice, float] = {}
    layouts: set[tuple[Any, ...]] = set()
    for choice in [first, *_grid(wide)]:
        encoded = wide.encoded(choice)
        if encoded is not None and encoded[0].layout in (layouts or {encoded[0].layout}):
            layouts.add(encoded[0].layout)
            found[choice] = wide.estimate(*encoded)
    limit = min(found.values()) * WORTH_MEASURING
    near = [item for item in found.items() if item[0] == first or item[1] <= limit]
    return sorted(near, key=lambda item: (item[0] != first, item[1]))


def _grid(wide: WideLayer) -> list[WideChoice]:
    """Even divisions of the image into register tiles, with more or less that is taken together."""
    found = []
    for by_patterns in (False, True):
        form = wide_forms.module(by_patterns, wide.machine)
        own = form.make_spec(wide.layer, wide.machine, wide.options.threads)
        if own is None:
            continue
        most = own.result[1] if form.GROUPED == "outputs" else own.image[1]
        bytes_near = own.near * own.rows * own.vectors
        for rows, vectors in product(*map(pieces, own.most)):
            fitting = bytes_near / (rows * vectors)
            nears = {max(1, min(most, round(fitting * share))) for share in NEAR}
            found += [WideChoice(by_patterns, rows, vectors, near) for near in nears]
    return found


def widen(x: NDArray[np.float32], spec: WideSpec) -> NDArray[np.float32]:
    """What the kernel of that name makes of a planar map; what no kernel may read is not a number."""
    x = x.reshape(spec.image)
    if isinstance(spec, FlatSpec):
        return _flatten(x, spec)
    copies, width = spec.kernel[1] if spec.shifted else 1, spec.padded_width
    parts = np.zeros((*spec.image[:2], copies, spec.padded_rows, width), np.float32)
    rows = np.arange(spec.padded_rows) - spec.padding[0]
    inside = (rows >= 0) & (rows < spec.image[2])
    for copy in range(copies):
        outputs = np.arange(spec.result[3] if spec.shifted else width)
        columns = outputs * spec.strides[1] + copy * spec.dilation[1] - spec.padding[1]
        real = (columns >= 0) & (columns < spec.image[3])
        part = x[:, :, rows[inside]][:, :, :, columns[real]]
        parts[:, :, copy, np.flatnonzero(inside)[:, None], np.flatnonzero(real)] = part
    out = np.full(spec.wide, np.nan, np.float32)
    if spec.shifted:
        out[:, :, :, : spec.padded_rows] = parts
    else:
        together = parts[:, :, 0].transpose(0, 2, 1, 3).reshape(spec.image[0], spec.padded_rows, -1)
        out[:, :, : together.shape[2]] = together
    return out


def _flatten(x: NDArray[np.float32], spec: FlatSpec) -> NDArray[np.float32]:
    out = np.full(spec.wide, np.nan, np.float32)
    for copy in spec.copies:
        rows, columns = (
            start + np.arange(count) * step
            for start, count, step in zip(copy.start, (copy.rows, copy.width), copy.steps, strict=True)
        )
        inside = [(at >= 0) & (at < size) for at, size in zip((rows, columns), spec.image[2:], strict=True)]
        part = np.zeros((*spec.image[:2], copy.rows, copy.width), np.float32)
        part[:, :, inside[0][:, None] & inside[1]] = x[:, :, rows[inside[0]]][..., columns[inside[1]]].reshape(
            *spec.image[:2], -1
        )
        if not copy.padded:
            part[:, :, ~inside[0]] = np.nan
        out[:, :, copy.at : copy.at + copy.rows * copy.width] = part.reshape(*spec.image[:2], -1)
    return out
