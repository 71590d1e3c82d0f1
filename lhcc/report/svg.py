"""The two charts of a profile as inline SVG: time per layer, and the roofline."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lhcc.runtime.peak import Peak
    from lhcc.runtime.profile import LayerTime, Profile

ROW, LABEL, BAR, VALUE = 22, 240, 560, 150  # pixels
PLOT_W, PLOT_H, MARGIN = 900, 420, 60
NAMED = 0.1  # the share of the time from which a layer has its name in the roofline
COLOURS = {
    "dense": "#319795", "tiles": "#2b6cb0", "depthwise": "#805ad5", "elements": "#c05621", "patterns": "#b7791f",
    "pattern sums": "#97266d", "shift-and-add": "#2f855a",
}  # fmt: skip
PLAIN = "#718096"


def colour(encoding: str) -> str:
    """ "tiles (bytes)" are tiles, too."""
    return COLOURS.get(encoding.partition(" (")[0], PLAIN)


def bars(profile: Profile) -> str:
    """One bar per layer in the order of execution; the dark part is the time that the machine's limits allow."""
    longest = max((layer.time_us for layer in profile.layers), default=1.0)
    parts = []
    for row, layer in enumerate(profile.layers):
        y, width = row * ROW, BAR * layer.time_us / longest
        ideal = min(width, BAR * ideal_us(layer, profile.peak) / longest)
        title = f"{layer.name}: {layer.time_us:.1f} us, {layer.op} {layer.encoding}, {layer.bound}"
        bar = f'height="{ROW - 6}" fill="{colour(layer.encoding)}"'
        parts.append(
            f'<g class="layer"><title>{escape(title)}</title>'
            f'<text x="{LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(shorten(layer.name))}</text>'
            f'<rect x="{LABEL}" y="{y + 3}" width="{width:.1f}" {bar} opacity="0.45"/>'
            f'<rect x="{LABEL}" y="{y + 3}" width="{ideal:.1f}" {bar}/>'
            f'<text x="{LABEL + width + 6:.1f}" y="{y + 15}">{layer.time_us:.1f} us {100 * layer.share:.1f}%</text></g>'
        )
    height = max(1, len(profile.layers)) * ROW
    return _svg("bars", LABEL + BAR + VALUE, height, parts)


def operations(layer: LayerTime) -> int:
    return 2 * layer.macs_kept + layer.adds


def ideal_us(layer: LayerTime, peak: Peak | None) -> float:
    """The least time that the roofline allows."""
    if peak is None:
        return 0.0
    return max(1e-3 * operations(layer) / peak.gflops, 1e-3 * layer.bytes_moved / peak.bandwidth(layer.bytes_moved))


def roofline(profile: Profile) -> str:
    """GFLOP/s against FLOPs per byte, both logarithmic; the area of a circle is the layer's share of the time."""
    layers = [layer for layer in profile.layers if layer.gflops and layer.bytes_moved]
    if not layers or profile.peak is None:
        return '<p class="note">No roofline: the peak of this machine was not measured.</p>' if layers else ""
    peak = profile.peak
    intensities = [operations(layer) / layer.bytes_moved for layer in layers]
    ridge = peak.gflops / min(speed for _, speed in peak.bandwidths)
    x_axis = Axis(min(*intensities, 0.1), max(*intensities, 2 * ridge), MARGIN, PLOT_W - 20)
    y_axis = Axis(min(0.5, *(layer.gflops for layer in layers)), 1.5 * peak.gflops, PLOT_H - MARGIN, 20)
    lines, labels = _roofs(peak, x_axis, y_axis)
    parts = [*_grid(x_axis, y_axis), *lines]
    for layer, intensity in zip(layers, intensities, strict=True):
        title = f"{layer.name}: {layer.gflops:.1f} GFLOP/s at {intensity:.1f} FLOP/byte, {layer.time_us:.1f} us"
        x, y, radius = x_axis(intensity), y_axis(layer.gflops), 4 + 26 * math.sqrt(layer.share)
        parts.append(
            f'<circle class="layer" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" '
            f'fill="{colour(layer.encoding)}" fill-opacity="0.55">'
            f"<title>{escape(title)}</title></circle>"
        )
        if layer.share >= NAMED:
            name, below = escape(shorten(layer.name)), y + radius + 13
            labels.append(f'<text x="{x:.1f}" y="{below:.1f}" text-anchor="middle" class="over">{name}</text>')
    return _svg("roofline", PLOT_W, PLOT_H, [*parts, *labels])


class Axis:
    """A logarithmic axis from `low` to `high`, drawn between two pixel positions."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = math.log10(low), math.log10(high)
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        place = (math.log10(max(value, 1e-12)) - self.low) / (self.high - self.low)
        return self.start + place * (self.end - self.start)

    def decades(self) -> Iterable[float]:
        return (10.0**power for power in range(math.ceil(self.low), math.floor(self.high) + 1))


def _grid(x_axis: Axis, y_axis: Axis) -> list[str]:
    bottom, left = PLOT_H - MARGIN, MARGIN
    parts = [f'<rect x="{left}" y="20" width="{PLOT_W - 20 - left}" height="{bottom - 20}" class="frame"/>']
    for value in x_axis.decades():
        x = x_axis(value)
        parts.append(f'<line x1="{x:.1f}" y1="20" x2="{x:.1f}" y2="{bottom}" class="grid"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{value:g}</text>')
    for value in y_axis.decades():
        y = y_axis(value)
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{PLOT_W - 20}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    parts.append(f'<text x="{PLOT_W / 2}" y="{PLOT_H - 10}" text-anchor="middle">FLOP per byte moved</text>')
    parts.append(
        f'<text x="16" y="{PLOT_H / 2}" text-anchor="middle" transform="rotate(-90 16 {PLOT_H / 2})">GFLOP/s</text>'
    )
    return parts


def _roofs(peak: Peak, x_axis: Axis, y_axis: Axis) -> tuple[list[str], list[str]]:
    """Lines and labels of the fastest and the slowest level of memory, and of the peak of the arithmetic."""
    lines, labels = [], []
    size_of = {speed: size for size, speed in peak.bandwidths}
    for speed in sorted({max(size_of), min(size_of)}):
        low, knee, high = 10**x_axis.low, peak.gflops / speed, 10**x_axis.high
        points: Sequence[tuple[float, float]] = [(low, low * speed), (knee, peak.gflops), (high, peak.gflops)]
        drawn = " ".join(f"{x_axis(x):.1f},{y_axis(y):.1f}" for x, y in points)
        size = size_of[speed]
        label = f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"
        lines.append(f'<polyline points="{drawn}" class="roof"/>')
        x = max(2.5 * low, knee / 3)  # the label ends here, above and to the left of the line
        place = f'x="{x_axis(x) - 8:.1f}" y="{y_axis(x * speed) - 4:.1f}" text-anchor="end"'
        labels.append(f'<text {place} class="roof-label over">{speed:.0f} GB/s ({label})</text>')
    place = f'x="{x_axis(10**x_axis.high) - 4:.1f}" y="{y_axis(peak.gflops) - 6:.1f}" text-anchor="end"'
    labels.append(f'<text {place} class="roof-label over">{peak.gflops:.0f} GFLOP/s</text>')
    return lines, labels


def shorten(name: str, limit: int = 34) -> str:
    return name if len(name) <= limit else "..." + name[3 - limit :]


def _svg(identity: str, width: float, height: float, parts: Iterable[str]) -> str:
    inside = "\n".join(parts)
    return (
        f'<svg id="{identity}" xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}">\n{inside}\n</svg>'
    )
