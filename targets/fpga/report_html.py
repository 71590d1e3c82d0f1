"""The profile of a circuit as one HTML file that needs nothing else: schematic, cycles per layer, all figures."""

from __future__ import annotations

import dataclasses
from html import escape
from typing import TYPE_CHECKING

from lhcc.report.html import STYLE
from lhcc.targets.fpga.schematic import svg

if TYPE_CHECKING:
    from lhcc.targets.fpga.report import FpgaProfile

ROW, LABEL, BAR = 22, 240, 480  # pixels


def to_html(profile: FpgaProfile) -> str:
    names = [field.name for field in dataclasses.fields(profile.layers[0])] if profile.layers else []
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in names)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(_cell(getattr(layer, name)))}</td>" for name in names) + "</tr>"
        for layer in profile.layers
    )
    fifos = "".join(f"<tr><td>{escape(n)}</td><td>{w}</td></tr>" for n, w in profile.fifo_high_water.items())
    sections = [
        ("Pipeline", f'<div class="wide">{svg(profile.schematic)}</div>'),
        ("Cycles per image", f'<div class="wide">{_bars(profile)}</div>'),
        ("All figures", f'<div class="wide"><table><tr>{head}</tr>\n{body}</table></div>'),
    ]
    if fifos:
        sections.append(("FIFOs", f"<table><tr><th>FIFO</th><th>most pixels held</th></tr>{fifos}</table>"))
    content = "\n".join(f"<h2>{title}</h2>\n{text}" for title, text in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>lhcc circuit</title>\n<style>{STYLE}</style>\n</head>\n<body>\n'
        f"<h1>The circuit</h1>\n<pre>{escape(profile.summary())}</pre>\n{content}\n</body>\n</html>\n"
    )


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _bars(profile: FpgaProfile) -> str:
    """One bar per layer: what it, or the array on its behalf, works on one image."""
    longest, parts = max((layer.cycles for layer in profile.layers), default=1) or 1, []
    for k, layer in enumerate(profile.layers):
        y, width = k * ROW, BAR * layer.cycles / longest
        parts.append(
            f'<g class="layer"><title>{escape(layer.name)}: {layer.cycles} cycles, {layer.stalls} stalls</title>'
            f'<text x="{LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(layer.name[-34:])}</text>'
            f'<rect x="{LABEL}" y="{y + 3}" width="{width:.1f}" height="{ROW - 6}" fill="#2b6cb0"/>'
            f'<text x="{LABEL + width + 6:.1f}" y="{y + 15}">{layer.cycles:,}</text></g>'
        )
    height = max(1, len(profile.layers)) * ROW
    return f'<svg viewBox="0 0 {LABEL + BAR + 120} {height}" width="{LABEL + BAR + 120}">' + "".join(parts) + "</svg>"
