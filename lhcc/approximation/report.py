"""What the approximation did: per layer and as a whole, as text, as JSON, and as a plot of additions against error."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lhcc.approximation.budget import Point


@dataclass(frozen=True)
class LayerRow:
    """One layer: its set, what an inference costs in additions, and how far the weights moved."""

    name: str
    op: str
    set: str
    additions: int
    multiplications_before: int
    digits: int
    nonzeros: int
    weight_bits: int
    relative_error: float

    @property
    def digits_per_weight(self) -> float:
        return self.digits / max(self.nonzeros, 1)


@dataclass(frozen=True)
class FunctionRow:
    """An activation or pool coefficient that became dyadic."""

    name: str
    what: str
    became: str
    max_error: float


@dataclass
class Report:
    """`pareto` is the path of the budget's choices, most accurate first; empty without a budget."""

    scale: str
    per: str
    layers: list[LayerRow]
    functions: list[FunctionRow]
    kept: list[tuple[str, str]]
    pareto: list[Point] = field(default_factory=list)
    drop: float | None = None

    @property
    def additions(self) -> int:
        return sum(row.additions for row in self.layers)

    @property
    def multiplications_before(self) -> int:
        return sum(row.multiplications_before for row in self.layers)

    @property
    def error(self) -> float:
        rows = self.layers
        return math.sqrt(sum(row.relative_error**2 for row in rows) / max(len(rows), 1))

    def __str__(self) -> str:
        head = ("layer", "op", "set", "error", "digits/weight", "bits", "multiplications", "additions")
        lines = [
            (
                row.name,
                row.op,
                row.set,
                f"{row.relative_error:.4f}",
                f"{row.digits_per_weight:.2f}",
                str(row.weight_bits),
                f"{row.multiplications_before:,} -> 0",
                f"{row.additions:,}",
            )
            for row in self.layers
        ]
        total = (
            "all",
            "",
            "",
            f"{self.error:.4f}",
            "",
            "",
            f"{self.multiplications_before:,} -> 0",
            f"{self.additions:,}",
        )
        text = [_table([head, *lines, total])]
        if self.scale == "folded":
            text.append(
                "the scale of each filter is folded onward: one multiplication per output value, or a requantisation"
            )
        text += [
            f"{row.name}: {row.what} -> {row.became} (largest error {row.max_error:.2g})" for row in self.functions
        ]
        text += [f"{name}: left alone, {reason}" for name, reason in self.kept]
        if self.drop is not None:
            text.append(f"accuracy on the calibration data: {-self.drop:+.2f} points")
        return "\n".join(text)

    def pareto_table(self) -> str:
        rows = [("additions", "error", "drop")]
        rows += [
            (f"{p.additions:,}", f"{p.error:.4f}", "-" if p.drop is None else f"{p.drop:+.2f}") for p in self.pareto
        ]
        return _table(rows)

    def to_json(self) -> str:
        total = {
            "additions": self.additions,
            "multiplications_before": self.multiplications_before,
            "error": self.error,
        }
        return json.dumps(asdict(self) | {"total": total}, indent=1)

    def plot(self, path: str | Path) -> None:
        """Additions against error along the path of choices, and per layer for the choice that was made."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, (whole, single) = pyplot.subplots(1, 2, figsize=(11, 4.2))
        points: Sequence[Any] = self.pareto or [Point((), self.additions, self.error)]
        whole.plot([p.additions for p in points], [p.error for p in points], marker="o", markersize=3)
        whole.set(xlabel="additions per inference", ylabel="relative weight error", title="whole model", xscale="log")
        for row in self.layers:
            single.scatter(max(row.additions, 1), row.relative_error, s=14)
            single.annotate(row.name, (max(row.additions, 1), row.relative_error), fontsize=6)
        single.set(xlabel="additions per inference", ylabel="relative weight error", title="layers", xscale="log")
        figure.tight_layout()
        figure.savefig(path)
        pyplot.close(figure)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
