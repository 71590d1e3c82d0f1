"""What may be chosen about a convolution by patterns or single weights, and the layer encoded as it was chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lhcc.encodings.elements import Elements
from lhcc.encodings.patterns import Patterns
from lhcc.encodings.tiles import ungroup
from lhcc.ir.layer import ConvLayer
from lhcc.targets.base import Options
from lhcc.targets.choice import ChoiceRecord
from lhcc.targets.cpu import elements, wide_forms
from lhcc.targets.cpu.machine import Machine
from lhcc.targets.cpu.pack import Problem
from lhcc.targets.cpu.wide import WideSpec
from lhcc.targets.cpu.workload import rounded, setting, workload


@dataclass(frozen=True)
class WideChoice(ChoiceRecord):
    """One way to compute a convolution from widened input."""

    patterns: bool  # code for every pattern of a kernel; else one loop over single weights
    rows: int  # of the largest register tile of output pixels
    vectors: int
    near: int  # inputs, or outputs (patterns whose inputs are in registers), that are taken together

    def __str__(self) -> str:
        form = "patterns" if self.patterns else "single weights"
        return f"{form}, {self.rows} rows of {self.vectors} vectors, {self.near} channels together"


@dataclass(frozen=True)
class WideLayer:
    """A layer as the two forms see it."""

    layer: ConvLayer
    machine: Machine
    options: Options

    @property
    def workload(self) -> str:
        blocks = Problem(replace(self.layer, source="blocked"), self.machine, self.options)
        return f"single weights {rounded(self.layer.density)}, {workload(blocks)}"

    def encoded(self, choice: WideChoice) -> tuple[WideSpec, Elements | Patterns] | None:
        """None if the choice, which may come from a file, is not one for this layer."""
        form = wide_forms.module(choice.patterns, self.machine)
        spec = form.make_spec(self.layer, self.machine, self.options.threads)
        if spec is None or not self._fits(choice, spec):
            return None
        assert self.layer.weight is not None
        spec = replace(spec, rows=choice.rows, vectors=choice.vectors, near=choice.near)
        weight = ungroup(self.layer.weight, self.layer.groups)
        found = form.encode(weight, spec)
        if found is None:
            return None
        return (replace(spec, taps=found.taps) if choice.patterns else spec), found

    def _fits(self, choice: WideChoice, spec: WideSpec) -> bool:
        if min(choice.rows, choice.vectors, choice.near) < 1:
            return False
        most = wide_forms.MODULES[spec.form].most_sums(self.machine)
        rows, vectors = spec.most
        return choice.rows <= rows and choice.vectors <= vectors and choice.rows * choice.vectors <= most

    def estimate(self, spec: WideSpec, encoded: Elements | Patterns) -> float:
        if isinstance(encoded, Patterns):
            return float(wide_forms.MODULES[spec.form].estimate(encoded, spec, self.machine))
        assert self.layer.weight is not None
        return elements.estimate(np.asarray(self.layer.weight), spec, self.machine)

    def tuned(self, path: str) -> tuple[WideChoice | None, str]:
        """What the database at `path` knows about the layer, and why nothing else of it is used."""
        return WideChoice.recorded(path, self.workload, setting(self.machine, self.options))


def choice_of(spec: WideSpec) -> WideChoice:
    return WideChoice(spec.form != "elements", spec.rows, spec.vectors, spec.near)
