"""Decides between blocks of weights, patterns of kernels and single weights, by the estimates of all three."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from lhcc.encodings.tiles import ungroup
from lhcc.ir.layer import ConvLayer
from lhcc.passes.encode_elements import Widened
from lhcc.targets.base import Options
from lhcc.targets.choice import spent
from lhcc.targets.cpu import elements, wide_forms
from lhcc.targets.cpu.cost import WAKE
from lhcc.targets.cpu.machine import Machine
from lhcc.targets.cpu.pack import Problem, preferred
from lhcc.targets.cpu.wide import WideSpec
from lhcc.targets.cpu.wide_choice import WideLayer

TURN = 0.5  # cycles per element of a map to change its layout, as blocks at both ends make it necessary
CALLS = 3  # kernels beside the convolution that threads wake for: widening, and two changes of layout
DENSE = 0.7  # above this share of non-zeros nothing is gained


def encode(layer: ConvLayer, machine: Machine, options: Options) -> Widened | str:
    """The layer by patterns or single weights, or why not; "" where nobody would expect it."""
    if options.encoding == "dense" or layer.weight is None or layer.density > DENSE or layer.depthwise:
        return ""
    weight = ungroup(layer.weight, layer.groups)
    spec = elements.make_spec(layer, machine, options.threads)
    if spec is None:
        return "single weights: this geometry has no such kernel"
    estimate, encoded = elements.estimate(weight, spec, machine), None
    patterns = wide_forms.module(True, machine)
    by_pattern = patterns.make_spec(layer, machine, options.threads)
    if by_pattern is not None:
        found = patterns.encode(weight, by_pattern)
        if found is not None and patterns.estimate(found, by_pattern, machine) < estimate:
            spec, encoded = replace(by_pattern, taps=found.taps), found
            estimate = patterns.estimate(found, by_pattern, machine)
    estimate = spec.image[0] * estimate + 2 * spec.written / spec.lanes
    estimate += TURN * (prod(layer.image) + prod(layer.result))
    estimate += CALLS * WAKE * options.threads * (options.threads > 1)
    blocks = preferred(Problem(replace(layer, source="blocked"), machine, replace(options, threads=1)))[0]
    if estimate * wide_forms.MODULES[spec.form].MARGIN > blocks.cycles:
        return f"blocks are cheaper than {spec.form}: {spent(estimate)} against {blocks}"
    made: Any = elements.encode(weight, spec) if encoded is None else encoded
    why: list[str] = []
    if options.tuning:
        wide = WideLayer(layer, machine, options)
        choice, reason = wide.tuned(options.tuning)
        chosen = wide.encoded(choice) if choice is not None else None
        spec, made = chosen or (spec, made)
        why.append(reason if choice is None or chosen else f"not tuned: {choice} is impossible for this layer")
    return widened(layer, spec, made, why)


def widened(layer: ConvLayer, spec: WideSpec, encoded: Any, why: Sequence[str] = ()) -> Widened:
    tables = wide_forms.MODULES[spec.form].tables(encoded, spec)
    table = np.concatenate([spec.tile_table().reshape(-1), tables]).astype(np.int32)
    values = encoded.values if encoded.values.size else np.zeros(1, np.float32)
    pixels = spec.result[0] * spec.result[2] * spec.result[3]
    near = f"{spec.near} {wide_forms.MODULES[spec.form].GROUPED} at a time"
    return Widened(
        spec.wide,
        spec.to_json(),
        (values, layer.bias, table),
        "elements" if spec.form == "elements" else "patterns",
        encoded.density,
        layer.macs,
        encoded.macs() * pixels,
        f"{spec.rows}x{spec.vectors * spec.lanes} px, {near}",
        tuple(why),
    )
