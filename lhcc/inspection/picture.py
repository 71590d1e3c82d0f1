"""Pictures of kernel shapes: the most frequent ones side by side, each with its share, as text and as inline SVG."""

from __future__ import annotations

from html import escape

from lhcc.inspection.shapes import shape_of_code
from lhcc.inspection.structure import Structure

KEPT, DROPPED = "■", "·"
SHOWN = 10  # shapes per layer


def frequent_shapes(structure: Structure, shown: int = SHOWN) -> list[tuple[int, float]]:
    """The most frequent shapes and their shares of all kernels; equal shares in the order of their codes."""
    total = structure.shapes.total()
    ranked = sorted(structure.shapes.items(), key=lambda item: (-item[1], item[0]))
    return [(code, count / total) for code, count in ranked[:shown]]


def text_histogram(structure: Structure, shown: int = SHOWN, indent: str = "  ") -> str:
    """Rows of taps, and under every shape its share in percent."""
    height, width = structure.kernel
    column = max(width, 5)
    lines = [""] * (height + 1)
    for code, share in frequent_shapes(structure, shown):
        for row, taps in enumerate(shape_of_code(code, height, width)):
            lines[row] += "".join(KEPT if tap else DROPPED for tap in taps).ljust(column) + "  "
        lines[height] += f"{100 * share:.3g}%".ljust(column) + "  "
    rest = len(structure.shapes) - shown
    if rest > 0:
        lines[height] += f"and {rest} more"
    return "\n".join(f"{indent}{line.rstrip()}" for line in lines)


def svg_histogram(title: str, structure: Structure, shown: int = SHOWN, tap: int = 12) -> str:
    """One <svg> element: a bar for the share of every shape, with the shape drawn below it."""
    height, width = structure.kernel
    ranked = frequent_shapes(structure, shown)
    bar_height, top, gap = 60, 22, 14
    step = max(width * tap, 36) + gap
    total_width = max(gap + step * len(ranked), 320)
    total_height = top + bar_height + height * tap + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total_width}" height="{total_height}" '
        f'viewBox="0 0 {total_width} {total_height}" font-family="sans-serif" font-size="11" role="img">',
        f"<title>{escape(title)}: {escape(structure.description)}</title>",
        f'<text x="{gap}" y="14" font-weight="bold">{escape(title)}</text>',
    ]
    largest = max(share for _, share in ranked)
    for position, (code, share) in enumerate(ranked):
        x = gap + position * step
        bar = max(round(bar_height * share / largest), 1)
        base = top + bar_height
        parts.append(f'<rect x="{x}" y="{base - bar}" width="{width * tap - 2}" height="{bar}" fill="#7a9cc6"/>')
        for row, taps in enumerate(shape_of_code(code, height, width)):
            for col, kept in enumerate(taps):
                fill = "#1d3557" if kept else "#e9edf2"
                spot = f'x="{x + col * tap}" y="{base + 6 + row * tap}"'
                parts.append(f'<rect {spot} width="{tap - 2}" height="{tap - 2}" fill="{fill}"/>')
        parts.append(f'<text x="{x}" y="{base + height * tap + 20}">{100 * share:.3g}%</text>')
    return "".join([*parts, "</svg>"])
