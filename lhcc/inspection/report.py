"""What `lhcc.inspect` returns: the structure of every layer with weights, as a table, JSON and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lhcc.inspection.picture import svg_histogram, text_histogram
from lhcc.inspection.structure import Kind, Structure

PLAIN = (Kind.DENSE, Kind.EMPTY, Kind.GROUPED, Kind.DEPTHWISE)  # kinds whose kernel shapes tell nothing


@dataclass(frozen=True)
class LayerReport:
    """One convolution or matrix product: `weight_shape` is (outputs, inputs / groups, kh, kw)."""

    name: str
    op: str
    weight_shape: tuple[int, int, int, int]
    structure: Structure
    macs: int

    @property
    def macs_kept(self) -> int:
        return round(self.macs * self.structure.density)

    @property
    def weights(self) -> int:
        outputs, inputs, height, width = self.weight_shape
        return outputs * inputs * height * width

    @property
    def weights_kept(self) -> int:
        return round(self.weights * self.structure.density)

    @property
    def has_shapes(self) -> bool:
        """Whether a picture of the kernel shapes says more than the table does."""
        return self.structure.kernel != (1, 1) and self.structure.kind not in PLAIN

    def json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "op": self.op,
            "weight_shape": list(self.weight_shape),
            "macs": self.macs,
            "macs_kept": self.macs_kept,
            "weights": self.weights,
            "weights_kept": self.weights_kept,
            **self.structure.json(),
        }


@dataclass(frozen=True)
class Report:
    """All layers in the order in which they run.  `str(report)` is a table with the kernel shapes below it."""

    layers: Sequence[LayerReport]

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def macs_kept(self) -> int:
        return sum(layer.macs_kept for layer in self.layers)

    @property
    def weights(self) -> int:
        return sum(layer.weights for layer in self.layers)

    @property
    def weights_kept(self) -> int:
        return sum(layer.weights_kept for layer in self.layers)

    def json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, ready for `json.dumps`."""
        return {
            "layers": [layer.json() for layer in self.layers],
            "total": {
                "macs": self.macs,
                "macs_kept": self.macs_kept,
                "weights": self.weights,
                "weights_kept": self.weights_kept,
            },
        }

    def svg(self) -> dict[str, str]:
        """An inline SVG picture of the kernel shapes for every layer that has some, by the layer's name."""
        pictured = [layer for layer in self.layers if layer.has_shapes]
        return {layer.name: svg_histogram(layer.name, layer.structure) for layer in pictured}

    def table(self) -> str:
        titles = ("layer", "weight", "structure", "block", "density", "MACs", "kept", "found")
        rows = [titles, *(_row(layer) for layer in self.layers)]
        share = self.weights_kept / self.weights if self.weights else 1.0
        rows.append(("total", f"{self.weights:,}", "", "", f"{share:.3f}", f"{self.macs:,}", f"{self.macs_kept:,}", ""))
        widths = [max(len(row[column]) for row in rows) for column in range(len(titles))]
        to_the_right = (4, 5, 6)
        lines = []
        for row in rows:
            cells = (
                cell.rjust(width) if column in to_the_right else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)

    def __str__(self) -> str:
        parts = [self.table()]
        for layer in self.layers:
            if layer.has_shapes:
                parts.append(f"{layer.name}: {layer.structure.description}\n{text_histogram(layer.structure)}")
        return "\n\n".join(parts)


def _row(layer: LayerReport) -> tuple[str, ...]:
    found = layer.structure
    notes = [found.description]
    if found.stray_zeros:
        notes.append(f"{found.stray_zeros} stray zeros")
    if found.kind not in (Kind.FILTERS, Kind.CHANNELS, Kind.EMPTY):
        notes += ["after permuting channels"] if found.permuted else []
        dead = ((found.constant_outputs, "constant outputs"), (found.unused_inputs, "unused inputs"))
        notes += [f"{count} {what}" for count, what in dead if count]
    return (
        layer.name,
        "x".join(str(extent) for extent in layer.weight_shape),
        found.kind.value,
        f"{found.block[0]}x{found.block[1]}",
        f"{found.density:.3f}",
        f"{layer.macs:,}",
        f"{layer.macs_kept:,}",
        "; ".join(notes),
    )
